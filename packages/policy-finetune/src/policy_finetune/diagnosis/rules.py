"""From what was measured of a dataset and a policy to options of `policy-finetune finetune`: a rule of thumb.

The main rule is that of "The Three Regimes of Offline-to-Online Reinforcement Learning" (Li, Ni, Sun and Bacon 2025,
arXiv 2510.01460): keep whichever is better, the pre-trained policy or the dataset, and stay able to learn.

| regime | returns | keep |
|---|---|---|
| superior | J(π₀) above the data's mean | the policy: warm-up with the frozen policy, a constraint; no offline data |
| inferior | J(π₀) below the data's mean | the data: replay a fixed share of it, a BC term |
| comparable | neither | either |

The paper tells the regimes apart by a t-test with a margin of δ = 0.05. Only its abstract was read at first hand: the
test and the lists of methods are known from summaries of the full text, and on which scale it takes δ could not be
verified. Here δ is a share of the distance between a random policy and an expert (D4RL's reference scores), or, where
there are none, between a random policy and the better of the data's best tenth and the policy.

Whether to hold the policy back besides is decided by what makes policies collapse at the switch: data with hardly any
variety of actions at a state, and a critic that prefers bad actions. That part is this package's own. A critic that
promises too much need not mislead: a constant error moves no action. So the rule asks what comes of following it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from paperloop_lab.stats import Interval
from policy_finetune.config import BCConfig, LearnerConfig
from policy_finetune.presets import LEARNERS

__all__ = ["LIMITS", "NARROW", "AgentDiagnosis", "DataDiagnosis", "Diagnosis", "Recommendation", "Regime", "recommend"]

Regime = Literal["superior", "comparable", "inferior"]

#: δ: differences of returns below this share of the scale count as none.
MARGIN = 0.05

#: Data whose actions vary less than this at a state are narrow: a standard deviation, uniform actions have 0.58. Where
#: it was measured (InvertedDoublePendulum-v5), data of one policy with noise of 0.1 had 0.12, a replay buffer 0.37.
NARROW = 0.25

#: The critic misleads where following it alone loses this share of (start - random): `metrics` calls that a collapse.
MISLED = 0.5

#: What the rules rest on, and what not.
LIMITS = (
    "A rule of thumb. Its regimes were tested by their authors on D4RL tasks with their own learners (right in 45 of "
    "63 settings, opposite in 3), not with this package's TD3-C; the limits for narrow data and misleading critics "
    "were set on InvertedDoublePendulum datasets alone. Not tested: sparse rewards, AntMaze, manipulation, many action "
    "dimensions, environments with random dynamics. Returns say little of a policy that goes most of the way to a "
    "sparse reward. Where the stakes are high, try several ways on your own data."
)

#: Options by what is kept.
DROP, WARM = ("--replay.type", "drop"), ("--switch.warmup-env-steps", "5000")
SHARE = ("--replay.type", "symmetric", "--replay.rho", "0.5")


@dataclass(frozen=True)
class DataDiagnosis:
    """A dataset.

    Attributes:
        file: where it is.
        steps: N.
        episodes: E, whole ones where there are any: an episode that was cut off has no return to speak of.
        returns: the mean over episodes.
        median: of the returns.
        std: of the returns.
        best: the largest return.
        top: the mean of the best tenth of the episodes.
        terminated: the share of episodes that the environment ended ...
        truncated: ... and of those that a time limit ended; the rest were cut off.
        action_spread: how much actions vary where the state is the same, as a standard deviation (0.58: uniform).
    """

    file: str
    steps: int
    episodes: int
    returns: Interval
    median: float
    std: float
    best: float
    top: float
    terminated: float
    truncated: float
    action_spread: float


@dataclass(frozen=True)
class AgentDiagnosis:
    """A pre-trained agent.

    Attributes:
        index: its place in the run.
        label: its arm.
        returns: of the deterministic policy.
        difference: returns minus the data's.
        length: mean length of an episode.
        terminated: share of its episodes that the environment ended.
        greedy: returns of following its first critic alone (the best of sampled actions); None without critics.
    """

    index: int
    label: str
    returns: Interval
    difference: Interval
    length: float
    terminated: float
    greedy: Interval | None = None


@dataclass(frozen=True)
class Diagnosis:
    """A dataset and the agents that learned from it.

    Attributes:
        env_id: the environment.
        learner: who learned.
        data: the dataset.
        agents: the agents.
        random: returns of uniformly random actions.
        returns: the mean over all agents' episodes.
        difference: that minus the data's mean return.
        scale: what returns are measured by: the distance from random to an expert, or to the best on show.
        scale_is: "expert" or "best".
        warnings: what casts doubt on it.
    """

    env_id: str
    learner: LearnerConfig
    data: DataDiagnosis
    agents: tuple[AgentDiagnosis, ...]
    random: Interval
    returns: Interval
    difference: Interval
    scale: float
    scale_is: Literal["expert", "best"]
    warnings: tuple[str, ...] = ()

    @property
    def margin(self) -> float:
        """Differences of returns up to this count as none."""
        return MARGIN * self.scale

    @property
    def regimes(self) -> tuple[Regime, ...]:
        """The regimes that the interval of the difference touches, the one of its point first."""
        point, low, high = self.difference
        margin = self.margin
        first: Regime = "superior" if point > margin else "inferior" if point < -margin else "comparable"
        touched: list[tuple[Regime, bool]] = [
            ("superior", high > margin), ("comparable", low <= margin and high >= -margin), ("inferior", low < -margin)
        ]  # fmt: skip
        return (first, *(name for name, there in touched if there and name != first))

    @property
    def narrow(self) -> bool:
        """Whether the data show hardly any variety of actions at a state."""
        return self.data.action_spread < NARROW

    @property
    def misled(self) -> float | None:
        """What following the critics alone loses, as a share of (start - random); None without critics.

        The mean over agents. It is None too where the policies are no better than random: there is nothing to lose.
        """
        greedy = [agent.greedy.point for agent in self.agents if agent.greedy is not None]
        start = self.returns.point - self.random.point
        if not greedy or start <= self.margin:
            return None
        return (self.returns.point - sum(greedy) / len(greedy)) / start

    @property
    def misled_is_open(self) -> bool:
        """Whether the interval of following the critics reaches both sides of the limit, for some agent."""
        if self.misled is None:
            return False
        limit = self.returns.point - MISLED * (self.returns.point - self.random.point)
        return any(a.greedy is not None and a.greedy.low < limit < a.greedy.high for a in self.agents)

    @property
    def fragile(self) -> bool:
        """Whether an unconstrained actor should be expected to lose the policy at the switch."""
        return self.narrow or (self.misled is not None and self.misled > MISLED)


@dataclass(frozen=True)
class Recommendation:
    """One way to fine-tune.

    Attributes:
        title: what it is.
        options: of `policy-finetune finetune`, besides --start and --out, or of `train`, besides --env-id, --data and
            --out.
        because: one sentence, with the numbers it rests on.
        uncertainty: what speaks against relying on it; empty where nothing measured does.
        complete: False for options that go with those of another entry.
        program: who takes the options; `train` begins from nothing.
    """

    title: str
    options: tuple[str, ...]
    because: str
    uncertainty: str = ""
    complete: bool = True
    program: Literal["finetune", "train"] = "finetune"


def recommend(diagnosis: Diagnosis) -> tuple[Recommendation, ...]:
    """Return the ways that fit, the likeliest first; more than one where the measurements leave it open."""
    # The margin counts only where it is not itself derived from these returns.
    chance = diagnosis.random.high + (diagnosis.margin if diagnosis.scale_is == "expert" else 0.0)
    if diagnosis.returns.low <= chance and diagnosis.data.returns.low <= chance:
        return (_from_scratch(diagnosis),)
    regimes = diagnosis.regimes
    if regimes == ("comparable",):  # both work, so neither is in doubt
        regimes = ("comparable", "superior")
    ways = [_way(diagnosis, regime, first=number == 0) for number, regime in enumerate(regimes)]
    if diagnosis.fragile:
        ways.append(_guard(diagnosis))
    return tuple(ways)


def _from_scratch(diagnosis: Diagnosis) -> Recommendation:
    preset = "sac" if _family(diagnosis.learner) == "sac" else "td3"
    return Recommendation(
        title="nothing to keep: learn from scratch, with the data in the replay",
        options=("--preset", preset, *_fitting(diagnosis.learner, preset), "--replay.type", "append"),
        because=(
            f"Neither the policy ({_text(diagnosis.returns)}) nor the data ({_text(diagnosis.data.returns)}) are "
            f"clearly better than random actions ({_text(diagnosis.random)}), so there is nothing that fine-tuning "
            "could lose."
        ),
        uncertainty=(
            f"The best tenth of the data reaches {diagnosis.data.top:.1f}, and a sparse reward may hide what the "
            "policy can do; `policy-finetune finetune --start` with the same options may do as well."
        ),
        program="train",
    )


def _way(diagnosis: Diagnosis, regime: Regime, *, first: bool) -> Recommendation:
    family = _family(diagnosis.learner)
    # What holds the policy: the data themselves where these are better (BC, Cal-QL), else the policy that is there.
    held = {"td3": "td3bc" if regime == "inferior" else "td3c", "sac": "calql", "iql": "iql"}
    hold = held[family] if diagnosis.fragile else family
    options = ["--preset", hold, *_fitting(diagnosis.learner, hold)]
    options += [*DROP, *WARM] if regime == "superior" else SHARE
    if isinstance(diagnosis.learner, BCConfig):  # its critics know nothing when the actor would first climb them
        options += ["--switch.critic-warmup", "5000"]
    keeps = {
        "superior": "keep the policy, drop the data",
        "comparable": "keep half a batch of the data",
        "inferior": "keep the data",
    }
    besides = {"td3c": ", constrain the policy", "td3bc": ", with a BC term", "calql": ", stay conservative"}
    return Recommendation(
        title=keeps[regime] + besides.get(hold, ""), options=tuple(options),
        because=f"{_about_returns(diagnosis, regime)} {_about_hold(diagnosis, hold)}",
        uncertainty=" ".join(_doubts(diagnosis, regime, first=first)),
    )  # fmt: skip


def _about_returns(diagnosis: Diagnosis, regime: Regime) -> str:
    here = (
        f"the policy's return is {_text(diagnosis.returns)}, the data's {_text(diagnosis.data.returns)} (difference "
        f"{_text(diagnosis.difference)}, margin ±{diagnosis.margin:.1f})"
    )
    if diagnosis.regimes == ("comparable",) and regime == "superior":
        return f"As good as its data: {here}, so that the policy alone can be kept too."
    if regime != diagnosis.regimes[0]:
        return f"If it is {regime} after all: {here}."
    if regime == "superior":
        return f"Better than its data: {here}; offline transitions would pull it back to worse behaviour."
    late = 10_000 / (10_000 + diagnosis.data.steps)
    share = f"append would give online data {100 * late:.0f} % of a batch after 10 000 steps, symmetric gives 50 %"
    if regime == "inferior":
        return f"Worse than its data: {here}; {share}."
    return f"As good as its data: {here}, so that either can be kept; {share}."


def _about_hold(diagnosis: Diagnosis, hold: str) -> str:
    spread = f"actions at a state vary by {diagnosis.data.action_spread:.2f} (uniform: 0.58, narrow below {NARROW})"
    misled, follow = diagnosis.misled, ""
    if misled is not None:
        verb = "loses" if misled >= 0 else "adds"
        follow = f"following the critic alone {verb} {100 * abs(misled):.0f} % of the gain over random"
    if not diagnosis.fragile:
        return f"No constraint: {spread}{' and ' + follow if follow else ''}."
    reasons = ([spread] if diagnosis.narrow else []) + ([follow] if misled is not None and misled > MISLED else [])
    how = {
        "td3c": "Constrained", "td3bc": "Held to the data", "calql": "Conservative",
        "iql": "IQL never asks its critics about actions outside the data",
    }[hold]  # fmt: skip
    return f"{how}, because {' and '.join(reasons)}."


def _doubts(diagnosis: Diagnosis, regime: Regime, *, first: bool) -> list[str]:
    said = []
    if len(diagnosis.regimes) > 1:
        others = " or ".join(name for name in diagnosis.regimes if name != regime)
        said.append(
            f"A toss-up: the interval of the difference, {_text(diagnosis.difference)}, reaches into {others}; more "
            "--episodes may tell."
        )
    if not first:
        return said
    margin = diagnosis.margin
    better = any(agent.difference.low > margin for agent in diagnosis.agents)
    if better and any(agent.difference.high < -margin for agent in diagnosis.agents):
        said.append("The agents disagree: some are better than the data, some worse; fine-tune them apart.")
    if diagnosis.misled_is_open and not diagnosis.narrow:
        said.append("Whether the critics mislead is open: the interval of following them holds the limit.")
    if not diagnosis.fragile and diagnosis.misled is None:
        said.append("Without critics of its own the run does not show what an unconstrained actor would be led to.")
    return said


def _guard(diagnosis: Diagnosis) -> Recommendation:
    return Recommendation(
        title="with any of them: the collapse detector",
        options=("--guard",),
        because=(
            f"Training returns that fall by half of the gain over random ({diagnosis.random.point:.1f}) bring back the "
            "policy of the switch (with learner.constraint.reference.type best: the best one so far); it costs nothing "
            "where nothing collapses."
        ),
        complete=False,
    )


def _text(value: Interval) -> str:
    return f"{value.point:.1f} [{value.low:.1f}, {value.high:.1f}]"


def _family(learner: LearnerConfig) -> str:
    """Who continues from such a learner: behaviour cloning has no critics and continues with TD3."""
    return {"bc": "td3"}.get(learner.type, learner.type)


def _fitting(learner: LearnerConfig, preset: str) -> list[str]:
    """Return the options that a preset lacks; `finetune` takes the networks of the pre-trained agents by itself."""
    usual = LEARNERS[preset]
    if isinstance(learner, BCConfig) or isinstance(usual, BCConfig) or learner.discount == usual.discount:
        return []
    return ["--learner.discount", repr(learner.discount)]
