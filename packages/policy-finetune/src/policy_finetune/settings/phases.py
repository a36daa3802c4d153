"""Settings of data and of the online phase: how files are read, what batches hold, the switch, the guard."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Annotated, Literal

from pydantic import Field

from paperloop.settings import Count, CountOrZero, NotNegative, Positive, PositiveShare, Share, settings
from policy_finetune.settings.learners import Schedule, ScheduleOrZero

__all__ = [
    "AppendReplay", "BalancedReplay", "DataOptions", "DecayReplay", "DropReplay", "GuardConfig", "ReplayConfig",
    "SwitchConfig", "SymmetricReplay",
]  # fmt: skip


@settings
class DataOptions:
    """How dataset files are read. Online None means: as the pre-trained run read them.

    Attributes:
        semantics: exact: every step, with its stored next observation; d4rl: next observation = next row, and the last
            step of an episode is left out unless it is terminal, as D4RL's qlearning_dataset does (None: exact)
        actions: units of the file's actions: the environment's own, or canonical, in [-1, 1] (None: env)
        out_of_bounds: what to do with actions outside the bounds: clip, or error (None: clip)
        drop_nonfinite: leave out episodes with NaN or infinity instead of refusing the file (None: no)
        time_limits: take ends at the environment's time limit that the file calls terminated for truncated (None: yes)
        episode_ends: what ends an episode in a D4RL file (see paperloop_data.read_d4rl) (None: auto)
        observation_keys: the parts of observations to join to one vector, in this order, where the environment or a
            Minari dataset has observations made of parts: observation desired_goal
    """

    semantics: Literal["exact", "d4rl"] | None = None
    actions: Literal["env", "canonical"] | None = None
    out_of_bounds: Literal["clip", "error"] | None = None
    drop_nonfinite: bool | None = None
    time_limits: bool | None = None
    episode_ends: Literal["auto", "flags", "timeouts", "steps", "goal", "mismatch"] | None = None
    observation_keys: tuple[str, ...] | None = None

    def over(self, before: DataOptions) -> DataOptions:
        """Return these options, with those of an earlier phase where these are None."""
        mine = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(before, **{name: value for name, value in mine.items() if value is not None})


@settings
class DropReplay:
    """Batches of online data only.

    Attributes:
        capacity: online transitions kept, oldest out first
    """

    type: Literal["drop"] = "drop"
    capacity: Count = 1_000_000


@settings
class _WithData:
    """What replays that may hold offline data have.

    Attributes:
        capacity: online transitions kept, oldest out first
        top_fraction: keep only the best episodes of the offline data
    """

    capacity: Count = 1_000_000
    top_fraction: PositiveShare = 1.0


@settings
class AppendReplay(_WithData):
    """Batches uniform over offline and online data together."""

    type: Literal["append"] = "append"


@settings
class SymmetricReplay(_WithData):
    """A fixed share of each batch is offline data (RLPD: 0.5).

    Attributes:
        rho: the share
    """

    type: Literal["symmetric"] = "symmetric"
    rho: Share = 0.5


@settings
class DecayReplay(_WithData):
    """The share of offline data falls linearly.

    Attributes:
        rho: the first share
        rho_final: where it ends
        decay_steps: critic updates that it takes
    """

    type: Literal["decay"] = "decay"
    rho: Share = 0.5
    rho_final: Share = 0.0
    decay_steps: Schedule = 50_000


@settings
class BalancedReplay(_WithData):
    """Offline data by its density ratio to the online data (Lee et al. 2021, arXiv 2107.00591).

    Attributes:
        rho: the first share of offline data
        temperature: T: priorities are w^(1/T), normalised
        ratio_lr: learning rate of the density-ratio network
    """

    type: Literal["balanced"] = "balanced"
    rho: Share = 0.5
    temperature: Positive = 5.0
    ratio_lr: Positive = 3e-4


#: What a batch holds once the agent acts in the environment.
ReplayConfig = Annotated[
    AppendReplay | DropReplay | SymmetricReplay | DecayReplay | BalancedReplay, Field(discriminator="type")
]


@settings
class SwitchConfig:
    """What happens between the offline and the online phase.

    Attributes:
        warmup_env_steps: environment steps with the frozen policy before the first update (WSRL: 5000)
        critic_warmup: critic updates after that before the actor moves
        critic_reinit: forget the critics
        allow_new: let an actor or critic start from scratch where the pre-trained one has another shape, instead of
            refusing it
    """

    warmup_env_steps: CountOrZero = 1000
    critic_warmup: ScheduleOrZero = 0
    critic_reinit: bool = False
    allow_new: bool = False


@settings
class GuardConfig:
    """Watches training returns, and brings the policy back when it collapses.

    Attributes:
        episodes: finished episodes whose mean return is compared
        drop: collapse: the mean falls by this share of (start - random) below the start
        nu_boost: added to ν at each return, where there is a constraint
        max_returns: give up after so many
    """

    episodes: Count = 10
    drop: Positive = 0.5
    nu_boost: NotNegative = 2.0
    max_returns: Count = 10
