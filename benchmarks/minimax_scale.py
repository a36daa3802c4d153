"""How far does one CPU core get in half an hour? Sixty million steps on 13x13 mazes, one seed at a time.

    python -m benchmarks.minimax_scale train --arm dr --seed 0    # half an hour of one core; the same command continues
    python -m benchmarks.minimax_scale report                     # tables, JSON and figure of every run that is there
    python -m benchmarks.minimax_scale report --smoke             # measures little and writes nothing

One call trains one arm with one seed and is a run folder, so that arms and seeds can be spread over cores and days.
All take the same student and learner as `cpu13_dr` and as many environment steps, those included that are only looked
at. Along the run the student plays ten episodes on each of the twelve test mazes of the literature; in the end the
report measures, with every student:

- solve rate on 1,000 held-out random mazes, the interquartile mean (IQM) over the twelve test mazes (50 episodes each),
  and the win rate on the worst 0.1, 1 and 10 % of 10,000 solvable random mazes;
- mazes that the twelve leave no room to differ on: perfect mazes of 25x25 and 51x51, and four rooms of 25x25;
- walls and paths of the levels that it learned from, at first and in the end.

The claims, in numbers that can fail:

- scale: domain randomisation passes an IQM of .9 on the twelve mazes in every seed (Parker-Holder et al. 2022: .685
  after 164 million student steps, ACCEL .985);
- complexity: the walls of ACCEL's levels, which begin empty, grow in every seed, and those of domain randomisation stay
  within a tenth;
- order: ACCEL's IQM lies above that of domain randomisation, by 95 % intervals over seeds.

ACCEL's and PLR's temperature is 1.0: with the reference's .3 one level takes most of the draws. It was chosen on
held-out random mazes.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import paperloop
from benchmarks.harness import ROOT, Json, figure_path, record, table, write_result
from minimax_ued.config import TrainConfig
from minimax_ued.evaluation.attempts import Policy
from minimax_ued.evaluation.cvar import CVaR
from minimax_ued.evaluation.evaluate import HeldOut
from minimax_ued.evaluation.mazes import OODMazes
from minimax_ued.levels import procedural
from minimax_ued.levels.suite import TEST_MAZES, TestMaze
from minimax_ued.presets import PRESETS
from minimax_ued.trainer import UEDTrainer
from minimax_ued.use.loading import load_run
from paperloop.settings import replace_in
from paperloop_lab.plots import band, legend, new_figure
from paperloop_lab.stats import Interval, stratified_bootstrap

__all__ = ["ARMS", "configuration", "main", "report", "train", "verdicts"]

_REPLAY = {"method.type": "plr", "method.buffer.temperature": 1.0}
#: Arm -> changes of `cpu13_dr`.
ARMS: dict[str, dict[str, Any]] = {
    "dr": {},
    "robust plr": {**_REPLAY, "method.buffer.replay_prob": 0.5},
    "accel": {**_REPLAY, "method.buffer.replay_prob": 0.8, "method.mutation": {}, "env.n_walls": 0},
}
ENV_STEPS = 60_000_000
#: Published IQM over the twelve mazes (Parker-Holder et al. 2022: 20,000 updates, five seeds).
PUBLISHED = {"dr": 0.685, "robust plr": 0.798, "accel": 0.985}
#: Mazes larger than any that were seen in training; steps of an episode as for the others, twice the area with walls.
LARGE = {
    "PerfectMaze25": (25, procedural.perfect_maze),
    "PerfectMaze51": (51, procedural.perfect_maze),
    "FourRooms25": (25, procedural.four_rooms),
}


def configuration(arm: str, env_steps: int = ENV_STEPS) -> TrainConfig:
    """Return an arm's settings."""
    return replace_in(PRESETS["cpu13_dr"], {**ARMS[arm], "total_env_steps": env_steps})


def folder_of(runs: Path, arm: str, seed: int) -> Path:
    """Return where the run of an arm and seed is kept."""
    return runs / f"{arm.replace(' ', '-')}-{seed}"


def train(arm: str, seed: int, runs: Path, env_steps: int) -> None:
    """Train one arm with one seed, or continue."""
    trainer = UEDTrainer(configuration(arm, env_steps))
    evaluators = {"mazes": OODMazes(trainer, n_episodes=10), "held_out": HeldOut(trainer)}
    paperloop.run(
        trainer, folder_of(runs, arm, seed), steps=trainer.num_steps, seed=seed, evaluators=evaluators, keep=1,
        eval_every=max(1, trainer.num_steps // 12), save_minutes=2,
    )  # fmt: skip


def played(trainer: UEDTrainer, state: Any, smoke: bool, policy: Policy = "sampled") -> Json:
    """Return what a student does on levels that it has not seen; `smoke` plays little."""
    mazes = OODMazes(trainer, n_episodes=2 if smoke else 50, policy=policy)
    rates = mazes(state, 1)
    held_out = HeldOut(trainer, max_levels=200 if smoke else None, policy=policy)(state, 1)
    tails = CVaR(trainer, n_levels=500 if smoke else 10_000, attempts=1 if smoke else 4, policy=policy)(state, 1)
    return {
        "test_mazes": {name: float(rates[f"solve_rate/{name}"][0]) for name in mazes.names},
        "held_out": float(held_out["solve_rate"][0]),
        "hard": float(held_out["solve_rate_hard"][0]),
        "cvar": {name: float(np.asarray(value)[0]) for name, value in tails.items()},
        "large": {} if smoke else _large(trainer, state, policy),
    }


def _large(trainer: UEDTrainer, state: Any, policy: Policy) -> Json:
    found = {}
    for name, (size, sample) in LARGE.items():
        # Evaluators find mazes by name.
        TEST_MAZES[name] = TestMaze(name, size, size, 2 * (size + 2) ** 2, functools.partial(sample, size=size))
        found[name] = float(OODMazes(trainer, [name], n_episodes=50, policy=policy)(state, 1)["solve_rate"][0])
    return found


def measure(folder: Path, smoke: bool) -> Json:
    """Return what a finished run's student does, how it got there, and what its levels were like."""
    loaded = load_run(folder)
    trainer, state = loaded.trainer, loaded.state
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    trained = [row for row in rows if row["split"] == "train"]
    steps = {row["step"]: row["progress/env_steps"] for row in trained} | {0: 0}
    seen = [row for row in rows if row["split"] == "mazes" and row["step"] in steps]
    learned = [row for row in trained if np.min(row["learn"]) > 0 and "level/n_walls" in row]
    names = [key for key in seen[-1] if key.startswith("solve_rate/")]
    return {
        "env_steps": trainer.progress(state)["env_steps"],
        "updates": int(np.asarray(state.updates)[0]),
        "minutes": json.loads((folder / "run.json").read_text())["wall"] / 60,
        "curve": {
            "env_steps": [steps[row["step"]] for row in seen],
            "minutes": [row["wall"] / 60 for row in seen],
            "iqm": [_iqm([row[name][0] for name in names]) for row in seen],
        },
        **played(trainer, state, smoke),
        "levels": {
            "env_steps": [row["progress/env_steps"] for row in learned],
            "walls": [row["level/n_walls"][0] for row in learned],
            "path_length": [row["level/path_length"][0] / max(row["level/solvable"][0], 1e-6) for row in learned],
        },
    }


def controls(folder: Path, smoke: bool) -> dict[str, list[Json]]:
    """Return the same measures of an untrained student, and of uniform actions."""
    trainer = load_run(folder).trainer
    state = trainer.init(0)
    return {
        "untrained": [played(trainer, state, smoke)],
        "random policy": [played(trainer, state, smoke, "random")],
    }


def _iqm(rates: list[float]) -> float:
    """Return the mean of the middle half."""
    ordered = np.sort(rates)
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def _interval(values: Any, statistic: str = "mean") -> Interval:
    return stratified_bootstrap(np.asarray(values, float), statistic, reps=5000)


def summary(arms: dict[str, list[Json]]) -> dict[str, dict[str, Interval]]:
    """Return arm -> measure -> value with its interval over seeds."""
    found = {}
    for arm, runs in arms.items():
        found[arm] = {
            "iqm": _interval([list(one["test_mazes"].values()) for one in runs], "iqm"),
            "mean": _interval([list(one["test_mazes"].values()) for one in runs]),
            "held out": _interval([one["held_out"] for one in runs]),
            "hard": _interval([one["hard"] for one in runs]),
            **{name: _interval([one["cvar"][name] for one in runs]) for name in ("cvar_10", "cvar_1", "cvar_0.1")},
            **{name: _interval([one["large"][name] for one in runs]) for name in runs[0]["large"]},
        }
    return found


def verdicts(arms: dict[str, list[Json]]) -> dict[str, bool]:
    """Return claim -> whether it holds."""
    found = {}
    if "dr" in arms:
        low = min(_iqm(list(one["test_mazes"].values())) for one in arms["dr"])
        found[f"dr: IQM of at least .9 in every one of {len(arms['dr'])} seeds (lowest {low:.3f})"] = low >= 0.9
    if {"dr", "accel"} <= arms.keys():
        growth = {arm: [_growth(one["levels"]["walls"]) for one in arms[arm]] for arm in ("dr", "accel")}
        found["complexity: walls of ACCEL's levels grow, those of dr stay"] = all(
            last > first for first, last in growth["accel"]
        ) and all(abs(last / first - 1) < 0.1 for first, last in growth["dr"])
        if min(len(arms["dr"]), len(arms["accel"])) > 2:  # of one or two seeds no interval says anything
            ends = {arm: _interval([list(one["test_mazes"].values()) for one in arms[arm]], "iqm") for arm in growth}
            found["order: ACCEL above dr"] = bool(ends["accel"].low > ends["dr"].high)
    return found


def _cell(value: Interval) -> str:
    spread = "" if value.low == value.high else f" [{value.low:.3f}, {value.high:.3f}]"
    return f"{value.point:.3f}{spread}"


def _growth(walls: list[float]) -> tuple[float, float]:
    """Return the mean of the first and of the last tenth."""
    part = max(1, len(walls) // 10)
    return float(np.mean(walls[:part])), float(np.mean(walls[-part:]))


def report(runs: Path, argv: list[str], smoke: bool) -> int:
    """Measure every finished run, print the tables and write result and figure."""
    arms: dict[str, list[Json]] = {}
    for arm in ARMS:
        for folder in sorted(runs.glob(f"{arm.replace(' ', '-')}-[0-9]*")):
            kept = folder / "scale.json"
            if not kept.exists():
                status = json.loads((folder / "run.json").read_text())["status"]
                if status != "complete":
                    print(f"{folder.name}: {status}, left out", file=sys.stderr)
                    continue
                kept.write_text(json.dumps(measure(folder, smoke)))
            arms.setdefault(arm, []).append({"run": folder.name, **json.loads(kept.read_text())})
    if not arms:
        print("There are no finished runs: `train` makes them.", file=sys.stderr)
        return 2
    kept = runs / "controls.json"
    if not kept.exists():
        kept.write_text(json.dumps(controls(runs / next(iter(arms.values()))[0]["run"], smoke)))
    less = json.loads(kept.read_text())
    values = summary(arms)
    names = list(next(iter(values.values())))
    rows = [
        [arm, str(len(arms.get(arm, [0]))), *(_cell(v[n]) for n in names)]
        for arm, v in (values | summary(less)).items()
    ]
    print(table(rows, ["solve rate", "seeds", *names]))
    costs = [
        [arm, f"{np.mean([r['updates'] for r in found]):,.0f}", f"{np.mean([r['minutes'] for r in found]):.0f}",
         *(f"{np.mean([_growth(r['levels'][k]) for r in found], 0).round(1)}" for k in ("walls", "path_length")),
         f"{PUBLISHED[arm]:.3f}"]
        for arm, found in arms.items()
    ]  # fmt: skip
    print(table(costs, ["arm", "updates", "minutes", "walls, first and last", "paths", "published IQM"]))
    claims = verdicts(arms)
    for claim, holds in claims.items():
        print(f"{'holds' if holds else 'FAILS'}: {claim}")
    if not smoke:
        plain = {arm: {name: value._asdict() for name, value in found.items()} for arm, found in values.items()}
        origin = record("benchmarks.minimax_scale", argv, ["jax", "minimax-ued"])
        settings = {arm: ARMS[arm] for arm in arms}
        write_result("minimax-scale", {"record": origin, "changes of cpu13_dr": settings, "claims": claims,
                                       "summary": plain, "arms": arms, "controls": less})  # fmt: skip
        draw(arms).savefig(figure_path("minimax-scale"), dpi=150)
    return 0


def draw(arms: dict[str, list[Json]]) -> Any:
    """Return the IQM along the run, and the walls of the levels learned from: means over seeds, bands their range."""
    figure, (left, right) = new_figure(9, 3.6, columns=2)
    for i, (arm, runs) in enumerate(arms.items()):
        for axes, part, name in ((left, "curve", "iqm"), (right, "levels", "walls")):
            # Rows of ACCEL's and PLR's seeds lie at other steps: how many are played follows from what is drawn.
            first, last = (f(one[part]["env_steps"][k] for one in runs) for f, k in ((max, 0), (min, -1)))
            at = np.linspace(first, last, 61)
            curves = np.array([np.interp(at, one[part]["env_steps"], one[part][name]) for one in runs])
            steps = at / 1e6
            band(axes, steps, Interval(curves.mean(0), curves.min(0), curves.max(0)), i, f"{arm}, {len(runs)} seeds")
    left.set(xlabel="million environment steps", ylabel="IQM of solve rate, 12 test mazes", ylim=(0, 1.02))
    right.set(xlabel="million environment steps", ylabel="walls of the levels learned from", ylim=(0, None))
    legend(left)
    return figure


def main(argv: list[str] | None = None) -> int:
    """Train one arm, or report on all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.minimax_scale", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("train", "report"), help="one arm with one seed, or all that is there")
    parser.add_argument("--arm", choices=list(ARMS), default="dr")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--env-steps", type=int, default=ENV_STEPS)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "minimax-scale", help="where the runs are kept")
    parser.add_argument("--smoke", action="store_true", help="measure little, write nothing")
    args = parser.parse_args(argv)
    if args.what == "report":
        return report(args.runs, sys.argv[1:] if argv is None else argv, args.smoke)
    train(args.arm, args.seed, args.runs, args.env_steps)
    return 0


if __name__ == "__main__":
    sys.exit(main())
