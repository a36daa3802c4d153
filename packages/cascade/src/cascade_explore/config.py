"""The settings of a run and the presets. Loads no array library."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from paperloop.settings import Count, CountOrZero, Ge, NotNegative, Positive, Seed, Share, fault, settings

__all__ = [
    "PRESETS", "PRESET_HELP", "Actor", "Cascade", "FourRooms", "Gym", "InfoGain", "KeyCorridor", "LabelConfig",
    "LogDet", "MultiRoom", "NearestNeighbours", "Plan2Explore", "Population", "Random", "TrainConfig", "Variance",
    "WorldModel",
]  # fmt: skip


# Environments


@settings
class FourRooms:
    """MiniGrid's four rooms around a cross of walls, 19 x 19.

    Attributes:
        layouts: how many fixed layouts; each episode draws one of them.
        layout_seed: of the first layout; the others follow.
        max_steps: after which an episode is cut.
    """

    type: Literal["four_rooms"] = "four_rooms"
    layouts: Count = 1
    layout_seed: Seed = 0
    max_steps: Count = 100


@settings
class MultiRoom:
    """MiniGrid's chain of rooms behind closed doors.

    Attributes:
        rooms: in the chain.
        size: largest outer side of a room; the smallest is 4.
        layouts: how many fixed layouts; each episode draws one of them.
        layout_seed: of the first layout; the others follow.
        max_steps: after which an episode is cut (None: 20 a room).
    """

    type: Literal["multi_room"] = "multi_room"
    rooms: Count = 4
    size: Annotated[int, Field(ge=4, le=10)] = 5
    layouts: Count = 1
    layout_seed: Seed = 0
    max_steps: Count | None = None

    def __post_init__(self) -> None:
        if self.rooms > 8:
            raise fault(self, "rooms", "at most 8, which is what the grid of 25 x 25 holds")


@settings
class KeyCorridor:
    """MiniGrid's corridor: find the key, open the locked door, pick up the ball.

    Attributes:
        rows: of rooms.
        size: outer side of a room.
        layouts: how many fixed layouts; each episode draws one of them.
        layout_seed: of the first layout; the others follow.
        max_steps: after which an episode is cut (None: 30 times the square of `size`).
    """

    type: Literal["key_corridor"] = "key_corridor"
    rows: Count = 3
    size: Annotated[int, Field(ge=3, le=10)] = 3
    layouts: Count = 1
    layout_seed: Seed = 0
    max_steps: Count | None = None


@settings
class Gym:
    """Any gymnasium environment whose observations are a Box of numbers and whose actions are a Box or Discrete.

    Attributes:
        id: as `gymnasium.make` takes it; `module:Id` imports the module first.
    """

    type: Literal["gym"] = "gym"
    id: str = "CartPole-v1"


# The world model


@settings
class WorldModel:
    """The recurrent state-space model of DreamerV2 with an ensemble that predicts its next latent.

    Attributes:
        deter: width of the recurrent state.
        groups: categorical latents.
        classes: of each.
        hidden: width within the recurrent model.
        units: width of encoder, decoder and heads.
        layers: of these.
        norm: LayerNorm in every dense layer.
        unimix: share of the uniform distribution mixed into each categorical (0: DreamerV2; DreamerV3 has .01).
        kl_scale: weight of the KL divergence.
        kl_balance: share of it that trains the prior.
        free_nats: below which the KL divergence, averaged over the batch, is not reduced.
        lr: Adam's step size.
        clip: largest norm of a gradient.
        heads: members of the ensemble.
        ensemble_lr: its step size.
        batch: sequences in an update.
        length: steps in a sequence.
    """

    deter: Count = 128
    groups: Count = 8
    classes: Annotated[int, Ge(2)] = 8
    hidden: Count = 128
    units: Count = 128
    layers: Count = 2
    norm: bool = True
    unimix: Share = 0.0
    kl_scale: NotNegative = 1.0
    kl_balance: Share = 0.8
    free_nats: NotNegative = 0.0
    lr: Positive = 3e-4
    clip: Positive = 100.0
    heads: Annotated[int, Ge(2)] = 5
    ensemble_lr: Positive = 3e-4
    batch: Count = 8
    length: Annotated[int, Ge(2)] = 32


# Explorers


@settings
class Variance:
    """Variance of the final imagined states over the agents up to and including this one.

    Attributes:
        marginal: only what this agent adds.
    """

    type: Literal["variance"] = "variance"
    marginal: bool = False


@settings
class NearestNeighbours:
    """Log distance of the final imagined state to its k-th nearest among those of the agents before.

    Attributes:
        k: which neighbour.
        pool: starts whose final states are pooled as neighbours.
    """

    type: Literal["knn"] = "knn"
    k: Count = 5
    pool: Count = 32


@settings
class LogDet:
    """Half the log determinant of the Gram matrix of how far the agents' final states lie from the start.

    Attributes:
        sigma: noise: displacements well below it count little.
        marginal: only what this agent adds.
    """

    type: Literal["log_det"] = "log_det"
    sigma: Positive = 0.1
    marginal: bool = False


@settings
class InfoGain:
    """Information about the ensemble in this agent's last transition, given those of the agents before.

    Attributes:
        sigma: noise of an observation.
        marginal: only what this agent adds; otherwise the sum up to this agent.
    """

    type: Literal["info_gain"] = "info_gain"
    sigma: Positive = 0.1
    marginal: bool = True


@settings
class Actor:
    """How an explorer is trained in imagination.

    Attributes:
        horizon: imagined steps.
        starts: states of a batch from which to imagine; all agents start from the same.
        gamma: discount.
        lam: of returns.
        lr: Adam's step size of actors.
        critic_lr: of critics.
        entropy: weight of the entropy, next to rewards of about 1 a step. The original has .003 next to raw rewards,
            which are of the order of .05.
        units: width of actors and critics.
        layers: of actors and critics.
        clip: largest norm of a gradient.
        slow_every: updates between copies of a critic to its target.
        gradient: reinforce, or dynamics: through the model (auto: by the kind of actions, discrete or continuous).
    """

    horizon: Annotated[int, Ge(2)] = 10
    starts: Count = 64
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.99
    lam: Share = 0.95
    lr: Positive = 3e-4
    critic_lr: Positive = 3e-4
    entropy: NotNegative = 0.05
    units: Count = 128
    layers: Count = 2
    clip: Positive = 100.0
    slow_every: Count = 100
    gradient: Literal["auto", "reinforce", "dynamics"] = "auto"


@settings
class Random:
    """Uniform actions in every deployment: the baseline of data without exploration. The world model is trained."""

    type: Literal["random"] = "random"


@settings
class Plan2Explore:
    """One explorer that is paid the ensemble's disagreement.

    Attributes:
        actor: how it is trained.
    """

    type: Literal["p2e"] = "p2e"
    actor: Actor = Actor()


@settings
class Population:
    """Independent Plan2Explore agents in one world model.

    Attributes:
        agents: B.
        actor: how they are trained.
    """

    type: Literal["population"] = "population"
    agents: Annotated[int, Ge(2)] = 5
    actor: Actor = Actor()


@settings
class Cascade:
    """Agents that are also paid for ending elsewhere than those before them.

    Attributes:
        agents: B.
        share: lambda, of the reward for diversity.
        scale: normalised: both terms are divided by their running mean, and diversity counts once for each imagined
            step, so that `share` has no unit; raw: (1 - share) disagreement + share diversity, as in the original.
        diversity: how it is measured.
        actor: how they are trained.
    """

    type: Literal["cascade"] = "cascade"
    agents: Annotated[int, Ge(2)] = 5
    share: Share = 0.1
    scale: Literal["normalised", "raw"] = "normalised"
    diversity: Annotated[Variance | NearestNeighbours | LogDet | InfoGain, Field(discriminator="type")] = Variance()
    actor: Actor = Actor()


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
        updates: of the model and the explorers after each deployment.
        updates_per_step: of them in one dispatch.
        seeds: independent runs side by side in one program.
        devices: that the seeds are spread over.
    """

    env: Annotated[FourRooms | MultiRoom | KeyCorridor | Gym, Field(discriminator="type")] = MultiRoom()
    world: WorldModel = WorldModel()
    explorer: Annotated[Random | Plan2Explore | Population | Cascade, Field(discriminator="type")] = Cascade()
    deployments: Count = 6
    env_steps: Count = 5000
    envs: Count = 2
    updates: CountOrZero = 500
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
        tasks: reward, the environment's own, or FILE.py:FUNCTION.
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


_SMALL = WorldModel(deter=64, hidden=64, units=64, length=16, lr=1e-3, ensemble_lr=1e-3)
_SMALL_ACTOR = Actor(starts=32, units=64, lr=1e-3, critic_lr=1e-3)

PRESETS: dict[str, TrainConfig] = {
    "small": TrainConfig(
        world=_SMALL, explorer=Cascade(agents=4, share=0.3, actor=_SMALL_ACTOR), deployments=5, env_steps=2000
    ),
    "multi_room": TrainConfig(),
    "four_rooms": TrainConfig(env=FourRooms()),
    "key_corridor": TrainConfig(env=KeyCorridor()),
}

PRESET_HELP: dict[str, str] = {
    "small": "four rooms behind doors with small networks; a few minutes of one core",
    "multi_room": "four rooms behind closed doors",
    "four_rooms": "four rooms without doors",
    "key_corridor": "a key, a locked door and a ball",
}
