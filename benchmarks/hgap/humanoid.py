"""Does one model from a humanoid's motion beat controllers that own the true dynamics? The paper's first claim.

    python -m benchmarks.hgap.humanoid --tier smoke              # a minute: nothing is learned
    python -m benchmarks.hgap.humanoid --tier cpu --runs FOLDER  # a day of one core; continues when killed
    python -m benchmarks.hgap.humanoid --tier gpu --runs FOLDER

Body: gymnasium's Humanoid-v5. Motion: policies that policy-finetune's SAC learns to run forwards, backwards and to
stand (the environment's reward with a forward weight of 1.25, -1.25 and 0), kept at several grades, switched at random
and with noise; then one model of it. The planner is compared with MPPI and the cross-entropy method, which simulate as
many samples over as many steps with the true dynamics, and with cloning, greedy decoding and random codes. Episodes end
by a fall, so lengths are reported next to returns.

The claim (Jiang et al., ICLR 2024, their poster: 40 or 46 for H-GAP, 12.5 for MPPI, means over six tasks of another
humanoid): the planner's mean over objectives is above those of MPPI and of the cross-entropy method.
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
from benchmarks.hgap.claims import Results, add, controls, interval
from hgap.config import PRESETS, Data, PlanConfig
from hgap.data.behaviours import Behaviours
from hgap.data.motion import make_motion
from hgap.envs.bodies import find_body
from hgap.envs.objectives import OBJECTIVES
from hgap.envs.simulator import Simulator
from hgap.evaluation.episodes import measure
from hgap.fitting import fit
from hgap.planner.plan import Planner
from hgap.rivals.controllers import Planned
from paperloop import run
from paperloop.settings import replace_in
from policy_finetune import LEARNERS, EnvSpec, OnlineConfig, OnlineTrainer, SwitchConfig, export_policy, load_policies

__all__ = ["TIERS", "main", "verdicts"]

BODY = "Humanoid-v5"
#: Behaviour -> weight of the forward velocity in the environment's reward.
BEHAVIOURS = {"forward": 1.25, "backward": -1.25, "stand": 0.0}
PLAIN = {f"include_{name}_in_observation": False for name in ("cinert", "cvel", "qfrc_actuator", "cfrc_ext")}


@dataclasses.dataclass(frozen=True)
class Tier:
    """How long is learned, how much motion is made, and how it is measured."""

    env_steps: int
    random_steps: int
    grades: int
    motion: int
    preset: str
    changes: Mapping[str, Any]
    objectives: tuple[str, ...]
    episodes: int
    steps: int
    samples: int = 64
    claims: bool = True


_ALL = ("forward", "backward", "left", "speed", "stop", "turn", "jump")
TIERS = {
    "smoke": Tier(
        600, 300, 1, 500, "tiny", {"autoencoder.updates": 50, "prior.updates": 50}, ("forward",), 2, 4, 8, claims=False
    ),
    "cpu": Tier(
        300_000, 10_000, 3, 300_000, "small", {"seeds": 3, "autoencoder.updates": 12_000, "prior.updates": 8000}, _ALL,
        5, 300,
    ),
    "gpu": Tier(
        2_000_000, 10_000, 5, 2_000_000, "small", {"seeds": 3, "autoencoder.updates": 60_000, "prior.updates": 40_000,
        "autoencoder.size.width": 256, "prior.size.width": 256, "autoencoder.codes.per_step": 4}, _ALL, 20, 400, 256,
    ),
}  # fmt: skip


class Learned:
    """Policies of policy-finetune, as `hgap.data.behaviours.Policies`."""

    def __init__(self, policies: list[Any]) -> None:
        self._policies, self.size = policies, len(policies)

    def begin(self, copies: int) -> None:
        """Do nothing: they have no memory."""

    def choose(self, chosen: np.ndarray, states: np.ndarray) -> np.ndarray:
        """Return actions [B, A] for states [B, S] of the policies with the numbers `chosen`."""
        every = np.stack([policy.predict(states.astype(np.float32)) for policy in self._policies])
        return every[chosen, np.arange(len(states))]


def learn(name: str, tier: Tier, folder: Path) -> list[Any]:
    """Return the policies of one behaviour, a grade after equal shares of the steps each; continues what is there."""
    spec = EnvSpec.of(BODY, {**PLAIN, "forward_reward_weight": BEHAVIOURS[name]})
    config = OnlineConfig(
        learner=LEARNERS["sac"], env_steps=tier.env_steps, random_env_steps=tier.random_steps,
        switch=SwitchConfig(warmup_env_steps=0), eval_env_steps=tier.env_steps,
    )  # fmt: skip
    trainer = OnlineTrainer(config, spec)
    grades = []
    for grade in range(1, tier.grades + 1):
        path = folder / f"{name}-{grade}.npz"
        if not path.exists():
            steps = trainer.num_steps * grade // tier.grades
            state = run(trainer, folder / name, steps=steps, seed=0, log_every=100, save_minutes=10.0)
            export_policy(trainer.policy(state).agent(0), path)
        grades.append(load_policies(path)[0].agent(0))
    return grades


def motion_file(tier: Tier, simulator: Simulator, runs: Path) -> Path:
    """Return the file with the motion, made if it is not there."""
    path = runs / "motion.npz"
    if not path.exists():
        learned = {name: learn(name, tier, runs / "policies") for name in BEHAVIOURS}
        names = tuple(f"{name}/{i + 1}" for name, grades in learned.items() for i in range(len(grades)))
        policies = Learned([policy for grades in learned.values() for policy in grades])
        behaviours = Behaviours(BODY, names, policies, "python -m benchmarks.hgap.humanoid")
        make_motion(simulator, behaviours, steps=tier.motion, episode=500, seed=0, parts=runs / "parts").save(path)
    return path


def verdicts(results: Results) -> dict[str, bool]:
    """Return claim -> whether it holds."""

    def mean(name: str) -> float:
        return float(np.mean([np.mean(cell["returns"]) for cell in results[name].values()]))

    return {f"dynamics: a higher mean return than {name}'s": mean("hgap") > mean(name) for name in ("mppi", "cem")}


def main(argv: list[str] | None = None) -> int:
    """Run a tier; 0 if its claims hold, or if it has none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hgap.humanoid", description=__doc__.splitlines()[0])
    parser.add_argument("--tier", choices=list(TIERS), default="cpu")
    parser.add_argument(
        "--runs", type=Path, help="where policies, data and models are kept; left out: a temporary folder"
    )
    args = parser.parse_args(argv)
    tier, simulator, results = TIERS[args.tier], Simulator(find_body(BODY)), {}
    with tempfile.TemporaryDirectory() as temporary:
        runs = args.runs or Path(temporary)
        data = Data(path=str(motion_file(tier, simulator, runs)), model=replace_in(PRESETS[tier.preset], tier.changes))
        for seed, model in enumerate(fit(data, runs / "model", progress=False)):
            for name in tier.objectives:
                planner = Planner(model, OBJECTIVES[name], PlanConfig(samples=tier.samples))
                rivals = controls(model, data, simulator, OBJECTIVES[name], tier.samples)
                for rival, controller in {"hgap": Planned(planner), **rivals}.items():
                    asked = {"episodes": tier.episodes, "steps": tier.steps, "seed": 1 + seed}
                    add(results, rival, name, measure(simulator, controller, OBJECTIVES[name], **asked))
                print(f"seed {seed}, {name}", file=sys.stderr, flush=True)
    claims: Json = verdicts(results) if tier.claims else {}
    rows = [[rival, *(_cell(cells[o]) for o in tier.objectives)] for rival, cells in results.items()]
    print(table(rows, ["mean return (95 %), mean length", *tier.objectives]))
    for claim, holds in claims.items():
        print(f"{'holds' if holds else 'FAILS'}: {claim}")
    if args.tier != "smoke":
        origin = record("benchmarks.hgap.humanoid", sys.argv[1:] if argv is None else argv, ["jax", "mujoco", "hgap"])
        write_result(f"hgap_humanoid-{args.tier}", {"record": origin, "results": results, "claims": claims})
    return 0 if all(claims.values()) else 1


def _cell(cell: dict[str, list[float]]) -> str:
    found = interval(cell["returns"])
    return f"{found.point:.1f} ({found.low:.1f} .. {found.high:.1f}), {np.mean(cell['lengths']):.0f}"


if __name__ == "__main__":
    sys.exit(main())
