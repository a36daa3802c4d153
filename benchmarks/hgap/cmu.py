"""One model of the 56-joint CMU humanoid, from motion without recordings: does it plan postures, and as well as MPPI?

    python -m benchmarks.hgap.cmu --tier smoke              # seconds, most of them for the stances
    python -m benchmarks.hgap.cmu --tier cpu --runs FOLDER  # half an hour of one core; continues when killed

Motion: the stances of `hgap.data.scripted`, between which the body goes under noise on its controls; what is written
are the controls before noise, as MoCapAct's mean actions. How long it stays up on the way to each and back, and how
closely it follows (the tracking reward of `hgap.envs.tracking`), is measured first. Then one model of motion that
switches between them at random, and plans for postures, next to controls that know no objective and to MPPI, which
simulates as many samples over as many steps with the true dynamics. Its plans begin in the middle of the joints'
ranges, or, with less noise, in the controls that hold the first stance ("from the stance"). The row "scripted" is the
policy of the stance that serves an objective, led there at once and without noise: about the best that the motion has
to show.

Episodes end by a fall and every reward is positive while the body is upright, so falling costs. The claims:

- steering: on every objective the planner's interval lies above the means of cloning, greedy decoding and random codes;
- dynamics (the paper's first): the planner's mean over objectives is above MPPI's.
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

from benchmarks.harness import Json, figure_path, record, table, write_result
from benchmarks.hgap.claims import Results, add, controls, draw, interval
from hgap.config import PRESETS, Data, PlanConfig
from hgap.data.behaviours import Behaviours
from hgap.data.motion import Switching, make_motion
from hgap.data.scripted import GOALS, Scripted, scripted
from hgap.envs.bodies import find_body
from hgap.envs.objectives import Objective, Trajectory, Weighted, near
from hgap.envs.simulator import Simulator
from hgap.envs.tracking import features, tracking_reward
from hgap.evaluation.episodes import measure
from hgap.fitting import fit
from hgap.loading import Model
from hgap.planner.plan import Planner
from hgap.rivals.controllers import Controller, Planned
from hgap.rivals.sampling_mpc import MPPI, SamplingMPC, true_dynamics
from paperloop.errors import UserError
from paperloop.files import write_json
from paperloop.settings import read_json, replace_in

__all__ = ["TIERS", "follow", "main", "objectives", "verdicts"]

#: Standard deviations of the noise on the controls of the motion: half of MoCapAct's, and as much.
NOISE = (0.05, 0.1)
#: What is measured in fewer episodes.
SIMULATED = ("mppi", "mppi from the stance")
CONTROLS = ("cloning", "greedy", "random codes", "scripted", *SIMULATED)
#: Objective -> the stance that serves it.
STANCES = {
    "stand": "stand", "crouch": "crouch/2", "tall": "stand", "right arm": "right_arm", "both arms": "both_arms",
    "turn": "turn_left",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Tier:
    """Which stances, how much motion, which model, and how it is measured."""

    stances: tuple[str, ...]
    episodes_followed: int
    steps_followed: int
    motion: int
    episode: int
    preset: str
    changes: Mapping[str, Any]
    objectives: tuple[str, ...]
    names: tuple[str, ...]
    episodes: int
    simulated: int
    steps: int
    samples: int = 64
    claims: bool = True


_ALL = ("stand", "crouch", "tall", "right arm", "both arms", "turn")
TIERS = {
    "smoke": Tier(
        ("stand",), 2, 6, 100, 8, "tiny", {"autoencoder.updates": 50, "prior.updates": 50}, ("crouch",),
        ("hgap", "greedy", "mppi from the stance"), 1, 1, 2, 4, claims=False,
    ),
    "cpu": Tier(
        tuple(GOALS), 8, 240, 80_000, 300, "small", {"autoencoder.codes.per_step": 4, "autoencoder.updates": 1500,
        "autoencoder.action_weight": 50.0, "autoencoder.optimiser.lr": 2e-3, "prior.updates": 1000}, _ALL,
        ("hgap", *CONTROLS), 6, 1, 100,
    ),
}  # fmt: skip


def objectives(simulator: Simulator) -> dict[str, Objective]:
    """Return objectives by name: a posture, and half the vertical component of the body's up axis."""
    model = simulator.model
    start = simulator.body.slices["joints_pos"][0]
    at = {model.actuator(i).name: start + i for i in range(model.nu)}

    def raised(*sides: int) -> Objective:
        """Height of the forearms' upper ends above the root, m; mean of the sides 0, right, and 1, left."""

        def term(trajectory: Trajectory) -> Any:
            places, up = trajectory["end_effectors_pos"], trajectory["world_zaxis"]
            heights = [(places[..., 3 * side : 3 * side + 3] * up).sum(-1) for side in sides]
            return sum(heights[1:], heights[0]) / len(sides)

        return term

    def turned(trajectory: Trajectory) -> Any:
        """How far the trunk is turned to the left against the pelvis, rad."""
        return sum(trajectory.states[..., at[f"{part}ry"]] for part in ("lowerback", "upperback", "thorax"))

    postures: dict[str, dict[str | Objective, float]] = {
        "stand": {"stillness": 1.0, near("height", 1.12, 0.1): 1.0}, "crouch": {near("height", 0.95, 0.1): 1.0},
        "tall": {near("height", 1.15, 0.1): 1.0}, "right arm": {raised(0): 1.0}, "both arms": {raised(0, 1): 1.0},
        "turn": {turned: 1.0},
    }  # fmt: skip
    return {name: Weighted({**terms, "upright": 0.5}) for name, terms in postures.items()}


def follow(simulator: Simulator, behaviours: Behaviours, tier: Tier, noise: float) -> Json:
    """Return lengths, falls and tracking rewards of episodes for each behaviour: first stance, its own, and again."""
    policy, found = behaviours.policy, {}
    assert isinstance(policy, Scripted)
    copies, every = tier.episodes_followed, max(1, tier.steps_followed // 4)
    for number, name in enumerate(behaviours.names):
        rng = np.random.default_rng([7, number])
        states = simulator.reset(copies, rng)
        policy.begin(copies)
        standing, lengths, rewards = np.ones(copies, bool), np.zeros(copies), []
        for t in range(tier.steps_followed):
            goal = np.full(copies, number if t // every % 2 else 0)
            action = policy.choose(goal, simulator.observe(states))
            action = action + noise * rng.standard_normal(action.shape)
            states = np.where(standing[:, None], simulator.roll(states, action[:, None]).states[:, -1], states)
            lengths += standing
            reference = policy.reference()
            qpos, qvel = np.split(states[standing, 1 : 1 + 63 + 62], [63], 1)
            reference = reference[standing]
            reference[:, :3], reference[:, 3:7] = qpos[:, :3], qpos[:, 3:7]  # the root is free: nothing leads it
            pair = [features(simulator, pose, np.zeros_like(qvel)) for pose in (qpos, reference)]
            rewards += tracking_reward(*pair).tolist()
            standing &= ~simulator.fallen(states)
            if not standing.any():
                break
        found[name] = {
            "lengths": lengths.tolist(), "fell": (~standing).tolist(), "tracking_reward": float(np.mean(rewards))
        }  # fmt: skip
    return found


class Led:
    """The way to a stance, from the first one."""

    def __init__(self, simulator: Simulator, stance: str) -> None:
        self._policy = scripted(simulator, tuple(dict.fromkeys(("stand", stance)))).policy

    def begin(self, copies: int, seed: int) -> None:
        """Forget everything."""
        self._policy.begin(copies)

    def act(self, states: np.ndarray, observations: np.ndarray) -> np.ndarray:
        """Return actions [E, A] for observations [E, S]."""
        return self._policy.choose(np.full(len(states), self._policy.size - 1), observations)


def rival(name: str, asked: str, model: Model, data: Data, simulator: Simulator, tier: Tier) -> Controller:
    """Return the planner for an objective, or what it is compared with."""
    objective = objectives(simulator)[asked]
    if name == "scripted":
        return Led(simulator, STANCES[asked])
    if name == "hgap":
        return Planned(Planner(model, objective, PlanConfig(samples=tier.samples)))
    if not name.endswith("from the stance"):
        return controls(model, data, simulator, objective, tier.samples, (name,))[name]
    settings = MPPI(samples=tier.samples, horizon=model.config.windows.steps - 1, sigma=0.1)
    first = scripted(simulator, ("stand",)).policy
    assert isinstance(first, Scripted)
    limits = (simulator.action_low, simulator.action_high)
    return SamplingMPC(
        true_dynamics(simulator), objective, model.slices, *limits, settings, first=first.stances.controls[0]
    )


def verdicts(results: Results) -> dict[str, bool]:
    """Return claim -> whether it holds, on the objectives that both have been measured on."""
    found, ours = {}, results["hgap"]

    def mean(name: str, objective: str) -> float:
        return float(np.mean(results[name][objective]["returns"]))

    for name in ("cloning", "greedy", "random codes"):
        if name in results:
            above = [interval(ours[o]["returns"]).low > mean(name, o) for o in results[name]]
            found[f"steering: above {name} on every objective"] = all(above)
    for name in SIMULATED:
        if name in results:
            measured = results[name]
            shared = [np.mean([mean(which, o) for o in measured]) for which in ("hgap", name)]
            found[f"dynamics: a higher mean return than {name}"] = bool(shared[0] > shared[1])
    return found


def main(argv: list[str] | None = None) -> int:
    """Run a tier; 0 if its claims hold, or if it has none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hgap.cmu", description=__doc__.splitlines()[0])
    parser.add_argument("--tier", choices=list(TIERS), default="cpu")
    parser.add_argument("--runs", type=Path, help="where data, models and what is measured are kept; left out: a "
                        "temporary folder")  # fmt: skip
    parser.add_argument("--seeds", type=int, default=1, help="models, side by side")
    parser.add_argument("--only", nargs="+", choices=("hgap", *CONTROLS), help="measure these, for a later call with "
                        "the same --runs to join")  # fmt: skip
    parser.add_argument("--objectives", nargs="+", choices=_ALL, help="some of the tier's, with --only")
    parser.add_argument("--simulated", type=int, help="episodes of MPPI; left out: the tier's")
    args = parser.parse_args(argv)
    tier = TIERS[args.tier]
    tier = dataclasses.replace(
        tier, names=tuple(args.only or tier.names), simulated=args.simulated or tier.simulated,
        objectives=tuple(args.objectives or tier.objectives), changes={**tier.changes, "seeds": args.seeds},
    )  # fmt: skip
    try:
        simulator = Simulator(find_body("CMUHumanoid"))
    except UserError as error:
        parser.exit(2, f"{error}\n")
    with tempfile.TemporaryDirectory() as temporary:
        followed, results = run_tier(tier, simulator, args.runs or Path(temporary))
    claims = verdicts(results) if tier.claims and not args.only else {}
    if args.tier != "smoke" and not args.only:
        name, given = f"hgap_cmu-{args.tier}", sys.argv[1:] if argv is None else argv
        origin = record("benchmarks.hgap.cmu", given, ["jax", "mujoco", "hgap"])
        found: Json = {"record": origin, "followed": followed, "results": results, "claims": claims}
        write_result(name, found)
        draw(results, ours=("hgap",)).savefig(figure_path(name), dpi=150)
    rows = [[name, *(_followed(cells[name]) for cells in followed.values())] for name in tier.stances]
    print(table(rows, ["steps, fell, tracking reward", *followed]))
    rows = [[name, *(_cell(cells.get(o)) for o in tier.objectives)] for name, cells in results.items()]
    print(table(rows, ["mean return (95 %), fell, steps, reward a step", *tier.objectives]))
    for claim, holds in claims.items():
        print(f"{'holds' if holds else 'FAILS'}: {claim}")
    return 0 if all(claims.values()) else 1


def run_tier(tier: Tier, simulator: Simulator, runs: Path) -> tuple[Json, Results]:
    """Make motion and models, and measure; continues what is in `runs`."""
    runs.mkdir(parents=True, exist_ok=True)
    path, kept = runs / "motion.npz", runs / "followed.json"
    if not (path.exists() and kept.exists()):
        behaviours = scripted(simulator, tier.stances)
        if not path.exists():
            make_motion(
                simulator, behaviours, steps=tier.motion, episode=tier.episode, seed=0, parts=runs / "parts",
                switching=Switching(40, 120, NOISE, means=True),
            ).save(path)  # fmt: skip
        write_json(kept, {f"noise {noise}": follow(simulator, behaviours, tier, noise) for noise in NOISE})
    data = Data(path=str(path), model=replace_in(PRESETS[tier.preset], tier.changes))
    models = fit(data, runs / "model", progress=False, log_every=5)
    results: Results = {}
    wanted = objectives(simulator)
    for name in tier.names:
        for objective in tier.objectives:
            for seed, model in enumerate(models):
                cell = runs / "cells" / f"{name}-{objective}-{seed}.json".replace(" ", "_")
                if not cell.exists():
                    asked = {"steps": tier.steps, "seed": 1 + seed}
                    asked["episodes"] = tier.simulated if name in SIMULATED else tier.episodes
                    controller = rival(name, objective, model, data, simulator, tier)
                    one: Results = {}
                    add(one, name, objective, measure(simulator, controller, wanted[objective], **asked))
                    cell.parent.mkdir(exist_ok=True)
                    write_json(cell, one[name][objective])
                joined = results.setdefault(name, {}).setdefault(objective, {})
                for key, values in read_json(cell).items():
                    joined[key] = joined.get(key, []) + values
        print(f"{name} is measured", file=sys.stderr, flush=True)
    return read_json(kept), results


def _followed(cell: Json) -> str:
    return f"{np.mean(cell['lengths']):.0f}, {np.mean(cell['fell']):.0%}, {cell['tracking_reward']:.2f}"


def _cell(cell: Mapping[str, list[float]] | None) -> str:
    if cell is None:
        return "-"
    found = interval(cell["returns"])
    pace = np.sum(cell["returns"]) / np.sum(cell["lengths"])
    shown = f"{found.point:.0f} ({found.low:.0f} .. {found.high:.0f})"
    return f"{shown}, {np.mean(cell['fell']):.0%}, {np.mean(cell['lengths']):.0f}, {pace:.2f}"


if __name__ == "__main__":
    sys.exit(main())
