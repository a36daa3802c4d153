"""What the model makes of what it saw, as a GIF: reconstructions first, then imagination along the same actions."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from PIL import Image

from cascade_explore.deploy import replay
from cascade_explore.envs.grid import OBSERVATION, VIEW
from cascade_explore.envs.pictures import draw_view
from cascade_explore.envs.spec import Numbers, Observed, Pixels
from cascade_explore.trainer import ExploreTrainer
from cascade_explore.world.losses import most_probable
from cascade_explore.world.model import Latents, features
from cascade_explore.world.nets import apply
from paperloop.files import write_atomically

__all__ = ["dream", "save_dream"]


def to_images(observation: Array, kind: Observed) -> Array:
    """Return observations `[..., n]`, pixels or a grid's symbols, as images uint8 `[..., 64, 64, C]`."""
    if isinstance(kind, Pixels):
        return observation.reshape(*observation.shape[:-1], 64, 64, kind.channels)
    views = jnp.moveaxis(observation[..., : 3 * VIEW * VIEW].reshape(-1, 3, VIEW, VIEW), 1, -1)
    return jax.vmap(draw_view)(views).reshape(*observation.shape[:-1], 64, 64, 3)


def dream(trainer: ExploreTrainer, params: Any, rows: replay.Rows, key: Array, *, context: int) -> Array:
    """Return what the model decodes along sequences, as images `[T, N, 64, 64, C]`.

    Args:
        trainer: whose model.
        params: of it.
        rows: `[T, N, ...]`.
        key: of latents.
        context: steps that it sees; from there on it only knows the actions.
    """
    world = trainer.world
    batch = replay.to_batch(rows, trainer.env.actions)
    one, two = jax.random.split(key)
    states, _, _ = world.follow(params, jax.tree.map(lambda x: x[:context], batch), one)

    def step(state: Latents, row: tuple[Array, Array]) -> tuple[Latents, Latents]:
        state = world.imagine(params, state, *row)
        return state, state

    rest = batch.action[context:]
    last = jax.tree.map(lambda x: x[-1], states)
    imagined = jax.lax.scan(step, last, (rest, jax.random.split(two, len(rest))))[1]
    states = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), states, imagined)
    output = apply(world.decoder, params["decoder"], features(states))
    if isinstance(world.observation, Pixels):
        seen = jnp.clip((output + 0.5) * 255.0, 0, 255).astype(jnp.uint8)
    else:
        seen = most_probable(output, OBSERVATION)
    return to_images(seen, world.observation)


def save_dream(
    trainer: ExploreTrainer, state: Any, path: Path, *, context: int = 5, length: int = 25, count: int = 6
) -> Path | None:
    """Write a GIF of sequences of the first seed: above what was seen, below what the model makes of it.

    A white bar marks the frames that the model saw. Sequences are those of 200 drawn with the fewest borders between
    episodes, which imagination does not know of. Returns None where observations are not images.
    """
    if isinstance(trainer.world.observation, Numbers):
        return None
    length = min(length, trainer.config.stream_steps)
    one = jax.tree.map(lambda x: x[0], state.replay)
    filled = jnp.int32(1 + (int(state.done[0]) - 1) // trainer.config.dispatches)
    key = jax.random.key(0)
    rows = replay.draw(one, filled, key, batch=200, length=length)
    whole = jnp.argsort(rows.first[1:].sum(0), stable=True)[:count]
    rows = jax.tree.map(lambda x: x[:, whole], rows)
    params = jax.tree.map(lambda x: x[0], state.world)
    made = jax.jit(lambda p, r, k: dream(trainer, p, r, k, context=min(context, length)))(params, rows, key)
    true, made = (np.asarray(x) for x in (to_images(rows.observation, trainer.world.observation), made))
    frames = []
    for t in range(length):
        bar = np.full((4, 66 * count, true.shape[-1]), 255 if t < context else 0, np.uint8)
        above, below = (np.pad(x[t], ((0, 0), (1, 1), (1, 1), (0, 0))) for x in (true, made))
        frame = np.concatenate([np.concatenate(list(above), 1), bar, np.concatenate(list(below), 1)])
        image = Image.fromarray(frame if frame.shape[-1] == 3 else frame[..., 0])
        frames.append(image.resize((2 * image.width, 2 * image.height), Image.Resampling.NEAREST))
    with io.BytesIO() as buffer:
        frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=250, loop=0)
        write_atomically(path, buffer.getvalue())
    return path
