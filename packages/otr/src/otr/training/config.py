"""The configuration of `otr train`: which labels, which learners, how long. Imports no jax."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from otr.config import EndRule
from otr.presets import PRESETS, Domain
from paperloop.errors import UserError
from paperloop.settings import Count, Positive, did_you_mean, fault, settings

__all__ = ["CLONING", "ORIGINAL", "SCHEMA", "TrainConfig"]

#: Of saved configurations.
SCHEMA = 2

#: Learners that clone behaviour; one program holds them all.
CLONING = ("bc", "bc10", "bc10-labels")
#: The name in OUT/data of the data as it came.
ORIGINAL = "original"
#: What a name in `TrainConfig.labels` ends with that is a file's.
_SUFFIXES = (".hdf5", ".h5", ".hdf", ".npz")


@settings
class TrainConfig:
    """Learners on a dataset labelled in several ways, all else equal: the arms of a comparison.

    Attributes:
        data: the dataset: a D4RL HDF5 file, a Minari folder, or an npz file
        demos: the demonstrations: a file of the same formats, or top:K for the K best episodes of the dataset
        domain: whose published settings labels and IQL take
        labels: presets of `otr label`; oracle is the true rewards, constant the control. Also files that `otr label`
            made of the same data with other settings: mine.hdf5 is called mine in the table
        learners: bc; bc10, which clones the best 10 % of the episodes by true return; bc10-labels, the best 10 % by
            labelled return; iql; td3bc; or another offline learner of policy-finetune
        env_id: gymnasium's name of the environment that evaluates; empty: the dataset's own
        seeds: agents of each arm; equal numbers start from equal networks in all arms of a learner
        updates: critic updates (of bc: of the policy), rounded up to whole dispatches
        updates_per_step: updates a dispatch; a multiple of 2 for td3bc, whose actor is updated once in two
        hidden: widths of the hidden layers
        batch_size: transitions an update
        evaluations: over the run, in addition to the one before the first update
        eval_episodes: episodes an evaluation; the last one is what is reported
        normalize_observations: standardise observations by the dataset's mean and standard deviation; the original IQL
            does not
        reward_scale: rewards, scaled already as the preset of their labels says, are multiplied by this ...
        reward_bias: ... and this is added, for all learners: TD3+BC, unlike IQL, was published with unscaled rewards
        initial_value: where critics and value begin: at the mean discounted return to go of the labelled data, or near
            zero, as published: a short run then only learns the mean, which on HalfCheetah is some forty times OTR's
            labels' spread
        devices: agents are spread over so many devices (CPU: virtual ones, one a core), as far as their number can be
            divided
        demo_score: what top:K ranks by (None: the domain's)
        episode_ends: what ends an episode, in flat files; for AntMaze give goal or timeouts
        max_episode_steps: the time limit, for flat files that say nothing of time-outs (None: the environment's)
        observation_keys: parts of the observations to join, for Minari data made of parts
        action_keys: likewise for actions
        drop_nonfinite: leave out episodes that hold NaN or infinity
    """

    data: str = ""
    demos: str = "top:1"
    domain: Domain = "locomotion"
    labels: tuple[str, ...] = ("oracle", "otr", "seabo", "minimum-distance", "constant")
    learners: Annotated[tuple[str, ...], Field(min_length=1)] = ("bc", "bc10", "iql")
    env_id: str = ""
    seeds: Count = 3
    updates: Count = 1_000_000
    updates_per_step: Count = 1000
    hidden: Annotated[tuple[Count, ...], Field(min_length=1)] = (256, 256)
    batch_size: Count = 256
    evaluations: Count = 20
    eval_episodes: Count = 10
    normalize_observations: bool = True
    reward_scale: Positive = 1.0
    reward_bias: float = 0.0
    initial_value: Literal["mean", "zero"] = "mean"
    devices: Count = 1
    demo_score: Literal["return", "antmaze"] | None = None
    episode_ends: EndRule | None = None
    max_episode_steps: Count | None = None
    observation_keys: tuple[str, ...] = ()
    action_keys: tuple[str, ...] = ()
    drop_nonfinite: bool = False

    def __post_init__(self) -> None:
        for name in self.labels:
            if name not in PRESETS and not _is_path(name):
                near = did_you_mean(name, PRESETS)
                more = "" if near.endswith("?") else f" A file is given with its suffix, a folder as ./{name}."
                raise UserError(f"There are no labels {name!r}{near}{more}")
        for name, path in self.label_files.items():
            if name in PRESETS or name == ORIGINAL or name.startswith("."):
                raise UserError(
                    f"{path}: the labels of a file have its name, and {name!r} means something else: rename the file."
                )
        for field, what in (("labels", "arm"), ("learners", "learner")):
            names = list(map(_name, self.labels)) if field == "labels" else list(self.learners)
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise fault(self, field, text=f"{{{field}}} names {twice!r} twice: name each {what} once.")
        if not self.labels and any(self.reads_labels(name) for name in self.learners):
            raise fault(self, "labels", "one or more presets or files, such as oracle, otr and constant")

    @staticmethod
    def reads_labels(learner: str) -> bool:
        """Whether what a learner does depends on rewards that labelling gives: not so for bc and bc10."""
        return learner not in ("bc", "bc10")

    @property
    def used_labels(self) -> tuple[str, ...]:
        """The names of the labels that some learner reads."""
        return tuple(map(_name, self.labels)) if any(self.reads_labels(name) for name in self.learners) else ()

    @property
    def label_files(self) -> dict[str, str]:
        """Name -> path of the labels that were made before."""
        return {_name(one): one for one in self.labels if _is_path(one)}

    @property
    def used_presets(self) -> tuple[str, ...]:
        """Those of `used_labels` that `otr train` makes."""
        return tuple(name for name in self.used_labels if name not in self.label_files)

    @property
    def dispatch(self) -> int:
        """Updates of one dispatch: `updates_per_step`, or all of them where these are fewer."""
        return min(self.updates_per_step, self.updates)

    @property
    def num_steps(self) -> int:
        """Dispatches."""
        return -(-self.updates // self.dispatch)

    @property
    def evaluation_steps(self) -> tuple[int, ...]:
        """The dispatches after which agents are evaluated, the last among them."""
        count = min(self.evaluations, self.num_steps)
        return tuple(round(self.num_steps * k / count) for k in range(1, count + 1))

    def label_config(self, name: str) -> Any:
        """Return the labeller's configuration behind a preset in `labels`."""
        return PRESETS[name][self.domain]


def _is_path(label: str) -> bool:
    return label not in PRESETS and (label.endswith(_SUFFIXES) or "/" in label or "\\" in label)


def _name(label: str) -> str:
    """What labels are called in tables and in OUT/data: a preset, or a file's name without its suffix."""
    if not _is_path(label):
        return label
    path = Path(label)
    return path.stem if path.suffix in _SUFFIXES else path.name
