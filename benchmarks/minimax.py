"""Does it learn what it should? Unsupervised environment design on mazes, in four tiers.

    python -m benchmarks.minimax --tier smoke             # about a minute: everything runs
    python -m benchmarks.minimax --tier small             # minutes: a claim about the learner, on 7x7 mazes
    python -m benchmarks.minimax --tier cpu               # at most 40 minutes on two cores: the methods side by side
    python -m benchmarks.minimax --tier gpu --minutes 9   # the same at 250 million steps; repeat until it exits with 0

Every arm is a run folder below `--runs`. A call that was stopped is continued by the same command, bit for bit; an arm
that is finished is not trained again.

**cpu, gpu.** 13x13 mazes with 60 walls (ACCEL: from empty ones), all arms at equal environment steps, those included
that are only looked at; three seeds trained as one program. Solve rate on held-out mazes and on the hardest of them,
mean win rate on the worst tenth (CVaR, ranked by one round of attempts and measured by another), interquartile mean
over the twelve test mazes of the literature, all with intervals over seeds, and the untrained student and the random
policy next to them. Emergent complexity is the claim: the walls and the path length of the levels that ACCEL replays
rise from those of empty mazes, those of domain randomisation stay where they are. At paper scale the published figures
stand next to ours.

**small.** 7x7 mazes, 0.6 million environment steps, five seeds. Domain randomisation must solve at least 90 % of 600
held-out random mazes and 65 % of the hardest 100 of them (longest shortest action sequence). A broken memory reset, a
transposed observation or a wrong advantage estimate stays below half on the hard ones. Beside it one run of jaxued's
learner in the same setting, and prioritised level replay, plain and robust.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import paperloop
from benchmarks.harness import ROOT, Json, figure_path, record, table, write_result
from minimax_ued.config import TrainConfig
from minimax_ued.presets import PRESETS
from paperloop.files import write_json
from paperloop.settings import replace_in
from paperloop_lab import stats

#: Solve rates at environment steps: jaxued's student and learner on the setting of the small tier, one run.
JAXUED_SMALL = {
    "steps": (204_800, 409_600, 614_400),
    "held_out": (0.75, 0.88, 0.92),
    "hard": (0.28, 0.67, 0.77),
}
CLAIM = {"held_out": 0.90, "hard": 0.65}
#: Interquartile mean over the twelve test mazes after 163.8 million student steps, five seeds (Parker-Holder et al.
#: 2022, per-seed results of the released implementation): what a parallel method is held against is its serial form.
PUBLISHED_IQM = {"dr": 0.685, "parallel_plr": 0.798, "parallel_accel": 0.985}
#: Random 60-wall mazes, all of them and the worst tenth, 3e8 steps, ten seeds (Rutherford et al. 2024, released
#: tables; the robust forms of PLR and ACCEL).
PUBLISHED_RANDOM = {
    "dr": {"cvar_100": 0.9926, "cvar_10": 0.934},
    "sfl": {"cvar_100": 0.9946, "cvar_10": 0.953},
    "parallel_plr": {"cvar_100": 0.9482, "cvar_10": 0.526},
    "parallel_accel": {"cvar_100": 0.9568, "cvar_10": 0.599},
}
#: Exit status of a call that ran out of `--minutes`: call it again.
AGAIN = 75


@dataclasses.dataclass(frozen=True)
class Tier:
    """What one tier trains and measures.

    Attributes:
        presets: arm -> (preset, changes to its configuration by dotted path).
        seeds: students per arm.
        env_steps: of each student; None leaves it to the preset.
        dispatch_steps: environment steps of one dispatch, about, so that rounding up to whole dispatches leaves all
            arms with equally many; None leaves the cycles per dispatch to the preset.
        max_levels: use only so many of the held-out levels, the hard ones among them; None means all.
        evaluations: along the run, apart from the one before it.
        attempts: episodes per held-out level.
        cvar: levels, and attempts at each in either round; None leaves the CVaR out.
        test_attempts: episodes per test maze at the end; 0 leaves the test mazes out.
    """

    presets: Mapping[str, tuple[str, Mapping[str, Any]]]
    seeds: int
    env_steps: int | None = None
    dispatch_steps: int | None = None
    max_levels: int | None = None
    evaluations: int = 5
    attempts: int = 1
    cvar: tuple[int, int] | None = None
    test_attempts: int = 0


METHODS = ("dr", "parallel_plr", "parallel_accel", "sfl", "paired")
#: Replays from the second cycle on.
_TINY: dict[str, dict[str, Any]] = {
    "dr": {},
    "parallel_accel": {"method.buffer.capacity": 64, "method.buffer.min_fill": 0.5},
    "paired": {
        "method.teacher.core.features": 16,
        "method.teacher.conv_filters": 4,
        "method.teacher.head_width": 16,
    },
}
TIERS = {
    "smoke": Tier(
        {arm: (f"cpu13_{arm}", {"n_envs": 16, "student.core.features": 16, **own}) for arm, own in _TINY.items()},
        seeds=2,
        env_steps=60_000,
        dispatch_steps=20_000,
        max_levels=128,
        evaluations=1,
        cvar=(64, 1),
        test_attempts=1,
    ),
    "small": Tier(
        {
            "dr": ("small", {}),
            "plr": ("small_plr", {}),
            "robust_plr": ("small_robust_plr", {"total_env_steps": 600_000}),
        },
        seeds=5,
        attempts=2,
    ),
    "cpu": Tier(
        {arm: (f"cpu13_{arm}", {}) for arm in METHODS},
        seeds=3,
        env_steps=5_000_000,
        dispatch_steps=200_000,
        cvar=(2000, 2),
        test_attempts=20,
    ),
    "gpu": Tier(
        {arm: (f"gpu13_{arm}", {}) for arm in METHODS if arm != "paired"},
        seeds=3,
        env_steps=250_000_000,
        dispatch_steps=2_100_000,
        evaluations=10,
        attempts=10,
        cvar=(10_000, 10),
        test_attempts=100,
    ),
}
#: What the tables call a measure -> what `minimax_ued.evaluation.evaluate.HeldOut` calls it.
MEASURES = {"held_out": "solve_rate", "hard": "solve_rate_hard"}


class OutOfTime(Exception):
    """`--minutes` are over; everything so far is saved."""


class Deadline:
    """Ends training in time, after a whole dispatch, with a checkpoint."""

    def __init__(self, minutes: float | None) -> None:
        self._seconds = None if minutes is None else 60 * minutes
        self._began = time.monotonic()

    @property
    def left(self) -> float:
        """Seconds until the end; infinite without one."""
        return float("inf") if self._seconds is None else self._seconds - (time.monotonic() - self._began)

    def check(self, part: float = 0.0) -> None:
        """Raise `OutOfTime` if less than `part` of the minutes is left."""
        if self._seconds is not None and self.left < part * self._seconds:
            raise OutOfTime

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Stop `paperloop.run` at the end by the signal that it stops cleanly on."""
        if self._seconds is None:
            yield
            return
        self.check()
        timer = threading.Timer(self.left, os.kill, (os.getpid(), signal.SIGTERM))
        timer.daemon = True
        timer.start()
        try:
            yield
        except paperloop.Interrupted:
            if self.left > 0:  # somebody else's signal
                raise
            raise OutOfTime from None
        finally:
            timer.cancel()


def configuration(tier: Tier, arm: str, changes: Mapping[str, Any]) -> TrainConfig:
    """The preset of an arm with the tier's changes and the caller's."""
    preset, own = tier.presets[arm]
    config = replace_in(PRESETS[preset], {"seeds": tier.seeds, **own})
    if tier.env_steps is not None:
        config = dataclasses.replace(config, total_env_steps=tier.env_steps)
    config = dataclasses.replace(config, **changes)
    if tier.dispatch_steps is not None:
        cycles = max(1, round(tier.dispatch_steps / config.env_steps_per_cycle))
        config = dataclasses.replace(config, cycles_per_step=cycles)
    return config


def train(tier: Tier, arm: str, folder: Path, seed: int, changes: Mapping[str, Any], deadline: Deadline) -> Json:
    """Train one arm (or continue it, or read its result) and return its curves, its final rates and its cost."""
    from minimax_ued.evaluation.evaluate import HeldOut
    from minimax_ued.trainer import UEDTrainer

    config = configuration(tier, arm, changes)
    asked = _plain({"config": config, "tier": tier, "seed": seed})
    finished = folder / "benchmark.json"
    if finished.exists():
        result = json.loads(finished.read_text())
        if result["asked"] == asked:
            print(f"\n{arm}: finished before", file=sys.stderr)
            return result
    trainer = UEDTrainer(config)
    held_out = HeldOut(trainer, n_episodes=tier.attempts, max_levels=tier.max_levels)
    print(
        f"\n{arm}: {config.seeds} seeds x {config.total_cycles * config.env_steps_per_cycle:,.0f} steps",
        file=sys.stderr,
        flush=True,
    )
    with deadline.training():
        state = paperloop.run(
            trainer,
            folder,
            steps=trainer.num_steps,
            seed=seed,
            evaluators={"held_out": held_out},
            eval_every=max(1, trainer.num_steps // tier.evaluations),
            save_minutes=2.0,
        )
    deadline.check(0.3)
    began = time.perf_counter()
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    curve = [row for row in rows if row["split"] == "held_out"]
    trained = [row for row in rows if row["split"] == "train"]
    env_steps = {row["step"]: row["progress/env_steps"] for row in trained} | {0: 0}
    result: Json = {
        "asked": asked,
        "preset": tier.presets[arm][0],
        "env_steps": trainer.progress(state)["env_steps"],
        "updates": np.asarray(state.updates).tolist(),
        "curve": {
            "env_steps": [env_steps[row["step"]] for row in curve if row["step"] in env_steps],
            **{
                name: [row[key] for row in curve if row["step"] in env_steps]
                for name, key in MEASURES.items()
                if key in curve[-1]
            },
        },
        "levels": _levels(trained),
        "final": {name: curve[-1][key] for name, key in MEASURES.items() if key in curve[-1]},
        **measured(tier, trainer, state, seed),
    }
    if arm == next(iter(tier.presets)):
        result["controls"] = controls(tier, trainer, seed)
    run = json.loads((folder / "run.json").read_text())
    result["cost"] = {"train_wall_s": run["wall"], "evaluate_wall_s": time.perf_counter() - began}
    write_json(finished, _plain(result))
    return _plain(result)


def measured(tier: Tier, trainer: Any, state: Any, seed: int, policy: Any = "sampled") -> Json:
    """The worst levels, and the test mazes: name -> one number a seed."""
    from minimax_ued.evaluation.cvar import CVaR
    from minimax_ued.evaluation.mazes import OODMazes

    found: Json = {}
    if tier.cvar is not None:
        levels, attempts = tier.cvar
        found["cvar"] = CVaR(trainer, n_levels=levels, attempts=attempts, policy=policy)(state, seed)
    if tier.test_attempts:
        mazes = OODMazes(trainer, n_episodes=tier.test_attempts, policy=policy)
        rates = mazes(state, seed)
        found["test_mazes"] = {name: rates[f"solve_rate/{name}"] for name in mazes.names}
    return _plain(found)


def controls(tier: Tier, trainer: Any, seed: int) -> Json:
    """The same measures of the untrained student and of the random policy."""
    from minimax_ued.evaluation.evaluate import HeldOut

    state = trainer.init(seed)
    found = {}
    for label, policy in (("untrained", "sampled"), ("random policy", "random")):
        rates = HeldOut(trainer, n_episodes=tier.attempts, max_levels=tier.max_levels, policy=policy)(state, seed)  # type: ignore[arg-type]
        final = {name: rates[key] for name, key in MEASURES.items() if key in rates}
        found[label] = {"final": final, **measured(tier, trainer, state, seed, policy)}
    return _plain(found)


def _levels(trained: Sequence[Json]) -> Json:
    """What the levels were like that the students learned from: walls, and path length of those that can be solved."""
    learning = [row for row in trained if np.min(row["learn"]) > 0]
    rows = learning if learning and "level/n_walls" in learning[0] else []
    return {
        "env_steps": [row["progress/env_steps"] for row in rows],
        "walls": [row["level/n_walls"] for row in rows],
        "path_length": [
            (np.array(row["level/path_length"]) / np.maximum(row["level/solvable"], 1e-6)).tolist() for row in rows
        ],
    }


def _plain(value: Any) -> Any:
    """As JSON gives it back, so that what was measured now looks like what was read from a file."""

    def simple(x: Any) -> Any:
        return (
            dataclasses.asdict(x) if dataclasses.is_dataclass(x) and not isinstance(x, type) else np.asarray(x).tolist()
        )

    return json.loads(json.dumps(value, default=simple))


def interval(values: Sequence[float], statistic: str = "mean") -> stats.Interval:
    """Mean over seeds, or another statistic of `[seeds, tasks]`, with its 95 % bootstrap interval."""
    return stats.stratified_bootstrap(np.asarray(values), statistic, reps=10_000)  # type: ignore[arg-type]


def rates(result: Json) -> dict[str, stats.Interval]:
    """Measure -> value with its interval over seeds."""
    found = {name: interval(values) for name, values in result["final"].items()}
    if "cvar" in result:
        found["cvar_10"] = interval(result["cvar"]["cvar_10"])
        found["cvar_100"] = interval(result["cvar"]["cvar_100"])
    if "test_mazes" in result:
        found["ood_iqm"] = interval(np.array(list(result["test_mazes"].values())).T, "iqm")
    return found


#: Measure -> head of its column.
HEADS = {"held_out": "held out", "hard": "hard", "cvar_10": "CVaR 10 %", "ood_iqm": "IQM, 12 test mazes"}


def report(tier_name: str, arms: Mapping[str, Json]) -> tuple[Json, str]:
    """Return the verdict and the tables."""
    values = {arm: rates(result) for arm, result in arms.items()}
    names = [name for name in HEADS if name in next(iter(values.values()))]
    rows = []
    for arm, result in arms.items():
        updates = result["updates"]
        count = f"{min(updates):,}" if len(set(updates)) == 1 else f"{np.mean(updates):,.0f} (mean)"
        speed = len(updates) * result["env_steps"] / result["cost"]["train_wall_s"]
        cells = [str(values[arm][name]) for name in names]
        rows.append([arm, *cells, f"{result['env_steps']:,}", count, f"{speed:,.0f}"])
    for result in arms.values():
        for label, control in result.get("controls", {}).items():
            found = rates(control)
            rows.append([label, *(str(found[name]) for name in names), "", "", ""])
    if tier_name == "small":
        cells = [f"{JAXUED_SMALL[name][-1]:.2f}" for name in names]
        rows.append(["jaxued (one run)", *cells, f"{JAXUED_SMALL['steps'][-1]:,}", "", ""])
    header = ("solve rate", *(HEADS[name] for name in names), "env steps", "updates", "steps/s, all seeds")
    text = [table(rows, header)]
    verdict: Json = {
        "summary": {arm: {name: value._asdict() for name, value in found.items()} for arm, found in values.items()}
    }
    if tier_name == "small" and "dr" in arms:
        text += _claim(arms, values, verdict)
    if tier_name in ("cpu", "gpu"):
        text += _complexity(arms, verdict)
    if tier_name == "gpu":
        text.append(_published(values))
    return verdict, "\n".join(text)


def _claim(arms: Mapping[str, Json], values: Mapping[str, Mapping[str, stats.Interval]], verdict: Json) -> list[str]:
    passed = all(values["dr"][name].point >= least for name, least in CLAIM.items())
    verdict |= {"claim": CLAIM, "passed": passed, "improvement_on_hard_over_dr": {}}
    wanted = " and ".join(f"{name} >= {least:.2f}" for name, least in CLAIM.items())
    text = [f"\nclaim, dr: {wanted}: {'holds' if passed else 'DOES NOT HOLD'}"]
    for arm in arms:
        if arm != "dr":
            p = stats.probability_of_improvement(arms[arm]["final"]["hard"], arms["dr"]["final"]["hard"])
            verdict["improvement_on_hard_over_dr"][arm] = p._asdict()
            text.append(f"P({arm} > dr) on hard: {p}")
    return text


def _complexity(arms: Mapping[str, Json], verdict: Json) -> list[str]:
    """First and last tenth of the curves; ACCEL's must rise for every seed, those of DR stay within 10 %."""
    rows, found, passed = [], {}, True
    for arm, result in arms.items():
        levels = result["levels"]
        if not levels["env_steps"]:
            continue
        part = max(1, len(levels["env_steps"]) // 10)
        found[arm] = {}
        cells = []
        for name in ("walls", "path_length"):
            curve = np.array(levels[name])
            first, last = curve[:part].mean(0), curve[-part:].mean(0)
            found[arm][name] = {"first": first.tolist(), "last": last.tolist()}
            cells.append(f"{first.mean():.1f} -> {last.mean():.1f}")
            if arm == "parallel_accel":
                passed = passed and bool((last > first).all())
            if arm == "dr":
                passed = passed and bool((abs(last / first - 1) < 0.1).all())
        rows.append([arm, *cells])
    verdict["emergent_complexity"] = found
    if {"dr", "parallel_accel"} <= found.keys():
        verdict["passed"] = passed
    claim = f"\nclaim, ACCEL's levels grow and DR's do not: {'holds' if passed else 'DOES NOT HOLD'}"
    return ["\n" + table(rows, ("levels learned from", "walls", "path length")), claim]


def _published(values: Mapping[str, Mapping[str, stats.Interval]]) -> str:
    rows = []
    for arm, found in values.items():
        random, iqm = PUBLISHED_RANDOM.get(arm, {}), PUBLISHED_IQM.get(arm)
        rows.append(
            [
                arm,
                *(
                    cell
                    for name in ("cvar_100", "cvar_10")
                    for cell in (str(found[name]), f"{random[name]:.3f}" if random else "")
                ),
                str(found["ood_iqm"]),
                "" if iqm is None else f"{iqm:.3f}",
            ]
        )
    header = ("arm", "random mazes", "published", "worst tenth", "published", "IQM of 12 test mazes", "published")
    return "\n" + table(rows, header)


def draw(tier_name: str, arms: Mapping[str, Json], path: Path) -> None:
    """Learning curves and emergent complexity: mean over seeds, and the range of the seeds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    first = next(iter(arms.values()))
    names = list(first["final"])
    kinds = {"walls": "walls of the levels learned from", "path_length": "path length of the levels learned from"}
    panels = [("curve", name) for name in names] + [
        ("levels", name) for name in kinds if any(result["levels"]["env_steps"] for result in arms.values())
    ]
    figure = Figure(figsize=(4.4 * min(2, len(panels)), 3.3 * -(-len(panels) // 2)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(-(-len(panels) // 2), min(2, len(panels)), squeeze=False)
    for ax, (part, name) in zip(axes.flat, panels, strict=False):
        for number, (arm, result) in enumerate(arms.items()):
            if not result[part]["env_steps"]:
                continue
            steps, values = np.array(result[part]["env_steps"]) / 1e6, np.array(result[part][name])
            ax.plot(steps, values.mean(1), marker="o" if part == "curve" else None, ms=3, label=arm, color=f"C{number}")
            ax.fill_between(steps, values.min(1), values.max(1), alpha=0.15, color=f"C{number}", linewidth=0)
        if part == "levels":
            ax.set(title=kinds[name], ylim=(0, None))
        else:
            ax.set(title=f"solve rate, {name.replace('_', ' ')} mazes", ylim=(0, 1.02))
            if "controls" in first:
                random = np.mean(first["controls"]["random policy"]["final"][name])
                ax.axhline(random, color="grey", linestyle=":", label="random policy")
            if tier_name == "small":
                ax.plot(np.array(JAXUED_SMALL["steps"]) / 1e6, JAXUED_SMALL[name], "kx", label="jaxued (one run)")
                ax.axhline(CLAIM[name], color="black", linewidth=0.8, linestyle="--", label="claim")
        ax.set_xlabel("million environment steps per seed")
        ax.grid(alpha=0.3)
    axes.flat[0].legend(fontsize="small")
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m benchmarks.minimax", description=__doc__.splitlines()[0])
    parser.add_argument("--tier", choices=tuple(TIERS), default="cpu")
    parser.add_argument("--arm", action="append", help="train only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, help="students per arm, where not the tier's number")
    parser.add_argument("--env-steps", type=int, help="of each student, where not the tier's number")
    parser.add_argument(
        "--minutes", type=float, help=f"save and stop after so long, with status {AGAIN}: call it again"
    )
    parser.add_argument("--runs", type=Path, help="where the run folders are (default: runs/bench-minimax)")
    parser.add_argument("--out", type=Path, help="folder of the result and the figure (default: benchmarks/results)")
    args = parser.parse_args(arguments)
    tier = TIERS[args.tier]
    unknown = set(args.arm or ()) - set(tier.presets)
    if unknown:
        parser.error(f"tier {args.tier} has the arms {', '.join(tier.presets)}, not {', '.join(sorted(unknown))}")
    changes = {"seeds": args.seeds, "total_env_steps": args.env_steps}
    changes = {name: value for name, value in changes.items() if value is not None}

    deadline, arms = Deadline(args.minutes), {}
    runs = (args.runs or ROOT / "runs" / "bench-minimax") / args.tier
    try:
        for arm in tier.presets:
            if arm in (args.arm or tier.presets):
                arms[arm] = train(tier, arm, runs / arm, args.seed, changes, deadline)
    except OutOfTime:
        print(f"Out of time, and saved: the same command continues. Done: {', '.join(arms) or 'no arm yet'}.")
        return AGAIN
    verdict, text = report(args.tier, arms)
    print("\n" + text)
    name = f"minimax-{args.tier}"
    # The devices are known only now that the backend has started.
    origin = record("benchmarks.minimax", [str(a) for a in arguments], ["minimax-ued"])
    write_result(name, {"benchmark": name, **origin, **verdict, "arms": arms}, args.out)
    draw(args.tier, arms, figure_path(name, args.out))
    print(f"\nwritten: {name}.json, {name}.png")
    return 0 if verdict.get("passed", True) else 1


if __name__ == "__main__":
    sys.exit(main())
