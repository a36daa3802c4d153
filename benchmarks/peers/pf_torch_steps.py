"""A few updates by PyTorch code of others, from given weights on given batches: TD3+BC and IQL.

    PEER_SOURCE=<tree> python pf_torch_steps.py td3_bc|corl_td3_bc|corl_iql IN.npz OUT.npz float32|float64

`td3_bc` is the class `TD3_BC` of sfujim/TD3_BC, `corl_td3_bc` and `corl_iql` are `TD3_BC` and `ImplicitQLearning` of
corl-team/CORL, unchanged; `train()` is called once per batch. Modules that their files import and that training does
not need (gym, d4rl, wandb, pyrallis) are replaced by empty ones. The target policy's smoothing noise is zero.

IN holds obs, action, next_obs (n, B, .), reward, terminal (n, B); the weights actor/<layer>/w (in, out) and
actor/<layer>/b, critic/<i>/<layer>/..., value/<layer>/..., log_std; and the scalars discount, expectile and
actor_lr_steps. OUT holds the weights after the last update, the targets under target/actor/... and target/critic/...,
and loss/<name>, one per update that has it.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

LR, TAU = 3e-4, 0.005


class Anything(types.ModuleType):
    """A module whose every attribute exists: enough to import what only a training script uses."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def stub(*names: str) -> None:
    """Put empty modules in the place of those that are not installed."""
    for name in names:
        sys.modules.setdefault(name, Anything(name))
    if "pyrallis" in names:
        sys.modules["pyrallis"].wrap = lambda *a, **k: lambda function: function  # ty: ignore[missing-attribute]


def linears(module: nn.Module) -> list[nn.Linear]:
    """The linear layers of a network, input first: the order in which all three sources define them."""
    return [child for child in module.modules() if isinstance(child, nn.Linear)]


def named(prefix: str, layers: list[nn.Linear]) -> Iterator[tuple[str, torch.Tensor, bool]]:
    for number, layer in enumerate(layers):
        yield f"{prefix}/{number}/w", layer.weight, True
        yield f"{prefix}/{number}/b", layer.bias, False


def load(data: dict[str, np.ndarray], prefix: str, layers: list[nn.Linear]) -> None:
    with torch.no_grad():
        for name, tensor, transposed in named(prefix, layers):
            value = torch.from_numpy(data[name])
            tensor.copy_(value.T if transposed else value)


def dump(prefix: str, layers: list[nn.Linear]) -> dict[str, np.ndarray]:
    return {
        name: (tensor.T if transposed else tensor).detach().numpy().copy()
        for name, tensor, transposed in named(prefix, layers)
    }


def batches(data: dict[str, np.ndarray]) -> Iterator[dict[str, torch.Tensor]]:
    for i in range(len(data["obs"])):
        batch = {name: torch.from_numpy(data[name][i].copy()) for name in ("obs", "action", "next_obs")}
        yield batch | {name: torch.from_numpy(data[name][i].copy())[:, None] for name in ("reward", "terminal")}


def run_td3_bc(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """sfujim/TD3_BC, which reports no loss."""
    module = importlib.import_module("TD3_BC")
    sizes = data["obs"].shape[-1], data["action"].shape[-1]
    agent = module.TD3_BC(*sizes, 1.0, discount=float(data["discount"]), tau=TAU, policy_noise=0.0)
    actor, critic = linears(agent.actor), linears(agent.critic)
    for layers in (actor, linears(agent.actor_target)):
        load(data, "actor", layers)
    for layers in (critic, linears(agent.critic_target)):
        load(data, "critic/0", layers[:3])
        load(data, "critic/1", layers[3:])

    class OneBatch:
        """Stands for the replay buffer: gives the next batch, whole."""

        def __init__(self) -> None:
            self.batches = batches(data)

        def sample(self, size: int) -> tuple[torch.Tensor, ...]:
            b = next(self.batches)
            return b["obs"], b["action"], b["next_obs"], b["reward"], 1 - b["terminal"]

    buffer = OneBatch()
    for _ in range(len(data["obs"])):
        agent.train(buffer, data["obs"].shape[1])
    target = linears(agent.critic_target)
    return (
        dump("actor", actor)
        | dump("critic/0", critic[:3])
        | dump("critic/1", critic[3:])
        | dump("target/actor", linears(agent.actor_target))
        | dump("target/critic/0", target[:3])
        | dump("target/critic/1", target[3:])
    )


def adam(module: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), lr=LR)


def corl_updates(agent: Any, data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    losses: dict[str, list[float]] = {}
    for b in batches(data):
        for name, value in agent.train([b["obs"], b["action"], b["reward"], b["next_obs"], b["terminal"]]).items():
            losses.setdefault(name, []).append(value)
    names = {"critic_loss": "critic", "q_loss": "critic", "actor_loss": "actor", "value_loss": "value"}
    return {f"loss/{names[name]}": np.array(values) for name, values in losses.items()}


def run_corl_td3_bc(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """CORL's TD3+BC."""
    module = importlib.import_module("algorithms.offline.td3_bc")
    sizes = data["obs"].shape[-1], data["action"].shape[-1]
    actor, critics = module.Actor(*sizes, 1.0), [module.Critic(*sizes) for _ in range(2)]
    load(data, "actor", linears(actor))
    for i, critic in enumerate(critics):
        load(data, f"critic/{i}", linears(critic))
    agent = module.TD3_BC(
        1.0, actor, adam(actor), critics[0], adam(critics[0]), critics[1], adam(critics[1]),
        discount=float(data["discount"]), tau=TAU, policy_noise=0.0, alpha=2.5, device="cpu",
    )  # fmt: skip
    out = corl_updates(agent, data)
    out |= dump("actor", linears(agent.actor)) | dump("target/actor", linears(agent.actor_target))
    for i in range(2):
        out |= dump(f"critic/{i}", linears(getattr(agent, f"critic_{i + 1}")))
        out |= dump(f"target/critic/{i}", linears(getattr(agent, f"critic_{i + 1}_target")))
    return out


def run_corl_iql(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """CORL's IQL, with a Gaussian policy."""
    module = importlib.import_module("algorithms.offline.iql")
    sizes = data["obs"].shape[-1], data["action"].shape[-1]
    actor, q, v = module.GaussianPolicy(*sizes, 1.0), module.TwinQ(*sizes), module.ValueFunction(sizes[0])
    actor.to(torch.get_default_dtype())  # its log_std is float32 otherwise
    load(data, "actor", linears(actor))
    load(data, "value", linears(v))
    for i, member in enumerate((q.q1, q.q2)):
        load(data, f"critic/{i}", linears(member))
    with torch.no_grad():
        actor.log_std.copy_(torch.from_numpy(data["log_std"]))
    # It takes the mean of the critics' losses, and the paper's code the sum: half the gradient. Adam divides that out
    # but for its ε, so half of that too.
    half = torch.optim.Adam(q.parameters(), lr=LR, eps=0.5e-8)
    agent = module.ImplicitQLearning(
        1.0, actor, adam(actor), q, half, v, adam(v), iql_tau=float(data["expectile"]), beta=3.0,
        max_steps=int(data["actor_lr_steps"]), discount=float(data["discount"]), tau=TAU, device="cpu",
    )  # fmt: skip
    out = corl_updates(agent, data)
    out["loss/critic"] *= 2  # the sum
    out |= dump("actor", linears(agent.actor)) | dump("value", linears(agent.vf))
    out["log_std"] = agent.actor.log_std.detach().numpy().copy()
    for i in range(2):
        out |= dump(f"critic/{i}", linears(getattr(agent.qf, f"q{i + 1}")))
        out |= dump(f"target/critic/{i}", linears(getattr(agent.q_target, f"q{i + 1}")))
    return out


def main() -> None:
    peer, given, answer, dtype = sys.argv[1:]
    torch.set_num_threads(1)
    torch.set_default_dtype(getattr(torch, dtype))
    sys.path.insert(0, os.environ["PEER_SOURCE"])
    stub("gym", "d4rl", "wandb", "pyrallis")
    data = {name: value.astype(dtype) if value.dtype.kind == "f" else value for name, value in np.load(given).items()}
    run = {"td3_bc": run_td3_bc, "corl_td3_bc": run_corl_td3_bc, "corl_iql": run_corl_iql}[peer]
    np.savez(answer, allow_pickle=False, **run(data))


if __name__ == "__main__":
    main()
