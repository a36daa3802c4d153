"""Simplified state-space layers with resets, S5 (Smith, Warrington and Linderman 2023, arXiv 2208.04933).

A layer maps a sequence u_t of width H to one of the same width, through P complex states:

    x_t = Λ̄ x_{t-1} + B̄ u_t,    Λ̄ = exp(Λ Δ),  B̄ = Λ^-1 (Λ̄ - 1) B̃          (zero-order hold, equation 6)
    y_t = 2 Re(C̃ x_t) + D u_t                                               (section 3.2; conjugate symmetry)
    v_t = gelu(y_t),  w_t = u_t + v_t sigmoid(W v_t + b)                    (half_glu1)

and a layer normalisation, of w ("post") or of the u that goes into the first two lines ("pre"). Λ starts as the
eigenvalues of the normal part of HiPPO-LegS, in blocks. The state is zeroed where an episode starts (Lu et al. 2023,
arXiv 2303.03982).

All matrix products are real and are taken for the whole sequence at once; only the elementwise recurrence is left to
`minimax_ued.nets.recurrent.linear_recurrence`.
"""

from __future__ import annotations

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from minimax_ued.config import S5Config
from minimax_ued.nets.products import Linear, product
from minimax_ued.nets.recurrent.gates import keep_mask
from minimax_ued.nets.recurrent.linear_recurrence import linear_recurrence, rotate

__all__ = ["S5Core", "S5Layer", "hippo"]


@lru_cache
def hippo(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Diagonalise the normal part of the HiPPO-LegS matrix of even `size` = N.

    With A_{nk} = -sqrt(2n+1) sqrt(2k+1) below the diagonal and -(n+1) on it, and p_n = sqrt(n + 1/2), the sum A + p pᵀ
    is -1/2 plus a skew-symmetric matrix (appendix B.1.1).

    Returns:
        Λ, complex128 `[N/2]`, of each pair of conjugate eigenvalues the one with negative imaginary part; and the
        eigenvectors V, complex128 `[N, N/2]`.
    """
    root = np.sqrt(2 * np.arange(size) + 1.0)
    below = np.tril(np.outer(root, root), -1)
    skew = (below.T - below) / 2
    imaginary, vectors = np.linalg.eigh(-1j * skew)
    half = size // 2
    return -0.5 + 1j * imaginary[:half], vectors[:, :half]


def _parts(z: Array) -> Array:
    """Real and imaginary parts on a new axis before the last."""
    return jnp.stack([z.real, z.imag], axis=-2)


class S5Layer(nn.Module):
    """One layer; see the module's text.

    Attributes:
        features: H.
        config: sizes and initial values.
    """

    features: int
    config: S5Config

    def setup(self) -> None:
        """Create the parameters (flax)."""
        width, config = self.features, self.config
        states = config.state // 2
        eigenvalues, vectors = hippo(config.state // config.blocks)
        basis = np.kron(np.eye(config.blocks), vectors)  # block-diagonal, [2P, P]
        lecun = nn.initializers.lecun_normal()

        def spread(values: np.ndarray):
            return lambda _: jnp.asarray(np.tile(values, config.blocks), jnp.float32)

        def input_matrix(key: Array) -> Array:
            """B̃ = V^-1 B, real and imaginary parts: `[2, P, H]`."""
            b = lecun(key, (config.state, width))
            return jnp.stack([np.float32(basis.real).T @ b, -np.float32(basis.imag).T @ b])

        def output_matrix(key: Array) -> Array:
            """C̃ = C V, `[2, H, P]`; the scale of C is that of lecun_normal on `[H, 2P, 2]`, as in the reference."""
            c = lecun(key, (width, config.state, 2))
            product = (c[..., 0] + 1j * c[..., 1]) @ jnp.asarray(basis, jnp.complex64)
            return jnp.stack([product.real, product.imag])

        def log_step(key: Array) -> Array:
            low, high = np.log(config.dt_min), np.log(config.dt_max)
            return jax.random.uniform(key, (states,), minval=low, maxval=high)

        self.Lambda_re = self.param("Lambda_re", spread(eigenvalues.real))
        self.Lambda_im = self.param("Lambda_im", spread(eigenvalues.imag))
        self.B = self.param("B", input_matrix)
        self.C = self.param("C", output_matrix)
        self.D = self.param("D", nn.initializers.normal(1.0), (width,))
        self.log_step = self.param("log_step", log_step)
        self.gate = Linear(width, lecun)
        self.norm = nn.LayerNorm()

    def discretise(self) -> tuple[Array, Array]:
        """Return Λ̄ `[2, P]` and B̄ as the kernel of a real product, `[H, 2P]`."""
        eigenvalues = self.Lambda_re + 1j * self.Lambda_im
        exponent = eigenvalues * jnp.exp(self.log_step)
        # expm1, because the smallest exponents are of order 1e-3, where exp - 1 keeps four digits in float32.
        kernel = (self.B[0] + 1j * self.B[1]).T * (jnp.expm1(exponent) / eigenvalues)
        return _parts(jnp.exp(exponent)), _parts(kernel).reshape(self.features, -1)

    def _drive(self, u: Array, kernel: Array) -> Array:
        return product(u, kernel).reshape(*u.shape[:-1], 2, -1)

    def _output(self, u: Array, states: Array) -> Array:
        kernel = 2 * jnp.concatenate([self.C[0].T, -self.C[1].T])  # [2P, H]
        y = product(states.reshape(*u.shape[:-1], -1), kernel) + self.D * u
        y = nn.gelu(y)
        return y * nn.sigmoid(self.gate(y))

    def step(self, carry: Array, u: Array, resets: Array) -> tuple[Array, Array]:
        """Take one step: `carry [B, 2, P]`, `u [B, H]`, `resets` bool `[B]`."""
        normed = self.norm(u) if self.config.norm == "pre" else u
        a, kernel = self.discretise()
        carry = keep_mask(resets, carry)[..., None] * rotate(a, carry) + self._drive(normed, kernel)
        return carry, self._close(u + self._output(normed, carry))

    def __call__(self, carry: Array, u: Array, resets: Array) -> tuple[Array, Array]:
        """Take a sequence of steps: as `step`, with `u [T, B, H]` and `resets [T, B]`."""
        normed = self.norm(u) if self.config.norm == "pre" else u
        a, kernel = self.discretise()
        carry, states = linear_recurrence(a, carry, self._drive(normed, kernel), resets)
        return carry, self._close(u + self._output(normed, states))

    def _close(self, w: Array) -> Array:
        return self.norm(w) if self.config.norm == "post" else w


class S5Core(nn.Module):
    """A linear map to `features` and S5 layers as a recurrent core; see `minimax_ued.nets.recurrent.cores`.

    The memory is f32 `[B, layers, 2, P]`: the states of all layers, real and imaginary parts.

    Attributes:
        features: H.
        inputs: D.
        config: sizes and initial values of the layers.
    """

    features: int
    inputs: int
    config: S5Config

    def setup(self) -> None:
        """Create the layers (flax)."""
        self.embed = Linear(self.features, nn.initializers.orthogonal())
        self.layers = [S5Layer(self.features, self.config) for _ in range(self.config.layers)]

    def initial_carry(self, batch: int) -> Array:
        """Return the empty memory: zeros `[B, layers, 2, P]`."""
        return jnp.zeros((batch, self.config.layers, 2, self.config.state // 2))

    def step(self, carry: Array, inputs: Array, resets: Array) -> tuple[Array, Array]:
        """Take one step."""
        x, later = self.embed(inputs), []
        for i, layer in enumerate(self.layers):
            state, x = layer.step(carry[:, i], x, resets)
            later.append(state)
        return jnp.stack(later, axis=1), x

    def __call__(self, carry: Array, inputs: Array, resets: Array) -> tuple[Array, Array]:
        """Take a sequence of steps."""
        x, later = self.embed(inputs), []
        for i, layer in enumerate(self.layers):
            state, x = layer(carry[:, i], x, resets)
            later.append(state)
        return jnp.stack(later, axis=1), x
