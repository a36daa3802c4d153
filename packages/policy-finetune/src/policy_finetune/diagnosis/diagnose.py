"""`policy-finetune diagnose DATA [RUN]`: what the data and the policies learned from them are like, and what follows.

    diagnosis = diagnose_run(Path("hopper.hdf5"), Path("runs/hopper"), episodes=20, seed=0, out=Path("findings"))
    for way in recommend(diagnosis):
        print(way.options, way.because)

Everything but the dataset's own numbers is measured in the environment: the policies' returns, those of random actions,
and those of actions that the critic likes best, which is where an unconstrained actor goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from paperloop.errors import UserError, setting
from paperloop.seeds import fold_seed
from paperloop_data import REFERENCE_SCORES, EpisodeDataset
from paperloop_lab.stats import Interval
from policy_finetune.config import DataOptions, LearnerConfig, OfflineConfig, OnlineConfig
from policy_finetune.data.checks import load_for, load_options
from policy_finetune.diagnosis.measures import action_spread, difference_of_means, mean_of, two_kinds
from policy_finetune.diagnosis.rollouts import Greedy
from policy_finetune.diagnosis.rules import AgentDiagnosis, DataDiagnosis, Diagnosis
from policy_finetune.envs.rollouts import RolloutEnvs, UniformPolicy, evaluate
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.replay.packing import moments
from policy_finetune.trainers.common import host_policy
from policy_finetune.trainers.evaluators import score_task
from policy_finetune.trainers.pretrained import Pretrained
from policy_finetune.trainers.runs import load_start, spec_of

__all__ = ["diagnose_data", "diagnose_run"]

#: Rows of the data that neighbours are looked for among, and rows that are asked about: enough for two digits.
REFERENCE_ROWS, QUERY_ROWS = 20_000, 2_000

#: Episodes of following the critic alone: many times the cost of the others.
GREEDY_EPISODES = 10


def diagnose_run(data: str | Path, run: str | Path, *, episodes: int = 20, seed: int = 0) -> Diagnosis:
    """Compare a dataset with the agents of a run.

    Args:
        data: a dataset file or folder.
        run: the run folder of agents that learned from it. Those of its agents that learned from other data are left
            out.
        episodes: episodes for each agent, at least 2. Of random actions as many again.
        seed: of the starts of episodes, and of which rows of the data are looked at.

    Raises:
        UserError: the dataset does not fit the run's environment, or `run` is not a run folder of this package.
        CheckpointError: the run has no checkpoint.
    """
    if episodes < 2:
        raise UserError(f"episodes is {episodes}; it must be at least 2, for an interval.")
    agents, spec, config = load_start(run)
    dataset, findings = load_for(spec, data, **load_options(agents.loading))
    learners = [agent.learner for agent in config.agents] or [config.learner] * agents.num_agents
    chosen, warnings = _agents_of(dataset, agents, learners)
    warnings = [*findings, *warnings]
    if isinstance(config, OnlineConfig):
        warnings.append(f"{run} has learned online: its agents as they are now are taken for the pre-trained ones.")
    about, whole = _data(dataset, data, seed, warnings)
    with RolloutEnvs(spec) as envs:
        chance = _random_returns(spec, episodes, seed, envs)
        found, played = [], []
        for i in chosen:
            one, returns = _measure(i, agents, spec, whole, episodes, seed, envs)
            found.append(one)
            played.append(returns)
            kinds = two_kinds(returns)
            if kinds is not None and kinds.high - kinds.low > abs(float(returns.mean() - chance.mean())) / 2:
                warnings.append(
                    f"Agent {i} is bistable: {100 * kinds.share:.0f} % of its episodes return about {kinds.low:.0f}, "
                    f"the others about {kinds.high:.0f}. Its mean says little, and fine-tuning may end at either: "
                    f"measure it in more episodes ({setting('episodes', 100)}), or pre-train again."
                )
    best = max(about.top, max(float(one.mean()) for one in played))
    scale, scale_is = _scale(spec.env_id, float(chance.mean()), best)
    return Diagnosis(
        env_id=spec.env_id, learner=learners[chosen[0]], data=about, agents=tuple(found),
        random=mean_of([chance]), returns=mean_of(played), difference=difference_of_means(played, [whole]),
        scale=scale, scale_is=scale_is, warnings=tuple(warnings),
    )  # fmt: skip


def diagnose_data(
    data: str | Path, *, env_id: str = "", loading: DataOptions | None = None, episodes: int = 20, seed: int = 0
) -> tuple[DataDiagnosis, Interval, list[str]]:
    """Look at a dataset before anything has learned from it: the data's part of `diagnose_run`.

    Which replay and constraint fit cannot be said without a policy, so nothing is recommended.

    Args:
        data: a dataset file or folder.
        env_id: its environment; empty for the one that it names.
        loading: how it is read.
        episodes: of random actions, at least 20.
        seed: of the starts of episodes, of the random actions, and of which rows of the data are looked at.

    Returns:
        What the data are like, the returns of random actions, and what is doubtful.

    Raises:
        UserError: the dataset cannot be read, does not fit the environment, or does not name one.
    """
    loading = loading or DataOptions()
    spec = spec_of(OfflineConfig(data=(str(data),), env_id=env_id, loading=loading))
    dataset, warnings = load_for(spec, data, **load_options(loading))
    about, _ = _data(dataset, data, seed, warnings)
    with RolloutEnvs(spec) as envs:
        return about, mean_of([_random_returns(spec, episodes, seed, envs)]), warnings


def _random_returns(spec: EnvSpec, episodes: int, seed: int, envs: RolloutEnvs) -> np.ndarray:
    return evaluate(UniformPolicy(spec, seed), spec, episodes=max(episodes, 20), seed=seed, envs=envs).returns[0]


def _agents_of(
    dataset: EpisodeDataset, agents: Pretrained, learners: Sequence[LearnerConfig]
) -> tuple[list[int], list[str]]:
    """Return the agents that learned from the dataset, told by their normaliser, and what is doubtful about them.

    Agents without a normaliser, and all where none fits, count as those of this dataset.
    """
    everyone = list(range(agents.num_agents))
    mean, std = moments(dataset.observations.reshape(dataset.num_steps, -1))
    known = np.concatenate([agents.mean, agents.std], axis=1)
    fits = np.isclose(known, np.concatenate([mean, std]), atol=1e-4, rtol=1e-4).all(1) | ~agents.mean.any(1)
    same = np.flatnonzero(fits).tolist()
    if not same:
        return everyone, [
            f"No agent of the run learned from {dataset.where}, as far as can be seen: the returns can be compared, "
            "but the data do not explain the policies."
        ]
    warnings = []
    if len(same) < len(everyone):
        warnings.append(
            f"{len(everyone) - len(same)} of the run's {len(everyone)} agents learned from other data and are left out "
            "here; finetune --start takes them all."
        )
    if len({learners[i].type for i in same}) > 1:
        warnings.append("The agents are of several learners: the first one's decides.")
    return same, warnings


def _data(
    dataset: EpisodeDataset, file: str | Path, seed: int, warnings: list[str]
) -> tuple[DataDiagnosis, np.ndarray]:
    """Return what the data are like, and the returns of the episodes that were not cut off (of all where all were)."""
    whole = dataset.returns()[~dataset.cut] if not dataset.cut.all() else dataset.returns()
    if len(whole) < 2:
        warnings.append("The data have one whole episode: nothing is known of how their returns vary.")
    last = dataset.episode_ends - 1
    top = np.sort(whole)[::-1][: max(1, -(-len(whole) // 10))]
    about = DataDiagnosis(
        file=str(file), steps=dataset.num_steps, episodes=len(whole), returns=mean_of([whole]),
        median=float(np.median(whole)), std=float(whole.std()), best=float(whole.max()), top=float(top.mean()),
        terminated=float(dataset.terminated[last].mean()),
        truncated=float((dataset.truncated[last] & ~dataset.terminated[last]).mean()),
        action_spread=_spread(dataset, np.random.default_rng(fold_seed(seed, "diagnosis"))),
    )  # fmt: skip
    return about, whole


def _spread(dataset: EpisodeDataset, rng: np.random.Generator) -> float:
    """Return the action spread of a sample of the data, its root mean square over dimensions."""
    count = dataset.num_steps
    rows = np.sort(rng.choice(count, min(count, REFERENCE_ROWS), replace=False))
    seen = dataset.observations.reshape(count, -1)
    mean, std = moments(seen)
    group = dataset.episode_of_row[rows]
    if len(np.unique(group)) < 2:  # one long episode: tenths of it stand for episodes
        group = np.arange(len(rows)) * 10 // len(rows)
    queries = np.sort(rng.choice(len(rows), min(len(rows), QUERY_ROWS), replace=False))
    actions = np.clip(dataset.actions.reshape(count, -1)[rows], -1, 1)
    spread = action_spread((seen[rows] - mean) / std, actions, group, queries)
    return float(np.sqrt(np.square(spread).mean()))


def _measure(
    index: int, agents: Pretrained, spec: EnvSpec, whole: np.ndarray, episodes: int, seed: int, envs: RolloutEnvs
) -> tuple[AgentDiagnosis, np.ndarray]:
    """Return an agent's numbers, and its returns (E,)."""
    params = jax.tree.map(lambda leaf: leaf[index], agents.learner.params)
    actor = jax.tree.map(lambda leaf: leaf[None], params["actor"])
    policy = host_policy(actor, agents.mean[index][None], agents.std[index][None])
    found = evaluate(policy, spec, episodes=episodes, seed=seed, envs=envs)
    greedy = None
    if "critic" in params:
        led = Greedy(params["critic"], policy, fold_seed(seed, "greedy", index))
        few = min(episodes, GREEDY_EPISODES)
        greedy = mean_of([evaluate(led, spec, episodes=few, seed=seed, envs=envs).returns[0]])
    returns = found.returns[0]
    one = AgentDiagnosis(
        index=index, label=agents.labels[index], returns=mean_of([returns]),
        difference=difference_of_means([returns], [whole]), length=float(found.lengths[0].mean()),
        terminated=float(found.terminated[0].mean()), greedy=greedy,
    )  # fmt: skip
    return one, returns


def _scale(env_id: str, chance: float, best: float) -> tuple[float, Any]:
    """Return what returns are measured by, and what that is."""
    task = score_task(env_id)
    if task is not None:
        low, high = REFERENCE_SCORES[task]
        return high - low, "expert"
    return max(best - chance, 0.0), "best"
