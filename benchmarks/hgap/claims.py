"""Does one model from unlabelled motion serve any objective, and what do codes, data and size do? Three tiers.

    python -m benchmarks.hgap.claims --tier smoke                 # a minute: everything runs
    python -m benchmarks.hgap.claims --tier cpu --runs FOLDER     # about forty minutes on two idle cores
    python -m benchmarks.hgap.claims --tier gpu --runs FOLDER
    python -m benchmarks.hgap.claims --tier cpu --runs FOLDER --specialists iql td3bc tap
    python -m benchmarks.hgap.claims --tier cpu --runs FOLDER --body walker2d --only "2 codes" --leave-out cem

Data are made by the policies that come with the package. An arm is a change of the model: codes per latent step, share
of the data, size of the prior. The first arm is also compared with controls on the same starts: behaviour cloning and
greedy decoding (which know no objective), random codes through the same decoder, and MPPI and the cross-entropy method,
which own the true dynamics and simulate as many samples over as many steps as the planner decodes.

The claims, in numbers that can fail; an interval is a 95 % bootstrap over all episodes of all seeds:

- steering: on every objective the planner's interval lies above the means of cloning, greedy decoding and random codes;
- dynamics: the planner's mean over objectives, as a share of MPPI's on each, is at least .5 (facts of the paper: 3 to 4
  times MPPI on a humanoid; on a planar body MPPI with the true dynamics is strong, and the share is reported as it is);
- codes: more codes per step, a lower error of reconstruction, and a higher return;
- data: more of the data, a higher return;
- size: a wider prior, no higher return (the paper's finding: flat to falling);
- specialists (`--specialists`): the planner's mean over objectives is at least nine tenths of that of the best of
  IQL, TD3+BC and TAP, which are trained for each objective on the same motion with its rewards.

Bodies are HalfCheetah-v5 and, by `--body walker2d`, Walker2d-v5, which falls: an objective there also pays for the
cosine of the pitch and takes ten for a step near the limits, so that staying up is worth it and a fall is a loss, and
the length of episodes and the share of falls stand next to the returns. Its control step is 8 ms and not 50, so a
window has 24 steps.

A return over objectives is the mean of the five, episode by episode. Training continues what is in `--runs`; measuring
is repeated.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Json, figure_path, record, table, write_result
from hgap.config import PRESETS, Data, PlanConfig, TrainConfig
from hgap.data.behaviours import read_behaviours, shipped
from hgap.data.motion import make_motion
from hgap.envs.bodies import find_body
from hgap.envs.objectives import OBJECTIVES, Objective, Weighted
from hgap.envs.simulator import Simulator
from hgap.evaluation.episodes import Measured, measure
from hgap.fitting import fit
from hgap.loading import Model
from hgap.planner.plan import Planner
from hgap.rivals.cloning import clone
from hgap.rivals.controllers import Controller, Planned, RandomCodes
from hgap.rivals.sampling_mpc import CEM, MPPI, SamplingMPC, true_dynamics
from hgap.rivals.specialists import relabel, train_specialist
from hgap.rivals.tap import train_tap
from hgap.trainer import read_windows
from paperloop.settings import replace_in
from paperloop_data import EpisodeDataset
from paperloop_lab.plots import new_figure, style
from paperloop_lab.stats import Interval, stratified_bootstrap

__all__ = ["ARMS", "BODIES", "TIERS", "draw", "main", "verdicts"]

SPECIALISTS = ("iql", "td3bc", "tap")
CONTROLS = ("cloning", "greedy", "random codes", "mppi", "cem")

#: Arm -> changes of the model; the first is the one that is compared with the controls.
ARMS: dict[str, dict[str, Any]] = {
    "2 codes": {},
    "1 code": {"autoencoder.codes.per_step": 1},
    "4 codes": {"autoencoder.codes.per_step": 4},
    "30 % of the data": {"fraction": 0.3},
    "10 % of the data": {"fraction": 0.1},
    "wide prior": {"prior.size.width": 128},
}


@dataclasses.dataclass(frozen=True)
class Tier:
    """Which arms of which model, on how much data, and how it is measured."""

    arms: tuple[str, ...]
    preset: str
    changes: Mapping[str, Any]
    data: int
    episodes: int
    steps: int
    samples: int = 64
    claims: bool = True
    updates: int = 20_000
    left_out: tuple[str, ...] = ()
    simulated: int | None = None


@dataclasses.dataclass(frozen=True)
class Subject:
    """Which body, what it is asked for, and changes of the model for it."""

    env_id: str
    objectives: Mapping[str, Objective]
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _standing(**weights: float) -> Weighted:
    return Weighted({**weights, "upright": 1.0}, constraints={"height": (0.9, 2.0), "pitch": (-0.8, 0.8)})


BODIES = {
    "halfcheetah": Subject(
        "HalfCheetah-v5", {name: OBJECTIVES[name] for name in ("forward", "backward", "jump", "stop", "turn")}
    ),
    "walker2d": Subject(
        "Walker2d-v5",
        {
            "forward": _standing(velocity=1.0), "backward": _standing(backwards=1.0), "jump": _standing(jump=1.0),
            "stop": _standing(stillness=1.0), "tall": _standing(height=1.0),
        },
        {"windows.steps": 24, "autoencoder.codes.latent_step": 6},
    ),
}  # fmt: skip
TIERS = {
    "smoke": Tier(
        ("2 codes",), "tiny", {"autoencoder.updates": 50, "prior.updates": 50}, 4000, 2, 6, 8,
        claims=False, updates=1000,
    ),
    "cpu": Tier(
        tuple(ARMS), "tiny", {"autoencoder.updates": 4000, "prior.updates": 2000, "seeds": 3}, 150_000, 5, 200
    ),
    "gpu": Tier(
        tuple(ARMS), "small", {"autoencoder.updates": 60_000, "prior.updates": 40_000, "seeds": 3,
        "autoencoder.size.width": 256, "prior.size.width": 256}, 1_000_000, 20, 500, 256,
    ),
}  # fmt: skip

Results = dict[str, dict[str, dict[str, list[float]]]]  # arm or control -> objective -> returns, lengths, fell


def settings_of(arm: str, tier: Tier, subject: Subject = BODIES["halfcheetah"]) -> TrainConfig:
    """Return the model of an arm."""
    return replace_in(PRESETS[tier.preset], {**tier.changes, **subject.changes, **ARMS[arm]})


@functools.lru_cache(maxsize=1)
def cloned(data: Data) -> Controller:
    """Return the policy cloned from the motion, which knows no objective."""
    return clone(read_windows(data), updates=4000)


def controls(
    model: Model, data: Data, simulator: Simulator, objective: Any, samples: int, only: Collection[str] = CONTROLS
) -> dict[str, Controller]:
    """Return controls by name."""
    limits, horizon = (simulator.action_low, simulator.action_high), model.config.windows.steps - 1
    alone = replace_in(PlanConfig(), {"samples": 1, "search.temperature": 0.0, "warm_start": False})

    def mpc(kind: Any) -> SamplingMPC:
        settings = kind(samples=samples, horizon=horizon)
        return SamplingMPC(true_dynamics(simulator), objective, model.slices, *limits, settings)

    made: dict[str, Callable[[], Controller]] = {
        "cloning": lambda: cloned(data),
        "greedy": lambda: Planned(Planner(model, objective, alone)),
        "random codes": lambda: RandomCodes(model),
        "mppi": lambda: mpc(MPPI),
        "cem": lambda: mpc(CEM),
    }
    return {name: made[name]() for name in made if name in only}


def add(results: Results, name: str, objective: str, measured: Measured) -> None:
    """Append episodes to those of the same name and objective."""
    cell = results.setdefault(name, {}).setdefault(objective, {"returns": [], "lengths": [], "fell": [], "ms": []})
    for key, values in (("returns", measured.returns), ("lengths", measured.lengths), ("fell", measured.fell)):
        cell[key] += np.asarray(values, float).tolist()
    cell["ms"].append(measured.milliseconds)


def verdicts(results: Results, errors: Mapping[str, float]) -> dict[str, bool]:
    """Return claim -> whether it holds; claims whose arms are absent are left out."""
    found, planner = {}, results["2 codes"]

    def mean(name: str, objective: str) -> float:
        return float(np.mean(results[name][objective]["returns"]))

    for control in ("cloning", "greedy", "random codes"):
        if control in results:
            above = [interval(planner[o]["returns"]).low > mean(control, o) for o in planner]
            found[f"steering: above {control} on every objective"] = all(above)
    if "mppi" in results:
        shares = [mean("2 codes", o) / mean("mppi", o) for o in planner if mean("mppi", o) > 0]
        found["dynamics: at least half of MPPI's return"] = bool(np.mean(shares) >= 0.5)
    if {"1 code", "4 codes"} <= errors.keys():
        found["codes: more of them, a lower error"] = errors["1 code"] > errors["2 codes"] > errors["4 codes"]
        found["codes: more of them, a higher return"] = (
            over(results, "1 code") < over(results, "2 codes") < over(results, "4 codes")
        )
    if "10 % of the data" in results:
        found["data: more of it, a higher return"] = over(results, "10 % of the data") < over(results, "2 codes")
    if "wide prior" in results:
        found["size: a wider prior, no higher return"] = over(results, "wide prior") <= over(results, "2 codes")
    specialists = [name for name in SPECIALISTS if name in results]
    if specialists:
        best = max(over(results, name) for name in specialists)
        found["specialists: nine tenths of the best of them"] = over(results, "2 codes", specialists[0]) >= 0.9 * best
    return found


def over(results: Results, name: str, like: str | None = None) -> float:
    """Return the mean return over objectives; over those of another name if one is given."""
    return float(np.mean([np.mean(results[name][o]["returns"]) for o in results[like or name]]))


def draw(results: Results, ours: Collection[str] = tuple(ARMS)) -> Any:
    """Return a figure: mean returns and their intervals, a panel for each objective; `ours` in another colour."""
    objectives = list(next(iter(results.values())))
    figure, panels = new_figure(2.4 * len(objectives) + 1.2, 0.28 * len(results) + 1.2, columns=len(objectives))
    for number, (axes, objective) in enumerate(zip(np.ravel(panels), objectives, strict=True)):
        for at, (name, cells) in enumerate(results.items()):
            if objective in cells:
                found, looks = interval(cells[objective]["returns"]), style(int(name not in ours))
                axes.plot([found.low, found.high], [at, at], lw=2.5, color=looks["color"])
                axes.plot([found.point], [at], "o", color=looks["color"])
        axes.set_yticks(range(len(results)), list(results) if number == 0 else [])
        axes.set_ylim(len(results) - 0.5, -0.5)
        axes.set_title(objective)
    np.ravel(panels)[len(objectives) // 2].set_xlabel(
        "return over the episode, 95 % intervals over episodes of all models"
    )
    return figure


def interval(returns: list[float]) -> Interval:
    """Return the mean and its 95 % bootstrap interval."""
    return stratified_bootstrap(np.asarray(returns), "mean", reps=2000)


def last_error(folder: Path) -> float:
    """Return the held-out error of actions at the end of an autoencoder's run, averaged over seeds."""
    import json

    rows = [json.loads(line) for line in (folder / "autoencoder" / "metrics.jsonl").read_text().splitlines()]
    held_out = [row["action_error"] for row in rows if row["split"] == "held_out"]
    return float(np.mean(held_out[-1]))


def motion_file(tier: Tier, runs: Path, simulator: Simulator) -> Path:
    """Return the file with the motion, which is made if it is not there."""
    path = runs / "motion.npz"
    if not path.exists():
        behaviours = read_behaviours(shipped(simulator.body.env_id))
        motion = make_motion(simulator, behaviours, steps=tier.data, episode=500, seed=0, parts=runs / "parts")
        motion.save(path)
    return path


def run_specialists(
    tier: Tier, subject: Subject, runs: Path, kinds: list[str], save: Any
) -> tuple[Results, dict[str, float]]:
    """Measure the first arm's models next to what is trained for each objective alone, on the same starts."""
    simulator = Simulator(find_body(subject.env_id))
    config = settings_of("2 codes", tier, subject)
    path = motion_file(tier, runs, simulator)
    models = fit(Data(path=str(path), model=config), runs / "2_codes", progress=False, log_every=5)
    motion, results = EpisodeDataset.load(path), {}
    for name, objective in subject.objectives.items():
        paid = relabel(motion, objective, models[0].slices)
        trained: dict[str, Controller] = {}
        for kind in kinds:
            if kind == "tap":
                trained[kind] = train_tap(paid, config, runs / "tap" / name)
            else:
                trained[kind] = train_specialist(kind, paid, simulator, updates=tier.updates)  # ty: ignore[invalid-argument-type]
        for seed, model in enumerate(models):
            asked = {"episodes": tier.episodes, "steps": tier.steps, "seed": 1 + seed}
            planned = Planned(Planner(model, objective, PlanConfig(samples=tier.samples)))
            for rival, controller in {"2 codes": planned, **trained}.items():
                add(results, rival, name, measure(simulator, controller, objective, **asked))
        print(f"{name}: {', '.join(kinds)}", file=sys.stderr, flush=True)
        save(results, {})
    return results, {}


def run_tier(
    tier: Tier, subject: Subject, runs: Path, only: list[str] | None, save: Any
) -> tuple[Results, dict[str, float]]:
    """Train and measure all arms, saving after each."""
    simulator = Simulator(find_body(subject.env_id))
    path = motion_file(tier, runs, simulator)
    results: Results = {}
    errors: dict[str, float] = {}
    for arm in only or tier.arms:
        data = Data(path=str(path), model=settings_of(arm, tier, subject))
        folder = runs / arm.replace(" ", "_").replace("%", "percent")
        models = fit(data, folder, progress=False, log_every=5)
        errors[arm] = last_error(folder)
        for seed, model in enumerate(models):
            for name, objective in subject.objectives.items():
                asked = {"episodes": tier.episodes, "steps": tier.steps, "seed": 1 + seed}
                planner = Planner(model, objective, PlanConfig(samples=tier.samples))
                add(results, arm, name, measure(simulator, Planned(planner), objective, **asked))
                if arm == "2 codes":
                    for rival, controller in controls(model, data, simulator, objective, tier.samples).items():
                        if rival in tier.left_out:
                            continue
                        few = {"episodes": tier.simulated or tier.episodes} if rival in ("mppi", "cem") else {}
                        add(results, rival, name, measure(simulator, controller, objective, **{**asked, **few}))
                print(f"{arm}, seed {seed}, {name}", file=sys.stderr, flush=True)
            save(results, errors)
    return results, errors


def main(argv: list[str] | None = None) -> int:
    """Run a tier; 0 if its claims hold, or if it has none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hgap.claims", description=__doc__.splitlines()[0])
    parser.add_argument("--tier", choices=list(TIERS), default="cpu")
    parser.add_argument("--runs", type=Path, help="where data and models are kept; left out: a temporary folder")
    parser.add_argument("--only", nargs="*", choices=list(ARMS), help="some of the arms, '2 codes' among them")
    parser.add_argument("--specialists", nargs="+", choices=SPECIALISTS, help="measure these next to the first arm")
    parser.add_argument("--body", choices=list(BODIES), default="halfcheetah")
    parser.add_argument("--objectives", nargs="+", help="some of the body's objectives")
    parser.add_argument("--seeds", type=int, help="models of an arm, side by side; left out: the tier's")
    parser.add_argument("--episodes", type=int, help="of each model and objective; left out: the tier's")
    parser.add_argument("--simulated", type=int, help="episodes of MPPI and CEM; left out: as many")
    parser.add_argument("--leave-out", nargs="+", choices=CONTROLS, default=(), help="controls that are not measured")
    parser.add_argument("--updates", type=int, help="of IQL and TD3+BC; left out: the tier's")
    args = parser.parse_args(argv)
    tier, subject = TIERS[args.tier], BODIES[args.body]
    asked = {name: getattr(args, name) for name in ("episodes", "updates", "simulated")}
    tier = dataclasses.replace(tier, **{name: value for name, value in asked.items() if value is not None})
    tier = dataclasses.replace(tier, left_out=tuple(args.leave_out))
    if args.seeds is not None:
        tier = dataclasses.replace(tier, changes={**tier.changes, "seeds": args.seeds})
    unknown = set(args.objectives or ()) - set(subject.objectives)
    if unknown:
        parser.error(f"--objectives: {args.body} has {', '.join(subject.objectives)}, and not {', '.join(unknown)}")
    chosen = args.objectives or tuple(subject.objectives)[: 2 if args.tier == "smoke" else None]
    subject = dataclasses.replace(subject, objectives={name: subject.objectives[name] for name in chosen})
    origin = record("benchmarks.hgap.claims", sys.argv[1:] if argv is None else argv, ["jax", "mujoco", "hgap"])

    def save(results: Results, errors: Mapping[str, float], claims: Json | None = None) -> None:
        if args.tier != "smoke":
            name = f"hgap-{args.tier}" + ("" if args.body == "halfcheetah" else f"-{args.body}")
            name += "-specialists" if args.specialists else "-only" if args.only and args.body == "halfcheetah" else ""
            write_result(name, {"record": origin, "results": results, "action_errors": errors, "claims": claims})
            draw(results).savefig(figure_path(name), dpi=150)

    with tempfile.TemporaryDirectory() as temporary:
        runs = args.runs or Path(temporary)
        if args.specialists:
            results, errors = run_specialists(tier, subject, runs, args.specialists, save)
        else:
            results, errors = run_tier(tier, subject, runs, args.only, save)
    claims = verdicts(results, errors) if tier.claims else {}
    save(results, errors, claims)
    rows = [[name, *(_cell(cells[o]) for o in subject.objectives)] for name, cells in results.items()]
    print(table(rows, ["mean return (95 %)", *subject.objectives]))
    print(f"held-out error of actions: {errors}")
    for claim, holds in claims.items():
        print(f"{'holds' if holds else 'FAILS'}: {claim}")
    return 0 if all(claims.values()) else 1


def _cell(cell: Mapping[str, list[float]]) -> str:
    found, fell = interval(cell["returns"]), float(np.mean(cell["fell"]))
    falls = f", {fell:.0%} fell, {np.mean(cell['lengths']):.0f} steps" if fell else ""
    return f"{found.point:.1f} ({found.low:.1f} .. {found.high:.1f}){falls}"


if __name__ == "__main__":
    sys.exit(main())
