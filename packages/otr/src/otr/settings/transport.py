"""Settings of the transport problem: what moving one vector onto another costs, and how the problem is solved."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from paperloop.settings import Count, Positive, settings

__all__ = [
    "Backend", "Converged", "CosineCost", "CostConfig", "EuclideanCost", "ExactConfig", "OttConfig", "Parity",
    "RegisteredCost", "SinkhornConfig", "SolverConfig", "SquaredEuclideanCost",
]  # fmt: skip

Backend = Literal["auto", "numba", "jax", "reference"]


@settings
class CosineCost:
    """1 - <x, y>/(|x||y| + 1e-8). An all-zero vector has cost 1 to everything.

    Attributes:
        context: the cost of a pair is the mean over this many steps from it on, in both sequences at once; the last
            step is repeated at the end. TemporalOT (Fu et al. 2024) uses 3.
    """

    type: Literal["cosine"] = "cosine"
    context: Count = 1


@settings
class SquaredEuclideanCost:
    """|x - y|^2.

    Attributes:
        context: see `CosineCost`.
    """

    type: Literal["sqeuclidean"] = "sqeuclidean"
    context: Count = 1


@settings
class EuclideanCost:
    """|x - y|."""

    type: Literal["euclidean"] = "euclidean"


@settings
class RegisteredCost:
    """A cost of your own.

    Attributes:
        name: under which `otr.optimal_transport.costs.register_cost` knows it.
    """

    type: Literal["registered"] = "registered"
    name: str


CostConfig = Annotated[
    CosineCost | SquaredEuclideanCost | EuclideanCost | RegisteredCost, Field(discriminator="type")
]  # fmt: skip


@settings
class Parity:
    """A fixed number of iterations, however far the columns are then from their marginal: the published definition.

    Attributes:
        iterations: from zero potentials, columns first.
    """

    type: Literal["parity"] = "parity"
    iterations: Count = 100


@settings
class Converged:
    """Iterations until the columns meet their marginal, by over-relaxation where that helps.

    Attributes:
        tolerance: of Σ_j |column sum_j - 1/T'|, which is at most 2.
        max_iterations: where they end at the latest.
    """

    type: Literal["converged"] = "converged"
    tolerance: Positive = 1e-4
    max_iterations: Count = 20_000


@settings
class SinkhornConfig:
    """Entropic transport by Sinkhorn's iterations.

    Attributes:
        backend: "numba" (compiled CPU code, extra `numba`), "jax" (CPU or GPU), "reference" (float64 NumPy, slow), or
            "auto": jax where JAX's default device is a GPU, else numba if installed, else jax.
        mode: when the iterations stop.
        epsilon: strength of the entropy, in units of the cost.
        band: only steps at most so far from the diagonal may be matched, in steps (TemporalOT: 10); None for all.
        rho_agent: strength of the Kullback-Leibler penalty on the agent's marginal; None keeps the marginal hard.
        rho_demo: that on the demonstration's, so that parts of it may stay unmatched; towards 0 each step is matched
            to its nearest ones.
        kernel_dtype: how "jax" stores exp(-C/eps). "bfloat16" needs half the memory traffic, and moves expected
            costs by about 0.004 epsilon.
    """

    type: Literal["sinkhorn"] = "sinkhorn"
    backend: Backend = "auto"
    mode: Annotated[Parity | Converged, Field(discriminator="type")] = Parity()
    epsilon: Positive = 0.01
    band: Count | None = None
    rho_agent: Positive | None = None
    rho_demo: Positive | None = None
    kernel_dtype: Literal["float32", "bfloat16"] = "float32"


@settings
class ExactConfig:
    """No entropy: assignment by SciPy, network simplex by POT (extra `pot`)."""

    type: Literal["exact"] = "exact"


@settings
class OttConfig:
    """ott-jax itself (extra `ott`), which stops where the marginal error falls below 1e-9.

    Attributes:
        epsilon: strength of the entropy, in units of the cost.
        iterations: at most.
    """

    type: Literal["ott"] = "ott"
    epsilon: Positive = 0.01
    iterations: Count = 100


SolverConfig = Annotated[SinkhornConfig | ExactConfig | OttConfig, Field(discriminator="type")]
