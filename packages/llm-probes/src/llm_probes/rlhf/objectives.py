"""The equations: advantages, clipped losses, KL estimators, preferences. Tensors in, tensors out.

`B` responses of `T` tokens; `mask` is 1 at a response's tokens, its end token included, and 0 after it.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

__all__ = [
    "Estimator",
    "best_of_n_kl",
    "clipped_surrogate",
    "clipped_value_loss",
    "gae",
    "kl_estimate",
    "masked_mean",
    "preference_loss",
    "token_rewards",
    "whiten",
]

Estimator = Literal["k1", "k2", "k3"]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of `values` where `mask` is 1; both [B, T]."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """Return values with mean 0 and variance 1 over the batch where `mask` is 1, and 0 elsewhere; [B, T]."""
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    return (values - mean) * torch.rsqrt(variance + 1e-8) * mask


def kl_estimate(log_probs: Tensor, reference: Tensor, *, estimator: Estimator) -> Tensor:
    """Return a per-token estimate of KL(policy || reference) from tokens of the policy (Schulman 2020).

    With d = log pi - log pi_ref: k1 = d, unbiased and of either sign; k2 = d^2 / 2, biased, the original code's;
    k3 = exp(-d) - 1 + d, unbiased and never negative.

    Args:
        log_probs: log-probabilities of the sampled tokens under the policy.
        reference: the same under the reference.
        estimator: which.
    """
    ratio = log_probs - reference
    if estimator == "k1":
        return ratio
    if estimator == "k2":
        return 0.5 * ratio**2
    return torch.expm1(-ratio) + ratio


def token_rewards(scores: Tensor, kl: Tensor, mask: Tensor, *, beta: float) -> Tensor:
    """Return rewards [B, T]: -beta times the KL estimate at every token, plus the score at the last one.

    Args:
        scores: reward model's score of each response, [B].
        kl: per-token estimates, [B, T].
        mask: [B, T], at least one token each.
        beta: weight of the KL penalty.
    """
    last = mask.sum(1).long() - 1
    rewards = -beta * kl * mask
    return rewards.scatter_add(1, last[:, None], scores[:, None])


def gae(rewards: Tensor, values: Tensor, mask: Tensor, *, discount: float, trace: float) -> tuple[Tensor, Tensor]:
    """Return (advantages, returns), both [B, T], by generalised advantage estimation (Schulman et al. 2016).

    delta_t = r_t + discount V_{t+1} - V_t and A_t = delta_t + discount trace A_{t+1}; a response ends with its last
    token, where both V_{t+1} and A_{t+1} are 0. returns = advantages + values.

    Args:
        rewards: [B, T].
        values: before each token, [B, T].
        mask: [B, T].
        discount: gamma; 1 in the paper.
        trace: lambda; 0.95 in the paper.
    """
    following = torch.zeros_like(values)
    following[:, :-1] = values[:, 1:] * mask[:, 1:]
    deltas = (rewards + discount * following - values) * mask
    advantages = torch.zeros_like(values)
    carry = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        carry = deltas[:, t] + discount * trace * carry * mask[:, t]
        advantages[:, t] = carry
    return advantages, (advantages + values) * mask


def clipped_surrogate(log_probs: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, *, clip: float) -> Tensor:
    """Return PPO's policy loss, -mean min(r A, clip(r, 1 - clip, 1 + clip) A) with r = exp(log_probs - old).

    Schulman et al. 2017, equation 7. The gradient is 0 where the clipped term is the smaller one: a ratio above
    1 + clip with a positive advantage, or below 1 - clip with a negative one.
    """
    ratio = torch.exp(log_probs - old)
    bounded = ratio.clamp(1 - clip, 1 + clip)
    return -masked_mean(torch.minimum(ratio * advantages, bounded * advantages), mask)


def clipped_value_loss(values: Tensor, old: Tensor, returns: Tensor, mask: Tensor, *, clip: float) -> Tensor:
    """Return half the mean of max((V - R)^2, (clip(V, old - clip, old + clip) - R)^2)."""
    bounded = torch.minimum(torch.maximum(values, old - clip), old + clip)
    return 0.5 * masked_mean(torch.maximum((values - returns) ** 2, (bounded - returns) ** 2), mask)


def preference_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Return the Bradley-Terry loss -mean log sigmoid(r_chosen - r_rejected); both [pairs]."""
    return -torch.nn.functional.logsigmoid(chosen - rejected).mean()


def best_of_n_kl(n: int) -> float:
    """Return log n - (n - 1) / n, the KL of best-of-n from its policy if no two outputs have the same score.

    With equal outputs or scores it is an upper bound (Beirami et al. 2024).
    """
    return math.log(n) - (n - 1) / n
