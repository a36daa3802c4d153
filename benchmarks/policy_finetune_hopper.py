"""Why fine-tuning on Hopper loses its start, and which recipe of the literature keeps it and improves.

    python -m benchmarks.policy_finetune_hopper --out runs/hopper            # trains what is missing, then reports
    python -m benchmarks.policy_finetune_hopper --out runs/hopper --report   # reports what is finished

One narrow dataset of a medium policy (100,000 steps), 128x128 networks, TD3+BC pre-training of 30,000 updates, and
20,000 environment steps of fine-tuning. Five ways of pre-training differ in the critics:

- `plain`, and `ln` with LayerNorm: two critics that begin at zero, targets moving with the actor, as published.
- `level`, and `level-ln`: they begin at the data's mean discounted return to go, targets moving at every update.
- `ten`: as `level-ln`, with ten critics, of which a random two make the target (REDQ, RLPD, WSRL).

**The critic's error** (`benchmarks.policy_finetune_critics`). At every evaluation Q(s, π(s)) is compared with the
discounted return that the policy then gets in the simulator, at the states that it meets. `level` is mean Q / mean
return, `spread` the standard deviation of Q - return, `correlation` that of the two over states. A critic that begins
at zero approaches its fixed point no faster than its target does: with a Polyak factor τ at every d-th update, level =
1 - exp(-(1 - γ) τ n / d) after n updates, which is 0.53 after 30,000. `climbed` is the return of a policy that adds to
each action a step of 0.1 along the critic's gradient: what the actor is about to do.

**The arms.** TD3, and TD3+BC with its data kept, from the starts with two critics, at one update a step; from
`level-ln` also TD3+BC whose BC term fades to a tenth over the first half, or has a fifth of its weight. WSRL: ten
critics, offline data dropped, 2500 steps with the frozen policy first, two updates a step, 10,000 steps, which is what
one core affords. RLPD: the same with half of each batch offline; without pre-training it is the control that says what
that was good for. All have TD3's deterministic actor, because the pre-trained one is. Policies without training say
what noise does.

An agent *does both* when it keeps at least 0.8 of what no training keeps of minimum / start, and ends, over 50
episodes, above its start over 90 episodes with 95 % intervals apart; an arm when each of two agents or more does.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import policy_finetune_data as data
from benchmarks.harness import figure_path, record, table, write_result
from benchmarks.policy_finetune_critics import CriticError
from benchmarks.policy_finetune_verdicts import curves_figure, judged, verdicts
from paperloop.cli import start_jax
from paperloop.files import write_json
from paperloop.loop.metrics_file import read_metrics
from paperloop.loop.runner import run
from paperloop.seeds import fold_seed
from paperloop.settings import read_json
from paperloop_lab import plots
from policy_finetune.config import (
    AppendReplay,
    DropReplay,
    Fade,
    NetworkConfig,
    OfflineConfig,
    OnlineAgent,
    OnlineConfig,
    ReplayConfig,
    SwitchConfig,
    SymmetricReplay,
    TD3Config,
)
from policy_finetune.data.saved_policies import load_policies
from policy_finetune.diagnosis.measures import mean_of
from policy_finetune.envs.rollouts import evaluate
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.presets import LEARNERS
from policy_finetune.trainers.sessions import evaluation_blocks, offline_trainer, online_trainer

#: Evaluations of a policy that does not learn, as many as a run of fine-tuning has.
NOISE = 9

#: Environment steps of a block.
BLOCK = 50


@dataclass(frozen=True)
class Tier:
    """What is trained, and how long."""

    env_id: str
    hidden: tuple[int, ...]
    seeds: int
    updates: int
    env_steps: int
    warmup: int
    eval_env_steps: int
    eval_episodes: int
    again: int
    data_steps: int
    batch_size: int
    per_step: int = 1000


TIERS = {
    "cpu": Tier("Hopper-v5", (128, 128), 2, 30_000, 20_000, 5000, 5000, 10, 50, 100_000, 256),
    "smoke": Tier(data.ENV, (8, 8), 1, 300, 1200, 500, 400, 2, 2, 1000, 32, per_step=100),
}


@dataclass(frozen=True)
class Start:
    """A way of pre-training: its learner without sizes, where its critics begin, and what it saves."""

    learner: TD3Config
    initial_value: str = "zero"
    batch_share: int = 1
    updates: float = 1.0
    """share of the tier's"""


_LEVEL = LEARNERS["td3bc-level"]
_TEN = NetworkConfig(critics=10, layer_norm=True)
_MANY = replace(_LEVEL, network=_TEN, target_subset=2, actor_q="mean", policy_delay=4)

STARTS = {
    "plain": Start(LEARNERS["td3bc"]),
    "ln": Start(LEARNERS["td3bc-ln"]),
    "level": Start(replace(_LEVEL, network=NetworkConfig()), "mean"),
    "level-ln": Start(_LEVEL, "mean"),
    "ten": Start(_MANY, "mean", batch_share=2, updates=2 / 3),
}


@dataclass(frozen=True)
class Group:
    """Arms that go out from one way of pre-training (or from none) and share a program."""

    start: str
    arms: dict[str, tuple[TD3Config, ReplayConfig]]
    warmup_share: int
    utd: float = 1.0
    steps_share: int = 1
    scratch: bool = False


def groups(tier: Tier) -> dict[str, Group]:
    """Return the groups of arms by name; the TD3 of a start has its critics and targets."""

    def td3(learner: TD3Config) -> TD3Config:
        return replace(learner, bc_weight=0.0, q_weight=1.0)

    def few(start: str) -> dict[str, tuple[TD3Config, ReplayConfig]]:
        learner = STARTS[start].learner
        return {
            f"TD3, {start}": (td3(learner), DropReplay()),
            f"TD3+BC, data kept, {start}": (learner, AppendReplay()),
        }

    many, half = td3(_MANY), SymmetricReplay()
    weaker = replace(_LEVEL, bc_fade=Fade(steps=tier.env_steps // 2, floor=0.1))
    less = {
        "TD3+BC fading, data kept, level-ln": (weaker, AppendReplay()),
        "TD3+BC fading, half offline, level-ln": (weaker, half),
        "TD3+BC, weight 0.2, data kept, level-ln": (LEARNERS["td3bc-loose"], AppendReplay()),
    }
    ten = {"WSRL": (many, DropReplay()), "RLPD": (many, half)}
    return {
        "plain": Group("plain", few("plain"), 5),
        "level": Group("level", few("level"), 5),
        "level-ln": Group("level-ln", few("level-ln"), 5),
        "fading": Group("level-ln", less, 5),
        "ten": Group("ten", ten, 2, utd=2.0, steps_share=2),
        "scratch": Group("ten", {"RLPD from scratch": (many, half)}, 2, utd=2.0, steps_share=2, scratch=True),
        "ln": Group("ln", dict([*few("ln").items()][:1]), 5),
    }


# Training


def offline_config(tier: Tier, name: str, file: Path) -> OfflineConfig:
    """Return the configuration of a way of pre-training."""
    start = STARTS[name]
    return OfflineConfig(
        learner=_sized(start.learner, tier, start.batch_share), data=(str(file),), env_id=tier.env_id,
        updates=round(start.updates * tier.updates), updates_per_step=tier.per_step, initial_value=start.initial_value,
        eval_episodes=tier.eval_episodes,
    )  # fmt: skip


def online_config(tier: Tier, group: Group, file: Path, before: Path, seed: int) -> OnlineConfig:
    """Return the configuration of a group's fine-tuning from the pre-trained agent of one seed."""
    warmup = tier.warmup // group.warmup_share
    switch = SwitchConfig(warmup_env_steps=warmup)
    share = STARTS[group.start].batch_share
    agents = tuple(
        OnlineAgent(label=label, learner=_sized(learner, tier, share), replay=replay, switch=switch, seed=seed)
        for label, (learner, replay) in group.arms.items()
    )
    return OnlineConfig(
        env_id=tier.env_id, learner=agents[0].learner, replay=agents[0].replay, switch=switch,
        start="" if group.scratch else str(before), data=(str(file),),
        env_steps=tier.env_steps // group.steps_share, utd=group.utd, block=BLOCK,
        random_env_steps=warmup if group.scratch else None, agents=agents, eval_episodes=tier.eval_episodes,
        eval_env_steps=tier.eval_env_steps,
    )  # fmt: skip


def _sized(learner: TD3Config, tier: Tier, share: int) -> TD3Config:
    network = replace(learner.network, hidden=tier.hidden)
    return replace(learner, network=network, batch_size=tier.batch_size // share)


def train(tier: Tier, out: Path, file: Path, only: Sequence[str] = ()) -> None:
    """Train what is missing, the groups of one seed after those of another, or runs by name, such as fading-0."""
    known = groups(tier)
    for run_name in only or [f"{name}-{seed}" for seed in range(tier.seeds) for name in known]:
        name, _, number = run_name.rpartition("-")
        group, seed = known[name], int(number)
        before, config = out / f"pretrain-{group.start}-{seed}", offline_config(tier, group.start, file)
        every = max(1, config.num_steps // 3)
        _run(offline_trainer(config, quiet=True), before, seed, config.eval_episodes, every)
        tuned = online_config(tier, group, file, before, seed)
        at = evaluation_blocks(tuned)
        _run(online_trainer(tuned, quiet=True), out / run_name, seed, tuned.eval_episodes, None, at)


def _run(made: tuple[Any, EnvSpec], folder: Path, seed: int, episodes: int, every: int | None, at: Any = ()) -> None:
    trainer, spec = made
    check = CriticError(trainer, spec, episodes=episodes)
    run(
        trainer, folder, steps=trainer.num_steps, seed=seed, evaluators={"evaluation": check}, eval_every=every,
        eval_at=at, save_minutes=4, progress=False,
    )  # fmt: skip


# What it came to

MEASURES = ("return", "value", "level", "spread", "correlation", "climbed")


def curves_of(folder: Path) -> dict[str, np.ndarray] | None:
    """Return what a complete run measured, (T, A) each, and `step` (T,) in dispatches; None if it is not complete."""
    if not (folder / "run.json").exists() or read_json(folder / "run.json")["status"] != "complete":
        return None
    rows = [row for row in read_metrics(folder) if row["split"] == "evaluation"]
    return {name: np.array([row[name] for row in rows]) for name in ("step", *MEASURES)}


def agents_of(tier: Tier, out: Path) -> list[dict[str, Any]]:
    """Return a record for each agent of the complete runs: curves, and `again`, the return over many fresh episodes.

    Those without training also have the curve that noise makes of them: as many evaluations, all of fresh episodes.
    """
    found = []
    for seed, name in itertools.product(range(tier.seeds), STARTS):
        folder = out / f"pretrain-{name}-{seed}"
        curves = curves_of(folder)
        if curves is not None:
            one = _record(folder, 0, "no training", name, seed, curves, tier.per_step, NOISE * tier.eval_episodes)
            one["noise"] = one["episodes"].reshape(NOISE, -1).mean(1)
            found.append(one)
    for seed, (name, group) in itertools.product(range(tier.seeds), groups(tier).items()):
        folder = out / f"{name}-{seed}"
        curves = curves_of(folder)
        for i, label in enumerate(group.arms if curves is not None else ()):
            start = "none" if group.scratch else group.start
            found.append(_record(folder, i, label, start, seed, curves or {}, BLOCK, tier.again))
    return found


def _record(
    folder: Path, agent: int, arm: str, start: str, seed: int, curves: dict[str, np.ndarray], per_step: int, again: int
) -> dict[str, Any]:
    returns = _again(folder, again, seed)[agent]
    own = {name: curves[name][:, agent] for name in MEASURES}
    steps = curves["step"] * per_step
    return {
        "arm": arm, "start": start, "seed": seed, "steps": steps, **own, "episodes": returns,
        "again": list(mean_of([returns])),
    }  # fmt: skip


def _again(folder: Path, episodes: int, seed: int) -> np.ndarray:
    """Return the returns (A, episodes) of a run's agents in fresh episodes, kept next to the run."""
    file = folder / "again.json"
    if not file.exists():
        policy, _ = load_policies(folder)
        found = evaluate(policy, policy.spec, episodes=episodes, seed=fold_seed(seed, "again"))
        write_json(file, found.returns.tolist())
    return np.array(read_json(file))


def report(tier: Tier, out: Path) -> dict[str, Any]:
    """Print tables and claims, and return them."""
    agents = agents_of(tier, out)
    rows = judged(agents)
    print(table(
        [[one["start"], str(one["seed"]), *(f"{one[n][-1]:.2f}" for n in ("level", "correlation")),
          *(f"{one[n][-1]:.0f}" for n in ("spread", "return", "climbed"))]
         for one in agents if one["arm"] == "no training"],
        ["pre-trained", "seed", "level", "correlation", "spread", "return", "climbed"],
    ))  # fmt: skip
    print(table(
        [[row["arm"], str(row["seed"]), _cell(row.get("from")), f"{row.get('noise_keeps', np.nan):.2f}",
          f"{row.get('kept', np.nan):.2f}", _cell(row["final"]), "{:.2f} {:.2f}".format(*row["level"]),
          "{:.0f} {:.0f}".format(*row["spread"]), {True: "yes", False: "no", None: ""}[row["both"]]] for row in rows],
        ["arm", "seed", "start", "noise keeps", "kept", "final", "level", "spread", "both"],
    ))  # fmt: skip
    claims = verdicts(agents, rows)
    for claim in claims:
        print({True: "holds", False: "FAILS", None: "not measured"}[claim["holds"]], claim["claim"], claim["figures"])
    return {"claims": claims, "rows": rows, "agents": agents}


def _cell(interval: Sequence[float] | None) -> str:
    return "" if interval is None else "{:.0f} [{:.0f}, {:.0f}]".format(*interval)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy_finetune_hopper")
    parser.add_argument("--out", type=Path, default=Path("runs/hopper"))
    parser.add_argument("--smoke", action="store_true", help="a tiny pendulum: everything runs, nothing is claimed")
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--only", nargs="*", default=(), metavar="GROUP-SEED", help="train these, in this order")
    options = parser.parse_args(arguments)
    tier = TIERS["smoke" if options.smoke else "cpu"]
    file = narrow(tier, options.out / "data")
    if not options.report:
        start_jax("cpu")
        train(tier, options.out, file, options.only)
    result = report(tier, options.out)
    if not options.smoke:
        name = "policy_finetune_hopper"
        given = sys.argv[1:] if arguments is None else list(arguments)
        about = record(f"benchmarks.{name}", given, ["policy-finetune"])
        about |= {"tier": dataclasses.asdict(tier), "dataset": data.describe([file])}
        write_result(name, {"benchmark": name, **about, **result})
        plots.save_figure(curves_figure(result["agents"]), figure_path(name))
    return 0


def narrow(tier: Tier, folder: Path) -> Path:
    """Return the narrow dataset, made if it is missing."""
    file = folder / f"{tier.env_id.lower()}-medium.hdf5"
    folder.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        options = ["--quality", "medium", "--steps", tier.data_steps, "--out", file, "--quiet"]
        data.command("make-data", "--env-id", tier.env_id, *options)
    return file


if __name__ == "__main__":
    sys.exit(main())
