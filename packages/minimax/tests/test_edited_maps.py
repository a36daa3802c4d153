"""The first product of a teacher over edited maps against the same product taken densely."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimax_ued.nets.edited_maps import edited_map_product

T, B, H, W, C, F, N = 40, 5, 6, 7, 2, 4, 8


@jax.jit
def dense(images, kernel, bias, weights):
    windows = [images[:, :, i : H - 2 + i, j : W - 2 + j] for i in range(3) for j in range(3)]
    features = jax.nn.relu(jnp.concatenate(windows, -1) @ kernel.reshape(-1, F) + bias)
    return features.reshape(T, B, -1) @ weights


edited = jax.jit(edited_map_product)


def maps(rng, cells):
    """Sequences of maps; `cells(rng)` -> the cell that the next step changes, or None."""
    images = np.zeros((T, B, H, W, C), np.float32)
    images[0] = rng.random((B, H, W, C))
    for t in range(1, T):
        images[t] = images[t - 1]
        for b in range(B):
            cell = cells(rng)
            if cell is not None:
                images[t, b, cell // W, cell % W] = rng.random(C)
    return jnp.asarray(images)


SEQUENCES = {
    "anywhere, corners and border too, with pauses": lambda rng: rng.integers(H * W) if rng.random() < 0.8 else None,
    "always the same cell": lambda rng: 2 * W + 3,  # a single position gets all rows, more than a block holds
    "nothing": lambda rng: None,
}


NAMES = [n if "pauses" in n else pytest.param(n, marks=pytest.mark.slow) for n in sorted(SEQUENCES)]


@pytest.mark.parametrize("name", NAMES)
def test_it_equals_the_dense_product_and_so_do_its_gradients(name):
    rng = np.random.default_rng(0)
    images = maps(rng, SEQUENCES[name])
    weights = [
        jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((3, 3, C, F), (F,), ((H - 2) * (W - 2) * F, N))
    ]
    wanted = jnp.asarray(rng.normal(size=(T, B, N)), jnp.float32)
    np.testing.assert_allclose(edited(images, *weights), dense(images, *weights), rtol=1e-5, atol=1e-4)

    def gradients(function):
        return jax.jit(jax.grad(lambda *w: (function(images, *w) * wanted).sum(), (0, 1, 2)))(*weights)

    for ours, theirs in zip(*jax.device_get((gradients(edited), gradients(dense))), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * float(np.abs(theirs).max()))


def test_maps_that_differ_in_more_than_a_cell_are_not_passed_over():
    rng = np.random.default_rng(1)
    images = maps(rng, SEQUENCES["nothing"]).at[3:, 2, 1, 1].add(1.0).at[3:, 2, 4, 5].add(1.0)
    y = edited(images, jnp.ones((3, 3, C, F)), jnp.zeros(F), jnp.ones(((H - 2) * (W - 2) * F, N)))
    assert np.isnan(y).all()


@pytest.mark.slow
def test_seeds_side_by_side():
    rng = np.random.default_rng(2)
    images = jnp.stack([maps(rng, SEQUENCES["always the same cell"]), maps(rng, SEQUENCES["nothing"])])
    weights = [
        jnp.asarray(rng.normal(size=(2, *shape)), jnp.float32)
        for shape in ((3, 3, C, F), (F,), ((H - 2) * (W - 2) * F, N))
    ]
    together = jax.jit(jax.vmap(edited_map_product))(images, *weights)
    for i in range(2):
        np.testing.assert_allclose(together[i], dense(images[i], *(w[i] for w in weights)), rtol=1e-5, atol=1e-4)
