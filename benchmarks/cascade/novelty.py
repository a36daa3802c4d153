"""Is the ensemble's disagreement novelty? What explorers would be paid, after more and more updates of the model.

    python -m benchmarks.cascade.novelty               # a few minutes of one core

2,000 random steps in four rooms are collected and the model of `benchmarks.cascade.rooms` is trained on them, with two
step sizes. Then random walks that mostly go forward are followed by the model, and the disagreement about each of their
steps is compared with how often the step's view and action had been seen, and between actions that move and those that
change nothing in an empty room (pick up, drop, toggle, done).

Claims, each of which can fail, after the last update: disagreement falls with the number of times that a step was seen,
and is larger about steps that move than about those that change nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import figure_path, record, table, write_result
from cascade_explore.config import FourRooms, Random, TrainConfig, WorldModel
from cascade_explore.deploy import replay
from cascade_explore.deploy.collect import collect
from cascade_explore.explore.policies import Discrete
from cascade_explore.trainer import ExploreTrainer, TrainState
from cascade_explore.world.losses import disagreement
from cascade_explore.world.model import features
from paperloop_lab.plots import legend, new_figure

Json = dict[str, Any]
STEP_SIZES = (1e-3, 3e-3)
MOVES = 3  # left, right and forward are the first actions
FORWARD = (0.15, 0.15, 0.5, 0.05, 0.05, 0.05, 0.05)  # probabilities of the walks' actions


class Walk:
    """A policy that mostly goes forward, whatever it sees."""

    def policy(self, actors: Any, feat: jax.Array) -> Discrete:
        """Return the same distribution everywhere."""
        return Discrete(jnp.broadcast_to(jnp.log(jnp.array(FORWARD)), (*feat.shape[:-1], len(FORWARD))))


def settings(lr: float) -> TrainConfig:
    """Return one random deployment, and training on it."""
    world = WorldModel(deter=64, hidden=64, units=64, length=16, lr=lr, ensemble_lr=lr)
    return TrainConfig(env=FourRooms(), world=world, explorer=Random(), deployments=1, env_steps=2000, envs=4,
                       updates=4000, updates_per_step=500)  # fmt: skip


def tokens(observation: np.ndarray, action: np.ndarray) -> list[bytes]:
    """Return a name for each view `[N, T, n]` with the action that is taken in it, `[N, T + 1]` (row t led to t)."""
    views, acts = observation[:, :-1], action[:, 1:]
    return [o.tobytes() + bytes([a]) for o, a in zip(views.reshape(-1, views.shape[-1]), acts.ravel(), strict=True)]


def walked(trainer: ExploreTrainer, state: Any, key: jax.Array) -> tuple[replay.Rows, jax.Array]:
    """Return walks `[T, N, ...]` and the disagreement about each step, `[T - 1, N]`."""
    env, world, steps = trainer.env, trainer.world, 81
    rows = collect(
        env, world, Walk(), state.world, None, key, agents=1, envs=64, steps=steps, uniform=jnp.bool_(False)  # ty: ignore
    ).rows  # fmt: skip
    batch = replay.to_batch(rows, env.actions)
    states, _, _ = world.follow(state.world, batch, key)
    return rows, disagreement(world.predict(state.ensemble, features(states)[:-1], batch.action[1:]))


def measure(seen: Counter, rows: replay.Rows, about: np.ndarray) -> Json:
    """Return disagreement by how often a step was seen, its correlation with that, and by kind of action."""
    known = ~rows.first[:, 1:].ravel()
    count = np.array([seen[token] for token in tokens(rows.observation, rows.action)])[known]
    about, action = about.ravel()[known], rows.action[:, 1:].ravel()[known]
    return {
        "never seen": about[count == 0].mean(),
        "seen ten times": about[count >= 10].mean(),
        "correlation": np.corrcoef(np.log1p(count), about)[0, 1],
        "moves": about[action < MOVES].mean(),
        "changes nothing": about[action >= MOVES].mean(),
    }


def study(lr: float, seed: int) -> list[Json]:
    """Return the measures after each dispatch of updates."""
    trainer = ExploreTrainer(settings(lr))
    probe = jax.jit(lambda state: walked(trainer, state, jax.random.key(1)))
    state: TrainState = trainer.step(trainer.init(seed))[0]
    stored = jax.device_get(jax.tree.map(lambda x: x[0, 0], state.replay))
    pairs = zip(tokens(stored.observation, stored.action), ~stored.first[:, 1:].ravel(), strict=True)
    seen, found = Counter(token for token, known in pairs if known), []
    for _ in range(1, trainer.config.dispatches):
        state, shown = trainer.step(state)
        rows, about = jax.device_get(probe(jax.tree.map(lambda x: x[0], state)))
        rows = jax.tree.map(lambda x: np.swapaxes(x, 0, 1), rows)
        row = {"updates": trainer.progress(state)["updates"], **measure(seen, rows, about.T)}
        found.append(row | {"ensemble_loss": float(shown["ensemble_loss"][0])})
        print(lr, {name: round(float(value), 4) for name, value in found[-1].items()}, file=sys.stderr, flush=True)
    return found


def main(argv: list[str] | None = None) -> int:
    """Print and write the measures; 0 if the claims hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cascade.novelty", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    origin = record("benchmarks.cascade.novelty", sys.argv[1:] if argv is None else argv, ["jax", "cascade-explore"])
    numbers = {f"{lr:g}": study(lr, args.seed) for lr in STEP_SIZES}
    names = list(numbers["0.001"][0])
    rows = [[lr, *(f"{row[name]:.3g}" for name in names)] for lr, found in numbers.items() for row in found]
    print(table(rows, ["step size", *names]))
    claims: dict[str, bool] = {}
    for lr, found in numbers.items():
        claims[f"{lr}: less about what was seen more"] = bool(found[-1]["correlation"] < 0)
        claims[f"{lr}: more about steps that move"] = bool(found[-1]["moves"] > found[-1]["changes nothing"])
    for claim, holds in claims.items():
        print(f"{'holds' if holds else 'FAILS'}: {claim}")
    write_result("cascade_novelty", {"record": origin, "step_sizes": numbers, "claims": claims})
    figure, axes = new_figure(5.6, 3.8)
    for i, (lr, found) in enumerate(numbers.items()):
        for name, style in (("moves", "-"), ("changes nothing", ":")):
            axes.plot([r["updates"] for r in found], [r[name] for r in found], style, color=f"C{i}",
                      label=f"{name}, step size {lr}")  # fmt: skip
    axes.set_xlabel("updates of the model")
    axes.set_ylabel("disagreement")
    legend(axes)
    figure.savefig(figure_path("cascade_novelty"), dpi=150)
    return 0 if all(claims.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
