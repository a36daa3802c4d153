"""Settings of whole runs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cascade_explore.config.envs import Cheetah, Crafter, FourRooms, Gym, KeyCorridor, MultiRoom, Walker
from cascade_explore.config.learning import (
    Actor,
    Cascade,
    NearestNeighbours,
    Plan2Explore,
    Population,
    Random,
    WorldModel,
)
from paperloop.settings import Count, CountOrZero, Positive, fault, settings

__all__ = ["LabelConfig", "TrainConfig"]


@settings
class TrainConfig:
    """A run: deployments of fixed policies, and training on what they brought between them.

    Attributes:
        env: where.
        world: the model.
        explorer: who explores.
        deployments: K; the first is random.
        env_steps: of each deployment, shared by all agents. A reset takes the place of a step.
        envs: environments of each agent.
        updates: of the model and the ensemble after each deployment.
        explorers_every: updates of these for each update of the explorers, whose reward means little while the ensemble
            is far from what it could know.
        updates_per_step: of them in one dispatch.
        seeds: independent runs side by side in one program.
        devices: that the seeds are spread over.
    """

    env: Annotated[
        FourRooms | MultiRoom | KeyCorridor | Walker | Cheetah | Crafter | Gym, Field(discriminator="type")
    ] = MultiRoom()
    world: WorldModel = WorldModel()
    explorer: Annotated[Random | Plan2Explore | Population | Cascade, Field(discriminator="type")] = Cascade()
    deployments: Count = 6
    env_steps: Count = 5000
    envs: Count = 2
    updates: CountOrZero = 500
    explorers_every: Count = 1
    updates_per_step: Count = 50
    seeds: Count = 1
    devices: Count = 1

    def __post_init__(self) -> None:
        if self.seeds % self.devices:
            raise fault(self, "devices", f"a divisor of {{seeds}} = {self.seeds}")
        streams = self.agents * self.envs
        if self.env_steps % streams:
            raise fault(
                self, "env_steps", f"a multiple of {{explorer.agents}} x {{envs}} = {streams}"
                if self.agents > 1 else f"a multiple of {{envs}} = {streams}",
            )  # fmt: skip
        if self.stream_steps < self.world.length:
            raise fault(
                self, "env_steps", f"at least {streams * self.world.length}, so that each of {streams} environments "
                "brings a sequence of {world.length} steps",
            )  # fmt: skip
        if self.updates % self.updates_per_step:
            raise fault(self, "updates_per_step", f"a divisor of {{updates}} = {self.updates}")
        if self.updates_per_step % self.explorers_every:
            raise fault(self, "explorers_every", f"a divisor of {{updates_per_step}} = {self.updates_per_step}")
        actor: Actor | None = getattr(self.explorer, "actor", None)
        if actor is not None and actor.starts > self.world.batch * self.world.length:
            raise fault(
                self, "explorer.actor.starts",
                f"at most {{world.batch}} x {{world.length}} = {self.world.batch * self.world.length}",
            )  # fmt: skip
        if isinstance(self.explorer, Cascade) and isinstance(self.explorer.diversity, NearestNeighbours):
            diversity = self.explorer.diversity
            if diversity.pool > self.explorer.actor.starts:
                raise fault(self, "explorer.diversity.pool", "at most {explorer.actor.starts}")
            if diversity.k > diversity.pool:
                raise fault(self, "explorer.diversity.k", "at most {explorer.diversity.pool}")

    @property
    def agents(self) -> int:
        """B, the policies of a deployment."""
        return getattr(self.explorer, "agents", 1)

    @property
    def stream_steps(self) -> int:
        """Steps of one environment in one deployment."""
        return self.env_steps // (self.agents * self.envs)

    @property
    def dispatches(self) -> int:
        """Dispatches of one deployment: one that collects, the others train."""
        return 1 + self.updates // self.updates_per_step

    @property
    def steps(self) -> int:
        """Dispatches of the whole run."""
        return self.deployments * self.dispatches


@settings
class LabelConfig:
    """Learning tasks on the replay of a run, in its frozen world model.

    Attributes:
        run: the run folder.
        tasks: names that the environment knows, or FILE.py:FUNCTION.
        actor: how the tasks' policies are trained in imagination.
        lr: Adam's step size of the reward heads.
        updates: of reward heads and policies.
        updates_per_step: of them in one dispatch.
    """

    run: str
    tasks: tuple[str, ...] = ("reward",)
    actor: Actor = Actor(entropy=3e-3)
    lr: Positive = 1e-3
    updates: Count = 1000
    updates_per_step: Count = 50

    def __post_init__(self) -> None:
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise fault(self, "tasks", "at least one task, and none twice")
        if self.updates % self.updates_per_step:
            raise fault(self, "updates_per_step", f"a divisor of {{updates}} = {self.updates}")

    @property
    def steps(self) -> int:
        """Dispatches in all."""
        return self.updates // self.updates_per_step
