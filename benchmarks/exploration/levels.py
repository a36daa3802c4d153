"""Which scores chase levels that pay a coin flip? Prioritised level replay in minimax-ued, a fifth of the levels noise.

    python -m benchmarks.exploration.levels --tier smoke|cpu|gpu

A noisy level looks like any other maze, and whatever the student does there, its episode ends after eight steps with a
reward of 1 or 0 by a fair coin. The number of each arm is the share of the replay distribution that noisy levels have,
averaged over the second half of training, seed by seed; uniform replay gives them their share of the buffer, which for
fresh random levels is a fifth.

The prediction, as claims that can fail: L1 value loss, MaxMC and learnability give noise more
than its share; regret and learnability minus those of a reference that knows each level's optimum do not.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from matplotlib.figure import Figure

from benchmarks.harness import Json, figure_path, record, table, write_result
from generalized_exploration import criterion
from generalized_exploration.criteria.catalogue import Criterion
from generalized_exploration.levels import evidence_of
from minimax_ued import PRESETS, UEDTrainer
from minimax_ued.envs.base import Timestep
from minimax_ued.envs.maze import Maze
from minimax_ued.replay.buffer import LevelBuffer
from minimax_ued.replay.scores import Rollout, register_score
from paperloop.settings import replace_in
from paperloop_lab.plots import legend, new_figure, save_figure, style
from paperloop_lab.stats import stratified_bootstrap

__all__ = ["ARMS", "NoisyMaze", "main", "verdicts"]

NOISE = 0.2
LENGTH = 8
FAIR = 0.5

#: Arm -> whether noise should have more than its share.
ARMS = {
    "uniform": None,
    "l1_value_loss": True,
    "positive_value_loss": None,
    "max_mc": True,
    "learnability": True,
    "relative_regret": False,
    "reducible_learnability": False,
}
TIERS: dict[str, dict[str, Any]] = {
    "smoke": {"seeds": 2, "cycles": 3, "arms": ("uniform", "reducible_learnability")},
    "cpu": {"seeds": 3, "cycles": 150},
    "gpu": {"seeds": 10, "cycles": 8000},
}


class NoisyLevel(struct.PyTreeNode):
    """A maze, and whether it pays a coin flip instead."""

    maze: Any
    noisy: jax.Array


class NoisyState(struct.PyTreeNode):
    """The maze's state, and steps so far."""

    maze: Any
    steps: jax.Array


class NoisyMaze:
    """Mazes of which a share pays a fair coin flip after `LENGTH` steps, whatever the student does."""

    def __init__(self, maze: Maze) -> None:
        self.maze = maze
        self.num_actions, self.max_steps = maze.num_actions, maze.max_steps
        self.success_return = 0.0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NoisyMaze) and self.maze == other.maze

    def __hash__(self) -> int:
        return hash((NoisyMaze, self.maze))

    def sample_level(self, key: jax.Array) -> NoisyLevel:
        maze, coin = jax.random.split(key)
        return NoisyLevel(self.maze.sample_level(maze), jax.random.bernoulli(coin, NOISE))

    def prepare(self, level: NoisyLevel) -> NoisyLevel:
        return level.replace(maze=self.maze.prepare(level.maze))

    def reset(self, key: jax.Array, level: NoisyLevel) -> NoisyState:
        return NoisyState(self.maze.reset(key, level.maze), jnp.zeros((), jnp.int32))

    def step(
        self, key: jax.Array, level: NoisyLevel, state: NoisyState, action: jax.Array
    ) -> tuple[NoisyState, Timestep]:
        ours, coin = jax.random.split(key)
        maze, found = self.maze.step(ours, level.maze, state.maze, action)
        over = state.steps + 1 >= LENGTH
        paid = jax.random.bernoulli(coin, FAIR).astype(jnp.float32) * over
        return NoisyState(maze, state.steps + 1), Timestep(
            reward=jnp.where(level.noisy, paid, found.reward),
            terminated=jnp.where(level.noisy, over, found.terminated),
            truncated=jnp.where(level.noisy, False, found.truncated),
        )

    def observe(self, level: NoisyLevel, state: NoisyState) -> Any:
        return self.maze.observe(level.maze, state.maze)

    def optimal_return(self, level: NoisyLevel) -> jax.Array:
        return jnp.where(level.noisy, FAIR, self.maze.optimal_return(level.maze))

    def level_hash(self, level: NoisyLevel) -> jax.Array:
        return self.maze.level_hash(level.maze) ^ level.noisy.astype(jnp.uint32)

    def same_level(self, a: NoisyLevel, b: NoisyLevel) -> jax.Array:
        return self.maze.same_level(a.maze, b.maze) & (a.noisy == b.noisy)

    def level_metrics(self, level: NoisyLevel) -> Mapping[str, jax.Array]:
        return {**self.maze.level_metrics(level.maze), "noisy": level.noisy.astype(jnp.float32)}


def _evidence_score(name: str) -> str:
    """Register a criterion as a score under the name of this benchmark. The optimum says how often it succeeds."""
    one: Criterion = criterion(name)
    needs = "reference" in " ".join(one.needs)
    title = f"noisy_levels_{name}"

    @register_score(title, needs_optimum=needs)
    def score(rollout: Rollout) -> jax.Array:
        evidence = evidence_of(rollout)
        if needs:
            optimal = rollout.optimal_returns
            # A maze's optimum is above .5 or 0, where it has no solution; a coin's is exactly .5.
            rate = jnp.where(optimal == FAIR, FAIR, (optimal > 0).astype(jnp.float32))
            evidence = type(evidence)(**(evidence.given() | {"reference_success_rate": rate}))
        return one(evidence)

    return title


def train(arm: str, tier: Mapping[str, Any], seed: int) -> Json:
    """Return the share of replay that noise has at each cycle, seed by seed, and what share of the buffer it has."""
    score = _evidence_score(arm) if arm not in _SCORES else _SCORES[arm]
    _SCORES[arm] = score
    # Equal scores share their ranks, so that the arm without scores replays at random.
    # Four episodes or more of a rollout: with one, a maze is solved always or never, and p (1 - p) is 0.
    shape = {"env.max_steps": 32, "rollout_steps": 128, "n_envs": 64}
    own = {"method.buffer.score": score, "method.buffer.ties": "share", "seeds": tier["seeds"]}
    config = replace_in(PRESETS["small_plr"], own | shape)
    trainer = UEDTrainer(config, env=NoisyMaze(Maze(config.env)))
    buffer = LevelBuffer(config.method.buffer, trainer.env.level_hash, trainer.env.same_level)
    state = trainer.init(seed)
    shares, held = [], []

    @jax.jit
    @jax.vmap  # over seeds
    @jax.vmap  # over students, of which there is one
    def measured(content: Any) -> tuple[jax.Array, jax.Array]:
        noisy = content.levels.noisy * content.filled
        return (buffer.weights(content) * noisy).sum(), noisy.sum() / jnp.maximum(content.filled.sum(), 1)

    for _ in range(max(1, tier["cycles"] // config.cycles_per_step)):
        state, _ = trainer.step(state)
        share, part = measured(state.buffer)
        shares.append(np.asarray(share)[:, 0])
        held.append(np.asarray(part)[:, 0])
    half = len(shares) // 2
    return {
        "replay": np.mean(shares[half:], 0).tolist(), "buffer": np.mean(held[half:], 0).tolist(),
        "curve": np.stack(shares).T.tolist(),
    }  # fmt: skip


_SCORES: dict[str, str] = {}


def verdicts(found: Mapping[str, Json]) -> dict[str, bool]:
    """Return claim -> whether it holds in every seed."""
    claims = {}
    for arm, attracted in ARMS.items():
        if attracted is None or arm not in found:
            continue
        shares = np.asarray(found[arm]["replay"])
        what = "more" if attracted else "no more"
        claims[f"{arm}: noise has {what} than its share of the replay"] = bool(
            (shares > NOISE).all() if attracted else (shares <= NOISE).all()
        )
    return claims


def draw(found: Mapping[str, Json]) -> Figure:
    """Return the mean share of noise in the replay over a run, and thin lines for single seeds."""
    figure, axes = new_figure(8, 4)
    for number, (arm, result) in enumerate(found.items()):
        looks = style(number)
        axes.plot(np.mean(result["curve"], 0), lw=2, label=arm.replace("_", " "), **looks)
        for seed in result["curve"]:
            axes.plot(seed, lw=0.7, alpha=0.5, **looks)
    axes.axhline(NOISE, color="#888888", lw=1, ls=":")
    axes.set(xlabel="dispatches", ylabel="share of replay that noisy levels have", ylim=(0, 1))
    legend(axes)
    return figure


def main(argv: list[str] | None = None) -> int:
    """Run a tier; 0 if its claims hold, or if it has none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exploration.levels")
    parser.add_argument("--tier", choices=list(TIERS), default="cpu")
    parser.add_argument("--runs", help="not used: these runs are short")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    tier, found = TIERS[args.tier], {}
    for arm in tier.get("arms", ARMS):
        start = time.process_time()
        found[arm] = train(arm, tier, args.seed)
        said = f"{arm}: {np.mean(found[arm]['replay']):.3f} in {time.process_time() - start:.0f} CPU-s"
        print(said, file=sys.stderr, flush=True)
    rows = []
    for arm, result in found.items():
        interval = stratified_bootstrap(np.asarray(result["replay"]), "mean")
        rows.append(
            [arm, f"{interval.point:.3f} [{interval.low:.3f}, {interval.high:.3f}]", f"{np.mean(result['buffer']):.3f}"]
        )
    print(table(rows, ["score", "noise's share of replay", "of the buffer"]))
    claims = verdicts(found) if args.tier != "smoke" else {}
    for claim, holds in claims.items():
        print(f"{'holds' if holds else 'FAILS'}: {claim}")
    if args.tier != "smoke":
        name = f"exploration_levels-{args.tier}"
        origin = record("benchmarks.exploration.levels", sys.argv[1:] if argv is None else argv, ["jax", "minimax-ued"])
        write_result(name, {"record": origin, "noise": NOISE, "arms": found, "claims": claims})
        save_figure(draw(found), figure_path(name))
    return 0 if all(claims.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
