"""Many agents in one program: a function of one agent becomes a function of all, laid out for the device at hand.

On a GPU agents run side by side (`vmap`): that fills it. On a CPU one agent after another is as fast per agent and
keeps its working set in the cache, so they run in a loop (`lax.map`), and several devices share the agents between
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from paperloop.errors import UserError
from paperloop.jax_backend import device_mesh

__all__ = ["AgentLayout"]


class AgentLayout:
    """How A agents are spread over devices.

    Args:
        agents: A.
        devices: how many devices share them; A must be a multiple.
        together: agents that run side by side on one device; None: all on a GPU, one on a CPU.

    Raises:
        UserError: there are fewer devices, or A is not a multiple of `devices`.
    """

    def __init__(self, agents: int, devices: int = 1, together: int | None = None) -> None:
        if agents % devices:  # of seeds and members: no single setting to name
            raise UserError(f"{agents} agents cannot be shared equally by {devices} devices: change one of the two.")
        self.mesh = device_mesh(devices, "agent")
        self.agents = agents
        self.together = together or (1 if jax.default_backend() == "cpu" else agents)

    def over_agents(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function of all agents.

        Args:
            function: (shared, own) -> result: `shared` is the same for all agents, `own` and the result are one
                agent's. Trees of arrays, all three.

        Returns:
            The same with a leading axis A on every leaf of `own` and of the result.
        """
        return self.per_device(lambda shared, own: self.each(lambda x: function(shared, x), own))

    def each(self, function: Callable[[Any], Any], own: Any) -> Any:
        """Return `function` of each agent's part of `own`, whose leaves have a leading axis, as all results have.

        What an agent's function only reads of a large array, it should read by index from its closure: what comes
        through `own` is copied once for each agent wherever they run one after another.
        """
        count = jax.tree.leaves(own)[0].shape[0]
        if count == 1:  # no loop, no batching: XLA's best code
            return jax.tree.map(lambda x: x[None], function(jax.tree.map(lambda x: x[0], own)))
        if self.together >= count:
            return jax.vmap(function)(own)
        return jax.lax.map(function, own, batch_size=None if self.together == 1 else self.together)

    def per_device(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """Return a function of (shared, own of all agents) that each device applies to the agents it holds."""
        if self.mesh is None:
            return function
        return jax.shard_map(
            function,
            mesh=self.mesh,
            in_specs=(PartitionSpec(), PartitionSpec("agent")),
            out_specs=PartitionSpec("agent"),
            check_vma=False,
        )

    def place(self, tree: Any) -> Any:
        """Return a tree with leading axis A, laid out over the devices."""
        if self.mesh is None:
            return tree
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec("agent")))

    def share(self, tree: Any) -> Any:
        """Return a tree that every device has a copy of."""
        if self.mesh is None:
            return tree
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))


def stack(trees: list[Any]) -> Any:
    """Return trees of one shape as one tree with a leading axis."""
    return jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *trees)


def stack_weights(agents: Sequence[Mapping[str, float]]) -> dict[str, Array]:
    """Return the numbers of agents, each by name, as name -> [A] f32."""
    return {name: jax.numpy.asarray(np.array([agent[name] for agent in agents], np.float32)) for name in agents[0]}


def summary(infos: dict[str, Array], params: Any) -> dict[str, Array]:
    """Return a dispatch's metrics: means over its rounds, `loss`, and the norm of all parameters at its end.

    The norm is not finite as soon as one parameter is not, before any loss shows it.
    """
    out = {name: value.mean(0) for name, value in infos.items()}
    norm = jax.numpy.sqrt(sum(jax.numpy.square(leaf).sum() for leaf in jax.tree.leaves(params)))
    return out | {"loss": out.get("critic_loss", out["actor_loss"]), "parameter_norm": norm}
