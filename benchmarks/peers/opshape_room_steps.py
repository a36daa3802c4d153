"""Random steps of InTheMatrix, one measured trial per line: `python opshape_room_steps.py ours|jaxmarl GAMES STEPS`.

Actions are drawn alike in both; each step is followed by the observations of both players, which are summed so that
nothing can be left out.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from serve import serve


def setup() -> tuple[dict[str, Any], Any]:
    import jax
    import jax.numpy as jnp

    who, games, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if who == "ours":
        from opshape.games.in_the_matrix import DECODE, InTheMatrix

        game = InTheMatrix()
        # for each channel, the codes of a view that it shows, as bits; bit 0 is for -1, nothing
        channels = jnp.asarray([sum(2 ** (code + 1) for code in range(9) if DECODE[code, c]) for c in range(10)])

        def begin(key: Any) -> Any:
            return game.reset(jax.random.uniform(key, (games, game.reset_noise)))

        def step(state: Any, key: Any) -> tuple[Any, Any]:
            u = jax.random.uniform(key, (games, 2 + game.step_noise))
            actions = (u[:, :2] * 5).astype(jnp.int32)
            state, rewards = game.step(state, (actions[:, 0], actions[:, 1]), u[:, 2:])
            total = sum(rewards).sum()
            for seen in game.observe(state):
                # the same ten-channel image as the peer's, of integers too
                image = (channels >> (seen["view"][..., None] + 1)) & 1
                total += image.sum() + seen["inventory"].sum()
            return state, total
    else:
        from jaxmarl.environments.storm.storm_2p import InTheGrid_2p

        env = InTheGrid_2p(num_inner_steps=152, num_outer_steps=1_000_000)

        def begin(key: Any) -> Any:
            return jax.vmap(env.reset)(jax.random.split(key, games))[1]

        def step(state: Any, key: Any) -> tuple[Any, Any]:
            actions = jax.random.randint(key, (2, games), 0, 5)
            seen, state, rewards, _, _ = jax.vmap(env.step_env)(
                jax.random.split(key, games), state, (actions[0], actions[1])
            )
            total = sum(rewards).sum()
            for one in seen:
                total += one["observation"].sum() + one["inventory"].sum()
            return state, total

    @jax.jit
    def run(state: Any, key: Any) -> Any:
        return jax.lax.scan(step, state, jax.random.split(key, steps))

    state = [jax.jit(begin)(jax.random.key(0))]
    state[0], _ = jax.block_until_ready(run(state[0], jax.random.key(1)))

    def trial() -> dict[str, Any]:
        state[0], total = jax.block_until_ready(run(state[0], jax.random.key(2)))
        return {"work": games * steps, "seen": float(total.mean() / games)}

    return {}, trial


if __name__ == "__main__":
    serve(setup)
