"""Does one model from unlabelled motion serve any objective, and what do codes, data and size do? Three tiers.

    python -m benchmarks.hgap.claims --tier smoke                 # a minute: everything runs
    python -m benchmarks.hgap.claims --tier cpu --runs FOLDER     # about forty minutes on two idle cores
    python -m benchmarks.hgap.claims --tier gpu --runs FOLDER

Data are made by the policies that come with the package. An arm is a change of the model: codes per latent step, share
of the data, size of the prior. The first arm is also compared with controls on the same starts: behaviour cloning and
greedy decoding (which know no objective), random codes through the same decoder, and MPPI and the cross-entropy method,
which own the true dynamics and simulate as many samples over as many steps as the planner decodes.

The claims, in numbers that can fail; an interval is a 95 % bootstrap over all episodes of all seeds:

- steering: on every objective the planner's interval lies above the means of cloning, greedy decoding and random codes;
- dynamics: the planner's mean over objectives, as a share of MPPI's on each, is at least .5 (facts of the paper: 3 to 4
  times MPPI on a humanoid; on a planar body MPPI with the true dynamics is strong, and the share is reported as it is);
- codes: more codes per step, a lower error of reconstruction;
- data: more of the data, a higher return.

Training continues what is in `--runs`; measuring is repeated.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Json, record, table, write_result
from hgap.config import PRESETS, Data, PlanConfig, TrainConfig
from hgap.data.behaviours import read_behaviours, shipped
from hgap.data.motion import make_motion
from hgap.envs.bodies import find_body
from hgap.envs.objectives import OBJECTIVES
from hgap.envs.simulator import Simulator
from hgap.evaluation.episodes import Measured, measure
from hgap.fitting import fit
from hgap.loading import Model
from hgap.planner.plan import Planner
from hgap.rivals.cloning import clone
from hgap.rivals.controllers import Controller, Planned, RandomCodes
from hgap.rivals.sampling_mpc import CEM, MPPI, SamplingMPC, true_dynamics
from hgap.trainer import read_windows
from paperloop.settings import replace_in
from paperloop_lab.stats import Interval, stratified_bootstrap

__all__ = ["ARMS", "TIERS", "main", "verdicts"]

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
    objectives: tuple[str, ...]
    episodes: int
    steps: int
    samples: int = 64
    claims: bool = True


_FIVE = ("forward", "backward", "jump", "stop", "turn")
TIERS = {
    "smoke": Tier(
        ("2 codes",), "tiny", {"autoencoder.updates": 50, "prior.updates": 50}, 4000, ("forward", "jump"), 2, 6, 8,
        claims=False,
    ),
    "cpu": Tier(
        tuple(ARMS), "tiny", {"autoencoder.updates": 4000, "prior.updates": 2000, "seeds": 3}, 150_000, _FIVE, 5, 200
    ),
    "gpu": Tier(
        tuple(ARMS), "small", {"autoencoder.updates": 60_000, "prior.updates": 40_000, "seeds": 3,
        "autoencoder.size.width": 256, "prior.size.width": 256}, 1_000_000, _FIVE, 20, 500, 256,
    ),
}  # fmt: skip

Results = dict[str, dict[str, dict[str, list[float]]]]  # arm or control -> objective -> returns, lengths, fell


def settings_of(arm: str, tier: Tier) -> TrainConfig:
    """Return the model of an arm."""
    return replace_in(PRESETS[tier.preset], {**tier.changes, **ARMS[arm]})


def controls(model: Model, data: Data, simulator: Simulator, objective: Any, samples: int) -> dict[str, Controller]:
    """Return the controls by name."""
    limits, horizon = (simulator.action_low, simulator.action_high), model.config.windows.steps - 1
    alone = replace_in(PlanConfig(), {"samples": 1, "search.temperature": 0.0, "warm_start": False})

    def mpc(kind: Any) -> SamplingMPC:
        settings = kind(samples=samples, horizon=horizon)
        return SamplingMPC(true_dynamics(simulator), objective, model.slices, *limits, settings)

    return {
        "cloning": clone(read_windows(data), updates=4000),
        "greedy": Planned(Planner(model, objective, alone)),
        "random codes": RandomCodes(model),
        "mppi": mpc(MPPI),
        "cem": mpc(CEM),
    }


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
    if "10 % of the data" in results:
        ordered = [np.mean([mean(name, o) for o in planner]) for name in ("10 % of the data", "2 codes")]
        found["data: more of it, a higher return"] = bool(ordered[1] > ordered[0])
    return found


def interval(returns: list[float]) -> Interval:
    """Return the mean and its 95 % bootstrap interval."""
    return stratified_bootstrap(np.asarray(returns), "mean", reps=2000)


def last_error(folder: Path) -> float:
    """Return the held-out error of actions at the end of an autoencoder's run, averaged over seeds."""
    import json

    rows = [json.loads(line) for line in (folder / "autoencoder" / "metrics.jsonl").read_text().splitlines()]
    held_out = [row["action_error"] for row in rows if row["split"] == "held_out"]
    return float(np.mean(held_out[-1]))


def run_tier(tier: Tier, runs: Path, only: list[str] | None, save: Any) -> tuple[Results, dict[str, float]]:
    """Train and measure all arms, saving after each."""
    simulator = Simulator(find_body("HalfCheetah-v5"))
    path = runs / "motion.npz"
    if not path.exists():
        behaviours = read_behaviours(shipped("HalfCheetah-v5"))
        motion = make_motion(simulator, behaviours, steps=tier.data, episode=500, seed=0, parts=runs / "parts")
        motion.save(path)
    results: Results = {}
    errors: dict[str, float] = {}
    for arm in only or tier.arms:
        data = Data(path=str(path), model=settings_of(arm, tier))
        folder = runs / arm.replace(" ", "_").replace("%", "percent")
        models = fit(data, folder, progress=False, log_every=5)
        errors[arm] = last_error(folder)
        for seed, model in enumerate(models):
            for name in tier.objectives:
                objective, asked = OBJECTIVES[name], {"episodes": tier.episodes, "steps": tier.steps, "seed": 1 + seed}
                planner = Planner(model, objective, PlanConfig(samples=tier.samples))
                add(results, arm, name, measure(simulator, Planned(planner), objective, **asked))
                if arm == "2 codes":
                    for rival, controller in controls(model, data, simulator, objective, tier.samples).items():
                        add(results, rival, name, measure(simulator, controller, objective, **asked))
                print(f"{arm}, seed {seed}, {name}", file=sys.stderr, flush=True)
            save(results, errors)
    return results, errors


def main(argv: list[str] | None = None) -> int:
    """Run a tier; 0 if its claims hold, or if it has none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hgap.claims", description=__doc__.splitlines()[0])
    parser.add_argument("--tier", choices=list(TIERS), default="cpu")
    parser.add_argument("--runs", type=Path, help="where data and models are kept; left out: a temporary folder")
    parser.add_argument("--only", nargs="*", choices=list(ARMS), help="some of the arms, '2 codes' among them")
    args = parser.parse_args(argv)
    tier = TIERS[args.tier]
    origin = record("benchmarks.hgap.claims", sys.argv[1:] if argv is None else argv, ["jax", "mujoco", "hgap"])

    def save(results: Results, errors: Mapping[str, float], claims: Json | None = None) -> None:
        if args.tier != "smoke":
            name = f"hgap-{args.tier}" + ("-only" if args.only else "")
            write_result(name, {"record": origin, "results": results, "action_errors": errors, "claims": claims})

    with tempfile.TemporaryDirectory() as temporary:
        results, errors = run_tier(tier, args.runs or Path(temporary), args.only, save)
    claims = verdicts(results, errors) if tier.claims else {}
    save(results, errors, claims)
    rows = [[name, *(_cell(cells[o]["returns"]) for o in tier.objectives)] for name, cells in results.items()]
    print(table(rows, ["mean return (95 %)", *tier.objectives]))
    print(f"held-out error of actions: {errors}")
    for claim, holds in claims.items():
        print(f"{'holds' if holds else 'FAILS'}: {claim}")
    return 0 if all(claims.values()) else 1


def _cell(returns: list[float]) -> str:
    found = interval(returns)
    return f"{found.point:.1f} ({found.low:.1f} .. {found.high:.1f})"


if __name__ == "__main__":
    sys.exit(main())
