"""Criteria as pure functions: evidence about n items in, n scores out. Higher means: train on it sooner.

Each works on NumPy's and on JAX's arrays, under `jit` and `vmap`. Sources are named where a criterion has one; the
table of which criterion is right about what is in `criteria/catalogue.py`.
"""

from __future__ import annotations

from typing import Any

from generalized_exploration.criteria.evidence import namespace

__all__ = [
    "disagreement", "entropy", "gradient_norm", "grounding", "l1_value_loss", "learnability", "learning_progress",
    "least_confidence", "margin", "max_mc", "negative_irreducible_loss", "novelty_by_count", "novelty_by_distance",
    "positive_value_loss", "reducible_learnability", "reducible_loss", "relative_regret", "softmax",
]  # fmt: skip


def softmax(logits: Any) -> Any:
    """Probabilities along the last axis."""
    xp = namespace(logits)
    shifted = xp.exp(logits - xp.max(logits, axis=-1, keepdims=True))
    return shifted / xp.sum(shifted, axis=-1, keepdims=True)


def _entropy(p: Any) -> Any:
    xp = namespace(p)
    return -xp.sum(xp.where(p > 0, p * xp.log(xp.where(p > 0, p, 1.0)), 0.0), axis=-1)


def _mean_over_steps(x: Any, mask: Any) -> Any:
    """Mean over the steps that count, [n, T] -> [n]; 0 where none does."""
    xp = namespace(x, mask)
    if mask is None:
        return xp.mean(x, axis=-1)
    return xp.sum(xp.where(mask > 0, x, 0.0), axis=-1) / xp.maximum(xp.sum(mask, axis=-1), 1)


def gradient_norm(logits: Any, labels: Any) -> Any:
    """|softmax(z) - onehot(y)|_2, which bounds the norm of the loss's gradient (Katharopoulos and Fleuret 2018)."""
    xp = namespace(logits)
    p = softmax(logits)
    onehot = (labels[..., None] == xp.arange(logits.shape[-1])).astype(p.dtype)
    return xp.sqrt(xp.sum((p - onehot) ** 2, axis=-1))


def entropy(logits: Any) -> Any:
    """H(p) in nats."""
    return _entropy(softmax(logits))


def margin(logits: Any) -> Any:
    """1 - (p1 - p2): how close the two likeliest classes are."""
    top = namespace(logits).sort(softmax(logits), axis=-1)
    return 1.0 - (top[..., -1] - top[..., -2])


def least_confidence(logits: Any) -> Any:
    """1 - max p."""
    return 1.0 - namespace(logits).max(softmax(logits), axis=-1)


def disagreement(probabilities: Any) -> Any:
    """H(mean_m p_m) - mean_m H(p_m), the mutual information of BALD (Houlsby et al. 2011), at least 0.

    Args:
        probabilities: [m, n, C].
    """
    xp = namespace(probabilities)
    return xp.maximum(_entropy(xp.mean(probabilities, axis=0)) - xp.mean(_entropy(probabilities), axis=0), 0.0)


def reducible_loss(loss: Any, reference_loss: Any) -> Any:
    """L - l_ref, the reducible holdout loss (Mindermann et al. 2022, eq. 3)."""
    return loss - reference_loss


def negative_irreducible_loss(reference_loss: Any) -> Any:
    """-l_ref."""
    return -reference_loss


def learning_progress(previous_loss: Any, loss: Any, elapsed: Any) -> Any:
    """(l_prev - l) / steps between."""
    return (previous_loss - loss) / elapsed


def l1_value_loss(advantages: Any, mask: Any = None) -> Any:
    """mean_t |A_t| (Jiang, Grefenstette and Rocktaeschel 2021, table 1)."""
    return _mean_over_steps(abs(advantages), mask)


def positive_value_loss(advantages: Any, mask: Any = None) -> Any:
    """mean_t max(A_t, 0) (Jiang, Dennis et al. 2021, section 4)."""
    return _mean_over_steps(namespace(advantages).maximum(advantages, 0.0), mask)


def max_mc(best_return: Any, values: Any, mask: Any = None) -> Any:
    """mean_t (R_max - V_t), maximum Monte Carlo regret (Jiang, Dennis et al. 2021, section 4)."""
    return _mean_over_steps(best_return[..., None] - values, mask)


def learnability(success_rate: Any) -> Any:
    """P (1 - p) (Rutherford et al. 2024). A coin flip has the maximum, 1/4, like a level half learned."""
    return success_rate * (1.0 - success_rate)


def reducible_learnability(success_rate: Any, reference_success_rate: Any) -> Any:
    """max(p (1 - p) - q (1 - q), 0), q the success rate of a reference: what a coin flip scores is subtracted."""
    gap = learnability(success_rate) - learnability(reference_success_rate)
    return namespace(gap).maximum(gap, 0.0)


def relative_regret(reference_return: Any, mean_return: Any) -> Any:
    """R_ref - R, the level's form of the reducible loss."""
    return reference_return - mean_return


def novelty_by_count(visits: Any) -> Any:
    """1 / sqrt(1 + N): 1 for what was never seen."""
    return 1.0 / namespace(visits).sqrt(1.0 + visits)


def novelty_by_distance(features: Any, memory: Any, *, k: int = 5) -> Any:
    """Mean Euclidean distance to the k nearest rows of `memory`, [n, d] and [m, d] -> [n]."""
    xp = namespace(features, memory)
    squared = xp.sum((features[:, None, :] - memory[None, :, :]) ** 2, axis=-1)
    return xp.mean(xp.sqrt(xp.sort(squared, axis=-1)[:, : min(k, memory.shape[0])]), axis=-1)


def grounding(features: Any, exemplars: Any, *, width: float = 1.0) -> Any:
    """Mean Gaussian similarity exp(-|x - e|^2 / (2 width^2)) to exemplars e of what matters, in (0, 1]."""
    xp = namespace(features, exemplars)
    squared = xp.sum((features[:, None, :] - exemplars[None, :, :]) ** 2, axis=-1)
    return xp.mean(xp.exp(-squared / (2.0 * width**2)), axis=-1)
