"""How fast is the grid on the device next to `minigrid`, which it equals? Random steps, in turn, in one process.

    python -m benchmarks.cascade.speed --rounds 5

Both walk in MiniGrid's four rooms from the same layout, with the view made at every step and a reset when an episode
ends. Ours steps 64 environments at once, minigrid one. The rate that counts is steps per second of processor time.
That the steps are the same is what `packages/cascade/tests/test_grid.py` checks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import InProcess, Json, alternate, record, table, write_result
from cascade_explore.envs.grid import GridState, make_grid
from cascade_explore.envs.layouts import from_minigrid

CLAIM = 20.0
ENVS, STEPS, PEER_STEPS = 64, 1000, 4000


def _minigrid() -> gymnasium.Env:
    import minigrid  # noqa: F401  # registers its environments

    env = gymnasium.make("MiniGrid-FourRooms-v0", disable_env_checker=True)
    env.reset(seed=0)
    return env


def ours() -> tuple[Json, Callable[[], Json]]:
    """Return a trial of `ENVS` x `STEPS` steps on the device."""
    grid = make_grid([from_minigrid(_minigrid())], limit=100)

    def step(states: GridState, key: jax.Array) -> tuple[GridState, jax.Array]:
        action = jax.random.randint(key, (ENVS,), 0, 7)
        after, _, terminal, cut = jax.vmap(grid.step)(states, action)
        fresh = jax.vmap(grid.reset)(jax.random.split(key, ENVS))
        over = terminal | cut
        states = jax.tree.map(lambda a, b: jnp.where(over.reshape(-1, *[1] * (a.ndim - 1)), a, b), fresh, after)
        return states, jax.vmap(grid.observe)(states).sum(dtype=jnp.int32)

    @jax.jit
    def play(key: jax.Array) -> jax.Array:
        one, two = jax.random.split(key)
        states = jax.vmap(grid.reset)(jax.random.split(one, ENVS))
        return jax.lax.scan(step, states, jax.random.split(two, STEPS))[1].sum()

    key = jax.random.key(0)
    play(key).block_until_ready()

    def trial() -> Json:
        play(key).block_until_ready()
        return {"work": ENVS * STEPS}

    return {"environments": ENVS}, trial


def peers() -> tuple[Json, Callable[[], Json]]:
    """Return a trial of `PEER_STEPS` steps of minigrid."""
    env = _minigrid()
    actions = np.random.default_rng(0).integers(0, 7, PEER_STEPS)

    def trial() -> Json:
        for action in actions:
            _, _, terminal, cut, _ = env.step(int(action))
            if terminal or cut:
                env.reset(seed=0)
        return {"work": PEER_STEPS}

    return {"environments": 1}, trial


def main(argv: list[str] | None = None) -> int:
    """Measure and write the result; 0 if the ratio is at least what is claimed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cascade.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args(argv)
    comparison, _ = alternate([InProcess("cascade-explore", ours), InProcess("minigrid", peers)], args.rounds)
    ratio = comparison.ratio("cascade-explore", "minigrid", "cpu_s")
    rows = [[name, f"{comparison.rate(name, 'cpu_s'):,.0f}"] for name in ("cascade-explore", "minigrid")]
    print(table(rows, ["grid", "steps per CPU-second"]))
    print(f"{ratio}; claimed at least {CLAIM:.0f}x")
    origin = record("benchmarks.cascade.speed", sys.argv[1:] if argv is None else argv, ["jax", "minigrid"])
    result = {"record": origin, "ratio": str(ratio), "claim": CLAIM, "trials": comparison.trials}
    write_result("cascade_speed", {**result, "holds": ratio.median >= CLAIM})
    return 0 if ratio.median >= CLAIM else 1


if __name__ == "__main__":
    sys.exit(main())
