"""CartPole whose physics is the level: the pole balancer of gymnax on carts it has not seen.

It shows all that an environment takes to be trained on and evaluated: a level, the contract of
`minimax_ued.envs.Environment`, and the two optional parts that ACCEL and the success rate take. The dynamics are those
of gymnax (Lange 2022, github.com/RobertTLange/gymnax), which has them from Barto, Sutton and Anderson (1983).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from minimax_ued.config import CartPoleConfig
from minimax_ued.envs.base import Mutation, Timestep
from minimax_ued.envs.hashing import hash_words
from paperloop.errors import UserError

__all__ = ["HELD_OUT_CARTS", "NOMINAL", "CartPole", "CartPoleLevel", "gaussian", "held_out_levels"]

#: Constant -> its value in the original: m/s^2, kg, kg, half the pole's length in m, N.
NOMINAL: Mapping[str, float] = MappingProxyType(
    {"gravity": 9.8, "masscart": 1.0, "masspole": 0.1, "length": 0.5, "force_mag": 10.0}
)

#: Standard deviation of one edit of the mutation "gaussian", in edges of the cube.
EDIT_SIZE = 0.05


class CartPoleLevel(struct.PyTreeNode):
    """The physics of one cart, or of many with leading axes.

    Attributes:
        point: f32[5] in the unit cube, one coordinate for each constant of `NOMINAL` and in its order. Coordinate u
            stands for the nominal value times spread^(2 u - 1): 0.5 is nominal, and equal steps are equal factors.
    """

    point: Any


class CartPole:
    """CartPole of gymnax; meets `minimax_ued.envs.Environment`. The agent does not see the physics.

    Every step up to and including the one that ends the episode gives reward 1; an episode ends when the pole leans
    by more than 12 degrees or the cart is more than 2.4 m off. At step T it is truncated.

    Attributes:
        config: the `CartPoleConfig`.
        num_actions: 2, push to the left and push to the right.
        max_steps: T.
        success_return: part of T that a successful episode lasts longer than.
        mutations: "gaussian", see there.
    """

    num_actions: ClassVar[int] = 2

    def __init__(self, config: CartPoleConfig | None = None) -> None:
        """Bind the configuration.

        Raises:
            UserError: gymnax is not installed.
        """
        try:
            from gymnax.environments.classic_control import cartpole
        except ImportError as error:
            raise UserError(
                f"CartPole takes the package gymnax, which cannot be imported ({error}): install it with "
                "`pip install 'minimax-ued[gymnax]'`."
            ) from None
        self.config = CartPoleConfig() if config is None else config
        self.max_steps = self.config.max_steps
        self.success_return = self.config.success * self.max_steps
        self.mutations: Mapping[str, Mutation[CartPoleLevel]] = MappingProxyType({"gaussian": gaussian})
        self._game = cartpole.CartPole()
        # gymnax must not see the step limit, so that what it calls an end is never a time-out.
        self._nominal = cartpole.EnvParams(max_steps_in_episode=2**30)

    def __repr__(self) -> str:
        return f"CartPole({self.config!r})"

    def __eq__(self, other: object) -> bool:
        # By value, so that functions compiled for one instance serve an equal one.
        return isinstance(other, CartPole) and self.config == other.config

    def __hash__(self) -> int:
        return hash((CartPole, self.config))

    def sample_level(self, key: jax.Array) -> CartPoleLevel:
        """Draw a point uniformly: each constant is log-uniform, from nominal / spread to nominal times spread."""
        return CartPoleLevel(point=jax.random.uniform(key, (len(NOMINAL),)))

    def constants(self, level: CartPoleLevel) -> dict[str, jax.Array]:
        """Return name -> f32[], the physical constants of `level`."""
        factors = jnp.exp(math.log(self.config.spread) * (2 * jnp.asarray(level.point) - 1))
        return {name: value * factors[i] for i, (name, value) in enumerate(NOMINAL.items())}

    def prepare(self, level: CartPoleLevel) -> CartPoleLevel:
        """Return the level itself."""
        return level

    def reset(self, key: jax.Array, level: CartPoleLevel) -> Any:
        """Return gymnax's state at the start: position, velocity, angle and its velocity uniform in +-0.05."""
        del level
        state: Any = self._game.reset_env(key, self._nominal)[1]
        return state.replace(time=jnp.int32(0))

    def step(self, key: jax.Array, level: CartPoleLevel, state: Any, action: jax.Array) -> tuple[Any, Timestep]:
        """Push to the left (0) or to the right (1)."""
        constants = self.constants(level)
        nominal: Any = self._nominal
        params = nominal.replace(
            **constants,
            total_mass=constants["masscart"] + constants["masspole"],
            polemass_length=constants["masspole"] * constants["length"],
        )
        _, state, reward, ended, _ = self._game.step_env(key, state, jnp.asarray(action, jnp.int32), params)
        truncated = (state.time >= self.max_steps) & ~ended
        return state, Timestep(reward=jnp.asarray(reward, jnp.float32), terminated=ended, truncated=truncated)

    def observe(self, level: CartPoleLevel, state: Any) -> jax.Array:
        """Return f32[4]: position (m), velocity (m/s), angle (rad), angular velocity (rad/s)."""
        del level
        return jnp.stack([state.x, state.x_dot, state.theta, state.theta_dot])

    def held_out_levels(self) -> CartPoleLevel:
        """Return the levels that an evaluation plays: the 243 of the grid."""
        return held_out_levels("grid")

    def level_hash(self, level: CartPoleLevel) -> jax.Array:
        """Return u32[2], a 64-bit hash of the point."""
        return hash_words(jax.lax.bitcast_convert_type(jnp.asarray(level.point) + 0.0, jnp.uint32))

    def same_level(self, a: CartPoleLevel, b: CartPoleLevel) -> jax.Array:
        """Return bool[], whether the points are equal."""
        return jnp.all(jnp.asarray(a.point) == jnp.asarray(b.point))

    def level_metrics(self, level: CartPoleLevel) -> Mapping[str, jax.Array]:
        """Return the constants, and `distance` from nominal, 0 at the centre of the cube and 1 in its corners."""
        offset = 2 * jnp.asarray(level.point) - 1
        return {**self.constants(level), "distance": jnp.sqrt(jnp.mean(jnp.square(offset)))}


def gaussian(key: jax.Array, level: CartPoleLevel, n_edits: int) -> CartPoleLevel:
    """Move the point by a Gaussian step for each edit, reflected at the faces of the cube.

    A step has standard deviation `EDIT_SIZE` in every coordinate. Reflecting after each step or once after their sum
    gives the same distribution, since the steps are symmetric; so the sum is drawn at once.
    """
    step = EDIT_SIZE * math.sqrt(n_edits) * jax.random.normal(key, (len(NOMINAL),))
    moved = jnp.mod(jnp.asarray(level.point) + step, 2.0)
    return level.replace(point=jnp.minimum(moved, 2 - moved))


#: Set -> how many levels it has.
HELD_OUT_CARTS: Mapping[str, int] = MappingProxyType({"corners": 32, "axes": 41, "grid": 243})


def held_out_levels(name: str) -> CartPoleLevel:
    """Return a fixed set of levels for evaluation, as NumPy arrays with a leading axis.

    Args:
        name: "corners", every constant at either end of its range; "axes", the nominal cart and those that differ from
            it in one constant, at eight values evenly over its logarithmic range; "grid", every constant at either end
            or nominal.

    Raises:
        UserError: there is no such set.
    """
    if name not in HELD_OUT_CARTS:
        raise UserError(f"There is no set of carts {name!r}; known are {', '.join(HELD_OUT_CARTS)}.")
    if name == "axes":
        points = np.full((len(NOMINAL), 8, len(NOMINAL)), 0.5, np.float32)
        for i in range(len(NOMINAL)):
            points[i, :, i] = np.delete(np.linspace(0, 1, 9), 4)
        points = np.concatenate([np.full((1, len(NOMINAL)), 0.5, np.float32), points.reshape(-1, len(NOMINAL))])
    else:
        ends = (0.0, 1.0) if name == "corners" else (0.0, 0.5, 1.0)
        points = np.array(list(itertools.product(ends, repeat=len(NOMINAL))), np.float32)
    return CartPoleLevel(point=points)
