"""The configuration of `otr train`: which labels, which learners, how long. Imports no jax."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from otr.presets import PRESETS, Domain
from paperloop.errors import UserError
from paperloop.settings import Count, Positive, did_you_mean, fault, settings

__all__ = ["CLONING", "ORIGINAL", "SCHEMA", "TrainConfig"]

#: Of saved configurations.
SCHEMA = 3
#: Learners that clone behaviour; one program holds them all.
CLONING = ("bc", "bc10", "bc10-labels")
#: The name in OUT/data of the data as it came.
ORIGINAL = "original"


@settings
class TrainConfig:
    """Learners on a dataset labelled in several ways, all else equal: the arms of a comparison.

    Attributes:
        data: the dataset: a D4RL HDF5 file, a Minari folder, or an npz file; of one that `otr label` wrote the rewards
            that it had before count
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

    def __post_init__(self) -> None:
        for label in self.labels:
            if label in PRESETS:
                continue
            if "/" not in label and not Path(label).suffix:
                near = did_you_mean(label, PRESETS)
                more = "" if near.endswith("?") else f" A file is given with its suffix, a folder as ./{label}."
                raise UserError(f"There are no labels {label!r}{near}{more}")
            if (name := _name(label)) in PRESETS or name == ORIGINAL:
                raise UserError(
                    f"{label}: the labels of a file have its name, and {name!r} means something else: rename the file."
                )
        for field, names in (("labels", [_name(label) for label in self.labels]), ("learners", self.learners)):
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise fault(self, field, text=f"{{{field}}} names {twice!r} twice: name each once.")
        if not self.labels and self._reads_labels:
            raise fault(self, "labels", "one or more presets or files, such as oracle, otr and constant")

    @property
    def _reads_labels(self) -> bool:
        return any(name not in ("bc", "bc10") for name in self.learners)

    @property
    def used_labels(self) -> dict[str, str]:
        """What labels are called in tables and in OUT/data -> preset or file, of those that some learner reads."""
        return {_name(label): label for label in self.labels} if self._reads_labels else {}

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


def _name(label: str) -> str:
    """A preset's own name, or a file's without its suffix."""
    path = Path(label)
    return label if label in PRESETS else path.stem if path.suffix in (".hdf5", ".h5", ".hdf", ".npz") else path.name
