"""Inputs and outputs of sheeprl's functions for the parity checks: `python cascade_sheeprl_traces.py OUT.npz`."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from sheeprl.algos.dreamer_v2 import agent
from sheeprl.algos.dreamer_v2.loss import reconstruction_loss
from sheeprl.algos.dreamer_v2.utils import compute_lambda_values as lambda_v2
from sheeprl.algos.dreamer_v3.utils import compute_lambda_values as lambda_v3
from sheeprl.models.models import MLP
from sheeprl.utils.distribution import TruncatedNormal

#: Ours is flax's. Its own, 1e-3, is keras' default, which DreamerV2 has; equality does not depend on the value.
agent.LAYER_NORM_EPS = 1e-6
DETER, GROUPS, CLASSES, UNITS, ACTIONS, BATCH, STEPS = 24, 4, 6, 16, 3, 5, 12


def head(inputs: int) -> MLP:
    """A network of one hidden layer with LayerNorm, as its agent has for prior and posterior."""
    norm = {"norm_layer": [torch.nn.LayerNorm], "norm_args": [{"normalized_shape": UNITS, "eps": agent.LAYER_NORM_EPS}]}
    return MLP(inputs, GROUPS * CLASSES, [UNITS], activation=torch.nn.ELU, layer_args={"bias": True}, **norm)


def rssm() -> dict[str, Any]:
    """Steps of its RSSM of DreamerV2 with random weights, from the states that it reached itself."""
    latent = GROUPS * CLASSES
    recurrent = agent.RecurrentModel(latent + ACTIONS, DETER, UNITS, layer_norm=True)
    model = agent.RSSM(recurrent, head(DETER + UNITS), head(DETER), {}, discrete=CLASSES)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.5 * torch.randn_like(p))
    z, h = torch.zeros(1, BATCH, GROUPS, CLASSES), torch.zeros(1, BATCH, DETER)
    rows = []
    for t in range(STEPS):
        action = torch.nn.functional.one_hot(torch.randint(ACTIONS, (1, BATCH)), ACTIONS).float()
        seen, first = torch.randn(1, BATCH, UNITS), (torch.rand(1, BATCH, 1) < (1.0 if t == 0 else 0.2)).float()
        after, posterior, _, post, prior = model.dynamic(z, h, action, seen, first)
        rows.append({"z": z.flatten(-2), "h": h, "action": action, "seen": seen, "first": first[..., 0],
                     "after": after, "post": post, "prior": prior})  # fmt: skip
        z, h = posterior.view(1, BATCH, GROUPS, CLASSES), after
    found = {f"rssm_{name}": torch.stack([row[name][0] for row in rows]) for name in rows[0]}
    return found | {f"weight_{name}": p for name, p in model.named_parameters()}


def returns() -> dict[str, Any]:
    """Its λ-returns of DreamerV2 and DreamerV3 along random sequences, the value of the last state as bootstrap."""
    reward, value = torch.randn(9, 7, 1), torch.randn(10, 7, 1)
    discount = 0.99 * torch.rand(9, 7, 1)
    return {
        "returns_reward": reward, "returns_value": value, "returns_discount": discount,
        "returns_v2": lambda_v2(reward, value[:-1], discount, bootstrap=value[-1:], horizon=9, lmbda=0.95),
        "returns_v3": lambda_v3(reward, value[1:], discount, lmbda=0.95),
    }  # fmt: skip


def divergence() -> dict[str, Any]:
    """Its balanced KL divergence with free nats below and above the mean, with the gradients of both sides."""
    post, prior = torch.randn(8, GROUPS, CLASSES), torch.randn(8, GROUPS, CLASSES)
    found: dict[str, Any] = {"kl_post": post, "kl_prior": prior}
    none = torch.distributions.Normal(torch.zeros(1), torch.ones(1))
    for free in (0.0, 0.5, 100.0):
        p, q = post.clone().requires_grad_(), prior.clone().requires_grad_()
        loss = reconstruction_loss({}, {}, none, torch.zeros(1), q, p, 0.8, free, True)[2]
        loss.backward()
        found |= {f"kl_{free}": loss, f"kl_{free}_post": p.grad, f"kl_{free}_prior": q.grad}
    return found


def actions() -> dict[str, Any]:
    """Log density and entropy of its truncated normal."""
    mean, std, at = torch.tanh(torch.randn(50)), 0.1 + torch.rand(50), 1.8 * torch.rand(50) - 0.9
    peer = TruncatedNormal(mean, std, -1, 1)
    return {"normal_mean": mean, "normal_std": std, "normal_at": at, "normal_log_prob": peer.log_prob(at),
            "normal_entropy": peer.entropy()}  # fmt: skip


if __name__ == "__main__":
    torch.manual_seed(0)
    found = {**rssm(), **returns(), **divergence(), **actions()}
    np.savez(sys.argv[1], **{name: x.detach().numpy() for name, x in found.items()})
