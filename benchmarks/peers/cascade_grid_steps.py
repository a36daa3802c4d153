"""Random steps of xminigrid's four rooms, one measured trial per line: `python cascade_grid_steps.py ENVS STEPS`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from serve import serve


def setup() -> tuple[dict[str, Any], Any]:
    """Compile `STEPS` steps of `ENVS` environments that start again by themselves; views are 7 x 7 x 2."""
    import jax
    import xminigrid
    from xminigrid.wrappers import GymAutoResetWrapper

    envs, steps = int(sys.argv[1]), int(sys.argv[2])
    env, params = xminigrid.make("MiniGrid-FourRooms")
    env = GymAutoResetWrapper(env)
    count = env.num_actions(params)

    def step(states: Any, key: Any) -> tuple[Any, Any]:
        actions = jax.random.randint(key, (envs,), 0, count)
        states = jax.vmap(env.step, (None, 0, 0))(params, states, actions)
        return states, states.observation.sum()

    @jax.jit
    def play(key: Any) -> Any:
        one, two = jax.random.split(key)
        states = jax.vmap(env.reset, (None, 0))(params, jax.random.split(one, envs))
        return jax.lax.scan(step, states, jax.random.split(two, steps))[1].sum()

    key = jax.random.key(0)
    play(key).block_until_ready()

    def trial() -> dict[str, Any]:
        play(key).block_until_ready()
        return {"work": envs * steps}

    return {"environments": envs, "actions": count}, trial


if __name__ == "__main__":
    serve(setup)
