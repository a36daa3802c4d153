"""Episodes of a controller in the true simulator, measured by an objective."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from hgap.envs.objectives import Objective, Trajectory, total
from hgap.envs.simulator import Simulator
from hgap.rivals.controllers import Controller
from paperloop.errors import UserError
from paperloop.seeds import fold_seed

__all__ = ["Episodes", "Measured", "measure", "play", "score"]


class Episodes(NamedTuple):
    """E episodes of at most T control steps.

    Attributes:
        observations: after each action, [E, T, S]; what follows a fall is not part of the episode.
        actions: [E, T, A].
        alive: whether a step is part of its episode, booleans [E, T].
        physics: full physics states after each action, [E, T, nstate].
        seconds: of wall time for each decision on all E episodes, [T].
    """

    observations: np.ndarray
    actions: np.ndarray
    alive: np.ndarray
    physics: np.ndarray
    seconds: np.ndarray

    @property
    def fell(self) -> np.ndarray:
        """Whether each episode ended by a fall, booleans [E]: it has fewer steps than there was time for."""
        return ~self.alive[:, -1]


class Measured(NamedTuple):
    """What episodes earned.

    Attributes:
        returns: [E].
        lengths: steps, [E].
        fell: booleans [E]; a body that falls at the very last step has not.
        milliseconds: median of a decision on all episodes.
    """

    returns: np.ndarray
    lengths: np.ndarray
    fell: np.ndarray
    milliseconds: float


def play(simulator: Simulator, controller: Controller, *, episodes: int, steps: int, seed: int) -> Episodes:
    """Play episodes side by side. Starts depend on the seed alone, so controllers meet the same ones."""
    states = simulator.reset(episodes, np.random.default_rng(fold_seed(seed, "starts")))
    observations = simulator.observe(states)
    controller.begin(episodes, fold_seed(seed, "controller"))
    seen, done, alive, physics, seconds = [], [], [], [], []
    standing = np.ones(episodes, bool)
    for _ in range(steps):
        begin = time.perf_counter()
        action = controller.act(states, observations)
        seconds.append(time.perf_counter() - begin)
        action = np.clip(action, simulator.action_low, simulator.action_high)
        after = simulator.roll(states, action[:, None])
        alive.append(standing)
        # A fallen body stays where it fell, and one whose simulation blew up where it was before: both are out.
        whole = np.isfinite(after.states[:, -1]).all(-1)
        states = np.where((standing & whole)[:, None], after.states[:, -1], states)
        observations = np.where((standing & whole)[:, None], after.observations[:, -1], observations)
        seen.append(observations)
        done.append(action)
        physics.append(states)
        standing = standing & whole & ~simulator.fallen(states)
        if not standing.any():
            break
    missing = steps - len(seen)
    alive += [np.zeros(episodes, bool)] * missing
    seen, done, physics = (x + [x[-1]] * missing for x in (seen, done, physics))
    return Episodes(*(np.stack(x, 1) for x in (seen, done, alive, physics)), np.array(seconds))


def score(episodes: Episodes, objective: Objective, slices: dict[str, tuple[int, int]]) -> Measured:
    """Return what an objective pays for episodes: rewards are summed over the steps that are part of each.

    An objective that returns totals is asked for each episode alone.

    Raises:
        UserError: the objective's number for an episode is not finite.
    """
    trajectory = Trajectory(episodes.observations, episodes.actions, slices)
    rewards = np.asarray(objective(trajectory))
    lengths = episodes.alive.sum(1)
    if rewards.shape == episodes.alive.shape:
        returns = np.where(episodes.alive, rewards, 0.0).sum(1)
    else:
        parts = [
            Trajectory(o[None, :n], a[None, :n], slices)
            for o, a, n in zip(episodes.observations, episodes.actions, lengths, strict=True)
        ]
        returns = np.array([float(np.asarray(total(objective(part), (1,)))[0]) for part in parts])
    if not np.isfinite(returns).all():
        raise UserError(
            f"The objective is worth {returns[~np.isfinite(returns)][0]} on the motion of episode "
            f"{int((~np.isfinite(returns)).argmax())}: check what it returns."
        )
    milliseconds = 1e3 * float(np.median(episodes.seconds))
    return Measured(returns, lengths, episodes.fell, milliseconds)


def measure(
    simulator: Simulator, controller: Controller, objective: Objective, *, episodes: int, steps: int, seed: int
) -> Measured:
    """Play episodes and score them."""
    played = play(simulator, controller, episodes=episodes, steps=steps, seed=seed)
    return score(played, objective, dict(simulator.body.slices))
