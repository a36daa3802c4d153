"""Does it learn what it should? Unsupervised environment design on mazes, in three tiers.

    python -m benchmarks.minimax --tier smoke             # seconds: everything runs
    python -m benchmarks.minimax --tier cpu               # minutes on two cores: the claim below
    python -m benchmarks.minimax --tier gpu --runs runs/bench-minimax   # paper scale; call again to continue

**cpu.** 7x7 mazes, 0.6 million environment steps, five seeds trained as one program. Domain randomisation must solve at
least 90 % of 600 held-out random mazes and 65 % of the hardest 100 of them (longest shortest action sequence). A broken
memory reset, a transposed observation or a wrong advantage estimate stays below half on the hard ones. Beside it: the
untrained student, the random policy, one run of jaxued's learner in the same setting, and prioritised level replay,
plain and robust, at equal environment steps (robust replay then makes fewer gradient updates; the table counts them).

**gpu.** 13x13 mazes, 32 x 256 steps a cycle, LSTM-256: the released settings of Jiang et al. 2023 (arXiv 2311.12716),
at equal environment steps, on 1000 held-out mazes, on the worst tenth of them, and on the twelve test mazes of the
literature. Beside it the published figures of other implementations. `--runs` keeps the run folders: a call that was
stopped is continued by the same command.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import outerloop
from benchmarks.harness import Json, figure_path, record, table, write_result
from minimax_ued.config import PRESETS, BufferConfig, StudentConfig, TrainConfig
from outerloop import stats

#: Solve rates at environment steps: jaxued's student and learner on the setting of the cpu tier, one run.
JAXUED_SMALL = {
    "steps": (204_800, 409_600, 614_400),
    "held_out": (0.75, 0.88, 0.92),
    "hard": (0.28, 0.67, 0.77),
}
CLAIM = {"held_out": 0.90, "hard": 0.65}
#: Interquartile mean over the twelve test mazes after 163.8 million student steps, five seeds (Parker-Holder et al.
#: 2022, per-seed results of the released implementation).
PUBLISHED_IQM = {"dr": 0.685, "robust_plr": 0.798}
#: Random 60-wall mazes, all of them and the worst tenth, 3e8 steps, ten seeds (Rutherford et al. 2024, released
#: tables).
PUBLISHED_RANDOM = {
    "dr": {"held_out": 0.9926, "worst_tenth": 0.934},
    "plr": {"held_out": 0.9800, "worst_tenth": 0.813},
    "robust_plr": {"held_out": 0.9482, "worst_tenth": 0.526},
}


@dataclasses.dataclass(frozen=True)
class Tier:
    """What one tier trains and measures.

    Attributes:
        presets: arm -> (preset, changes to its configuration).
        seeds: students per arm.
        max_levels: use only so many of the held-out levels, the hard ones among them; None means all.
        evaluations: along the run, besides the one before it.
        attempts: episodes per level.
        test_attempts: episodes per test maze at the end; 0 leaves the test mazes out.
    """

    presets: Mapping[str, tuple[str, Mapping[str, Any]]]
    seeds: int
    max_levels: int | None
    evaluations: int
    attempts: int
    test_attempts: int = 0


#: Replays from the second cycle on.
_TINY = {
    "n_envs": 32,
    "cycles_per_step": 1,
    "total_env_steps": 3 * 32 * 64,
    "student": StudentConfig(features=16),
    "buffer": BufferConfig(capacity=64, replay_prob=1.0),
}
_PAPER = {"total_env_steps": 245_760_000, "cycles_per_step": 50}
TIERS = {
    "smoke": Tier({"robust_plr": ("small_robust_plr", _TINY)}, 2, 128, 1, 1),
    "cpu": Tier(
        {
            "dr": ("small", {}),
            "plr": ("small_plr", {}),
            "robust_plr": ("small_robust_plr", {"total_env_steps": 600_000}),
        },
        5,
        None,
        5,
        2,
    ),
    "gpu": Tier(
        {arm: (f"maze13_{arm}", _PAPER) for arm in ("dr", "plr", "robust_plr")},
        3,
        None,
        10,
        10,
        test_attempts=100,
    ),
}


#: What the tables call a measure -> what `minimax_ued.evaluate.HeldOut` calls it.
MEASURES = {"held_out": "solve_rate", "hard": "solve_rate_hard"}


def configuration(tier: Tier, arm: str, changes: Mapping[str, Any]) -> TrainConfig:
    """The preset of an arm with the tier's changes and the caller's."""
    preset, own = tier.presets[arm]
    return dataclasses.replace(PRESETS[preset], **{"seeds": tier.seeds, **own, **changes})


def train(tier: Tier, arm: str, folder: Path, seed: int, changes: Mapping[str, Any]) -> Json:
    """Train one arm (or continue it) and return its curve, its final rates and its cost."""
    from minimax_ued.evaluate import HeldOut
    from minimax_ued.trainer import UEDTrainer

    config = configuration(tier, arm, changes)
    trainer = UEDTrainer(config)
    sizes: dict[str, Any] = {"n_episodes": tier.attempts, "max_levels": tier.max_levels}
    held_out = HeldOut(trainer, **sizes)
    steps_per_dispatch = config.cycles_per_step * config.steps_per_rollout
    print(f"\n{arm}: {config.seeds} seeds x {trainer.num_steps * steps_per_dispatch:,} steps", file=sys.stderr)
    wall, cpu = time.perf_counter(), time.process_time()
    state = outerloop.run(
        trainer,
        folder,
        steps=trainer.num_steps,
        seed=seed,
        evaluators={"held_out": held_out},
        eval_every=max(1, trainer.num_steps // tier.evaluations),
    )
    cost = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    curve = [row for row in rows if row["split"] == "held_out"]
    trained = [row for row in rows if row["split"] == "train"]
    result: Json = {
        "preset": tier.presets[arm][0],
        "config": dataclasses.asdict(config),
        "env_steps": trainer.progress(state)["env_steps"],
        "updates": np.asarray(state.updates).tolist(),
        "curve": {
            "env_steps": [row["step"] * steps_per_dispatch for row in curve],
            **{name: [row[key] for row in curve] for name, key in MEASURES.items()},
        },
        "levels": {k: [row[k] for row in trained] for k in trained[-1] if k.startswith(("level/", "buffer/"))},
        "final": {name: curve[-1][key] for name, key in MEASURES.items()},
        "cost": cost,
    }
    if arm == "dr":
        random = HeldOut(trainer, policy="random", **sizes)(state, seed)
        result["random_policy"] = {name: np.asarray(random[key]).tolist() for name, key in MEASURES.items()}
    if tier.test_attempts:
        result |= _paper_scale(tier, trainer, held_out, state, seed)
    return result


def _paper_scale(tier: Tier, trainer: Any, held_out: Any, state: Any, seed: int) -> Json:
    """The worst tenth of the held-out levels, and the test mazes."""
    from minimax_ued.evaluate import OODMazes

    # The levels are ranked by one set of episodes and measured on another: else chance failures would count twice.
    first, second = (np.asarray(held_out.episodes(state, seed + i).solved).mean(-1) for i in (1, 2))
    mazes = OODMazes(trainer, n_episodes=tier.test_attempts)
    rates = mazes(state, seed)
    return {
        "worst_tenth": stats.cvar(second, 0.1, rank_by=first).tolist(),
        "test_mazes": {name: np.asarray(rates[f"solve_rate/{name}"]).tolist() for name in mazes.names},
    }


def interval(values: Sequence[float]) -> stats.Interval:
    """Mean over seeds with its 95 % bootstrap interval."""
    return stats.stratified_bootstrap(np.asarray(values), "mean", reps=10_000)


def report(tier_name: str, arms: Mapping[str, Json]) -> tuple[Json, str]:
    """Return the verdict and the tables."""
    rows, summary = [], {}
    for arm, result in arms.items():
        rates = {name: interval(values) for name, values in result["final"].items()}
        summary[arm] = {name: rate._asdict() for name, rate in rates.items()}
        updates = (
            f"{min(result['updates']):,}"
            if len(set(result["updates"])) == 1
            else f"{np.mean(result['updates']):,.0f} (mean)"
        )
        speed = len(result["updates"]) * result["env_steps"] / result["cost"]["wall_s"]
        rows.append([arm, *map(str, rates.values()), f"{result['env_steps']:,}", updates, f"{speed:,.0f}"])
    first = next(iter(arms.values()))
    rows.append(["untrained", *(str(interval(first["curve"][name][0])) for name in first["final"]), "0", "0", ""])
    for result in arms.values():
        if "random_policy" in result:
            controls = result["random_policy"]
            rows.append(["random policy", *(str(interval(v)) for v in controls.values()), "", "", ""])
    verdict: Json = {"summary": summary}
    if tier_name == "cpu":
        rows.append(
            [
                "jaxued (one run)",
                *(f"{JAXUED_SMALL[n][-1]:.2f}" for n in first["final"]),
                f"{JAXUED_SMALL['steps'][-1]:,}",
                "",
                "",
            ]
        )
    text = [table(rows, ("solve rate", "held out", "hard", "env steps", "updates", "steps/s, all seeds"))]
    if tier_name == "cpu" and "dr" in arms:
        passed = all(summary["dr"][name]["point"] >= least for name, least in CLAIM.items())
        verdict |= {"claim": CLAIM, "passed": passed, "improvement_on_hard_over_dr": {}}
        wanted = " and ".join(f"{name} >= {least:.2f}" for name, least in CLAIM.items())
        text.append(f"\nclaim, dr: {wanted}: {'holds' if passed else 'DOES NOT HOLD'}")
        for arm in arms:
            if arm != "dr":
                p = stats.probability_of_improvement(arms[arm]["final"]["hard"], arms["dr"]["final"]["hard"])
                verdict["improvement_on_hard_over_dr"][arm] = p._asdict()
                text.append(f"P({arm} > dr) on hard: {p}")
    if any("test_mazes" in result for result in arms.values()):
        text.append(_paper_table(arms, verdict))
    return verdict, "\n".join(text)


def _paper_table(arms: Mapping[str, Json], verdict: Json) -> str:
    rows = []
    for arm, result in arms.items():
        scores = np.array(list(result["test_mazes"].values())).T  # (seeds, mazes)
        iqm = stats.stratified_bootstrap(scores, "iqm", reps=10_000)
        worst = interval(result["worst_tenth"])
        verdict["summary"][arm] |= {"test_mazes_iqm": iqm._asdict(), "worst_tenth": worst._asdict()}
        published = PUBLISHED_RANDOM.get(arm, {})
        rows.append(
            [
                arm,
                str(worst),
                f"{published['worst_tenth']:.3f}" if published else "",
                f"{published['held_out']:.3f}" if published else "",
                str(iqm),
                f"{PUBLISHED_IQM[arm]:.3f}" if arm in PUBLISHED_IQM else "",
            ]
        )
    header = ("arm", "worst tenth", "published", "published, held out", "IQM of 12 test mazes", "published")
    return "\n" + table(rows, header)


def draw(tier_name: str, arms: Mapping[str, Json], path: Path) -> None:
    """Learning curves: mean over seeds, and the range of the seeds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(next(iter(arms.values()))["final"])
    figure = Figure(figsize=(4.5 * len(names), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for ax, name in zip(figure.subplots(1, len(names), sharey=True), names, strict=True):
        for arm, result in arms.items():
            steps, values = np.array(result["curve"]["env_steps"]), np.array(result["curve"][name])
            (line,) = ax.plot(steps, values.mean(1), marker="o", markersize=3, label=arm)
            ax.fill_between(steps, values.min(1), values.max(1), alpha=0.15, color=line.get_color(), linewidth=0)
            if "random_policy" in result:
                ax.axhline(np.mean(result["random_policy"][name]), color="grey", linestyle=":", label="random policy")
        if tier_name == "cpu":
            ax.plot(JAXUED_SMALL["steps"], JAXUED_SMALL[name], "kx", label="jaxued (one run)")
            ax.axhline(CLAIM[name], color="black", linewidth=0.8, linestyle="--", label="claim")
        ax.set(title=name.replace("_", " ") + " mazes", xlabel="environment steps per seed", ylim=(0, 1.02))
        ax.grid(alpha=0.3)
    figure.axes[0].set_ylabel("solve rate")
    figure.axes[0].legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m benchmarks.minimax", description=__doc__.splitlines()[0])
    parser.add_argument("--tier", choices=tuple(TIERS), default="cpu")
    parser.add_argument("--arm", action="append", help="train only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, help="students per arm, where not the tier's number")
    parser.add_argument("--total-env-steps", type=int, help="per student, where not the tier's number")
    parser.add_argument("--runs", type=Path, help="keep the run folders here, and continue those that are there")
    parser.add_argument("--out", type=Path, help="folder of the result and the figure (default: benchmarks/results)")
    args = parser.parse_args(arguments)
    tier = TIERS[args.tier]
    unknown = set(args.arm or ()) - set(tier.presets)
    if unknown:
        parser.error(f"tier {args.tier} has the arms {', '.join(tier.presets)}, not {', '.join(sorted(unknown))}")
    changes = {"seeds": args.seeds, "total_env_steps": args.total_env_steps}
    changes = {name: value for name, value in changes.items() if value is not None}

    arms: dict[str, Json] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for arm in args.arm or tier.presets:
            folder = (args.runs or Path(scratch)) / args.tier / arm
            arms[arm] = train(tier, arm, folder, args.seed, changes)
    verdict, text = report(args.tier, arms)
    print("\n" + text)
    name = f"minimax_{args.tier}"
    # The devices are known only now that the backend has started.
    origin = record("benchmarks.minimax", [str(a) for a in arguments], ["minimax-ued"])
    write_result(name, {"benchmark": name, **origin, **verdict, "arms": arms}, args.out)
    draw(args.tier, arms, figure_path(name, args.out))
    print(f"\nwritten: {name}.json, {name}.png")
    return 0 if verdict.get("passed", True) else 1


if __name__ == "__main__":
    sys.exit(main())
