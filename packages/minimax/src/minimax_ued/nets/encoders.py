"""What turns an observation into a vector: a convolution over an image next to embeddings, or a dense layer."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from minimax_ued.nets.products import Linear, product

__all__ = ["ConvEncoder", "DenseEncoder", "MapEncoder"]

_SQRT2 = 2.0**0.5


def _convolve(kernel: Array, bias: Array, image: Array) -> Array:
    """Convolve (3x3, VALID, ReLU): `[..., H, W, C]` -> `[..., (H-2)(W-2) filters]`."""
    *leading, rows, columns, _ = image.shape
    # The nine shifted views side by side turn the convolution into one matrix product, which a vmap over seeds
    # keeps a (batched) matrix product; a vmapped convolution would become a grouped one, slow on CPU.
    patches = jnp.concatenate(
        [image[..., i : rows - 2 + i, j : columns - 2 + j, :] for i in range(3) for j in range(3)], axis=-1
    )
    features = nn.relu(product(patches, kernel.reshape(-1, kernel.shape[-1])) + bias)
    return features.reshape(*leading, -1)


def _rows(table: Array, index: Array) -> Array:
    """Return the rows of `table [n, D]` that `index [...]` names, `[..., D]`; an index outside takes the nearest row.

    As a product with one-hot vectors: the gradient of a gather is a scatter, which GPUs do not add up in the same
    order twice. Exact, because each sum has a single term and the product is asked for in full precision.
    """
    chosen = jax.nn.one_hot(jnp.clip(index, 0, table.shape[0] - 1), table.shape[0], dtype=table.dtype)
    return jnp.matmul(chosen, table, precision=jax.lax.Precision.HIGHEST)


class ConvEncoder(nn.Module):
    """3x3 convolution over the view, flattened, next to an embedding of the direction.

    An observation with `image [..., v, v, C]` and `direction [...]` -> `[..., (v-2)^2 filters + embedding]`.

    Attributes:
        filters: of the convolution.
        direction_embedding: width of the embedding.
    """

    filters: int
    direction_embedding: int

    @nn.compact
    def __call__(self, observation: Any) -> Array:
        """Encode observations with any leading axes."""
        image = observation.image
        kernel_shape = (3, 3, image.shape[-1], self.filters)
        kernel = self.param("kernel", nn.initializers.orthogonal(_SQRT2), kernel_shape)
        bias = self.param("bias", nn.initializers.zeros, (self.filters,))
        features = _convolve(kernel, bias, image)
        table = nn.Embed(4, self.direction_embedding, embedding_init=nn.initializers.orthogonal()).embedding
        return jnp.concatenate([features, _rows(table, observation.direction)], axis=-1)


class MapEncoder(nn.Module):
    """3x3 convolution over a whole map, flattened, next to an embedding of the step, and noise.

    An observation with `image [..., H+2, W+2, C]`, `time [...]` and `noise [..., n]` ->
    `[..., H W filters + embedding + n]`.

    Attributes:
        filters: of the convolution.
        channels: C.
        num_steps: rows of the embedding; a later step takes the last one.
        time_embedding: width of the embedding.
    """

    filters: int
    channels: int
    num_steps: int
    time_embedding: int

    def setup(self) -> None:
        """Create the parameters (flax)."""
        kernel_shape = (3, 3, self.channels, self.filters)
        self.kernel = self.param("kernel", nn.initializers.orthogonal(_SQRT2), kernel_shape)
        self.bias = self.param("bias", nn.initializers.zeros, (self.filters,))
        self.times = self.param("times", nn.initializers.orthogonal(), (self.num_steps, self.time_embedding))

    def __call__(self, observation: Any) -> Array:
        """Encode observations with any leading axes."""
        features = _convolve(self.kernel, self.bias, observation.image)
        return jnp.concatenate([features, self.extras(observation)], axis=-1)

    def extras(self, observation: Any) -> Array:
        """Encode all but the map: `[..., embedding + n]`."""
        return jnp.concatenate([_rows(self.times, observation.time), observation.noise], axis=-1)


class DenseEncoder(nn.Module):
    """One ReLU layer over a vector, `[..., n]` -> `[..., width]`.

    Attributes:
        width: units.
    """

    width: int

    @nn.compact
    def __call__(self, observation: Array) -> Array:
        """Encode observations with any leading axes."""
        kernel_init = nn.initializers.orthogonal(_SQRT2)
        return nn.relu(Linear(self.width, kernel_init)(observation.astype(jnp.float32)))
