"""Images: the grid's view as one, the networks that see and draw them, and what bfloat16 changes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cascade_explore.config import Actor, FourRooms, Plan2Explore, TrainConfig, WorldModel
from cascade_explore.envs.grid import OBSERVATION, view
from cascade_explore.envs.pictures import draw_view
from cascade_explore.envs.spec import Actions, Pixels, Symbols
from cascade_explore.reports.dreams import save_dream, to_images
from cascade_explore.trainer import ExploreTrainer, make_env
from cascade_explore.world.model import Batch, World

WORLD = WorldModel(deter=8, groups=2, classes=3, hidden=8, units=8, layers=1, heads=2, batch=2, length=4, depth=1)
ACTOR = Actor(horizon=2, starts=4, units=8, layers=1)
TINY = TrainConfig(env=FourRooms(pixels=True), world=WORLD, explorer=Plan2Explore(actor=ACTOR), deployments=1,
                   env_steps=12, envs=2, updates=2, updates_per_step=2)  # fmt: skip


def test_the_view_is_drawn_tile_by_tile():
    grid = make_env(TINY)
    state = jax.tree.map(lambda x: x[0], grid.starts)
    symbols = np.asarray(view(state))
    image = np.asarray(draw_view(jnp.array(symbols)))
    assert image.shape == (64, 64, 3)
    np.testing.assert_array_equal(grid.observe(state), image.ravel())
    tiles = image[:63, :63].reshape(7, 9, 7, 9, 3).transpose(2, 0, 1, 3, 4)  # [x, y, row, column, 3]
    own = np.zeros((7, 7), bool)
    own[3, 6] = True  # where the agent is drawn
    looks = {}
    for x, y in zip(*np.nonzero(~own), strict=True):
        looks.setdefault(tuple(symbols[x, y]), set()).add(tiles[x, y].tobytes())
    assert all(len(same) == 1 for same in looks.values())  # equal symbols look alike
    assert len(set.union(*looks.values())) == len(looks)  # and others do not
    assert (tiles[symbols[..., 0] == 0] == 0).all()  # what is not seen is black


def test_symbols_and_pixels_show_the_same_picture():
    grid = make_env(TINY)
    symbols = jax.vmap(make_env(replace(TINY, env=FourRooms())).observe)(grid.starts)
    pixels = jax.vmap(grid.observe)(grid.starts)
    np.testing.assert_array_equal(to_images(symbols, OBSERVATION), to_images(pixels, Pixels(3)))


@pytest.mark.slow
def test_a_model_of_images_is_trained_and_dreams(tmp_path):
    trainer = ExploreTrainer(TINY)
    state = trainer.step(trainer.init(0))[0]
    assert state.replay.observation.shape == (1, 1, 2, 6, 64 * 64 * 3)
    before = jax.device_get(state.world)
    state, metrics = trainer.step(state)
    assert all(np.isfinite(value).all() for value in jax.device_get(metrics).values())
    for part in ("encoder", "decoder"):
        moved = jax.tree.map(lambda a, b: bool((a != b).all()), before[part], jax.device_get(state.world)[part])
        kernels = [value for layer in moved["params"].values() for name, value in layer.items() if name == "kernel"]
        assert any(kernels)
    from PIL import Image

    file = save_dream(trainer, state, tmp_path / "dream.gif", context=2, length=5, count=2)
    with Image.open(file) as image:
        assert 2 <= image.n_frames <= 5  # equal frames are joined
        assert image.size == (2 * 2 * 66, 2 * (2 * 66 + 4))


def test_bfloat16_keeps_parameters_and_losses_and_stays_close():
    kind, actions = Symbols(((3, 4),)), Actions(2, discrete=True)
    rng = np.random.default_rng(0)
    batch = Batch(
        jnp.array(rng.integers(0, 4, (5, 2, 3)), jnp.uint8), jax.nn.one_hot(rng.integers(0, 2, (5, 2)), 2),
        jnp.zeros((5, 2), bool), jnp.zeros((5, 2), bool),
    )  # fmt: skip
    found = {}
    for precision in ("float32", "bfloat16"):
        world = World(replace(WORLD, precision=precision), kind, actions)
        params = world.init(jax.random.key(0))
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
        loss, (states, _) = jax.jit(world.loss)(params, batch, jax.random.key(1))
        assert loss.dtype == states.h.dtype == jnp.float32
        found[precision] = float(loss)
    assert found["bfloat16"] == pytest.approx(found["float32"], rel=0.02)
    assert found["bfloat16"] != found["float32"]
