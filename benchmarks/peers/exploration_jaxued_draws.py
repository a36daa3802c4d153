"""jaxued's replay draws as a contestant: 32 levels out of 4,000 slots, one after another, as its sampler does."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxued.level_sampler import LevelSampler
from serve import serve

SLOTS, DRAWS, REPEATS = 4000, 32, 50


def setup() -> tuple[dict, object]:
    """Fill a sampler, compile, and return what one trial does."""
    sampler = LevelSampler(
        SLOTS, staleness_coeff=0.3, prioritization="rank", prioritization_params={"temperature": 0.3}
    )
    state = sampler.initialize(jnp.zeros(4), {"max_return": jnp.zeros(())})
    scores = jax.random.uniform(jax.random.key(0), (SLOTS,))
    state["scores"], state["size"] = scores, jnp.asarray(SLOTS, jnp.int32)
    state["timestamps"] = (jnp.arange(SLOTS) * 7919) % SLOTS
    state["episode_count"] = jnp.asarray(SLOTS, jnp.int32)
    weights = [float(w) for w in sampler.level_weights(state)[:200]]
    draw = jax.jit(lambda state, key: sampler.sample_replay_levels(state, key, DRAWS))
    jax.block_until_ready(draw(state, jax.random.PRNGKey(0)))

    def trial() -> dict:
        for index in range(REPEATS):
            jax.block_until_ready(draw(state, jax.random.PRNGKey(index)))
        return {"work": REPEATS * DRAWS}

    return {"weights": weights, "jax": jax.__version__}, trial


if __name__ == "__main__":
    serve(setup)
