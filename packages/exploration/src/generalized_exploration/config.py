"""The settings of the experiments, and their presets. Loads no array library."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from paperloop.settings import (
    Count,
    CountOrZero,
    Ge,
    NotNegative,
    Positive,
    PositiveShare,
    Seed,
    Share,
    fault,
    settings,
)

__all__ = ["ARMS", "GROW_PRESETS", "PRESETS", "Digits", "GrowConfig", "Mazes", "Reference", "RunConfig"]

ArmName = Literal[
    "uniform", "loss", "gradient_norm", "entropy", "margin", "disagreement", "learning_progress", "reducible_loss",
    "negative_irreducible_loss", "uniform_more_data", "uniform_from_reference", "uniform_equal_flops",
]  # fmt: skip
#: Criteria as arms, then the baselines that an honest comparison with a reference model needs.
ARMS: tuple[ArmName, ...] = (
    "uniform", "loss", "gradient_norm", "entropy", "disagreement", "learning_progress", "reducible_loss",
    "negative_irreducible_loss", "uniform_more_data", "uniform_from_reference", "uniform_equal_flops",
)  # fmt: skip


@settings
class Mazes:
    """Generated mazes; the class is a bucket of the distance from agent to goal, by breadth-first search.

    Attributes:
        size: cells on a side
        walls: fewest and most walls
        train: examples to choose from
        holdout: examples for the reference model
        test: examples with right labels, of the target kind only
        label_noise: share of labels that are drawn anew, uniformly, in train and holdout
        trivial: share of train with the goal next to the agent
        irrelevant: share of train with a walled-in goal in a maze unlike the target's
    """

    type: Literal["mazes"] = "mazes"
    size: Annotated[int, Ge(5)] = 13
    walls: tuple[int, int] = (0, 60)
    train: Count = 60_000
    holdout: Count = 40_000
    test: Count = 5_000
    label_noise: Share = 0.2
    trivial: Share = 0.2
    irrelevant: Share = 0.1

    def __post_init__(self) -> None:
        low, high = self.walls
        if not 0 <= low <= high <= self.size**2 - 2:
            raise fault(self, "walls", f"two counts in order, at most {self.size**2 - 2} with {{size}} = {self.size}")
        if self.trivial + self.irrelevant > 1:
            raise fault(self, "irrelevant", f"at most 1 - {{trivial}} = {1 - self.trivial:g}")


@settings
class Digits:
    """scikit-learn's 1,797 real images of digits, 8 x 8, in noisy copies.

    Attributes:
        images: of the training set
        copies: of each training image, with noise on the pixels
        holdout: images for the reference model; what is left is the test set
        pixel_noise: standard deviation, of pixels in [0, 1]
        label_noise: share of labels that are drawn anew, uniformly, in train and holdout
    """

    type: Literal["digits"] = "digits"
    images: Annotated[int, Field(ge=10, le=1200)] = 1000
    copies: Count = 20
    holdout: Annotated[int, Field(ge=10, le=500)] = 400
    pixel_noise: NotNegative = 0.1
    label_noise: Share = 0.1


@settings
class Reference:
    """The model whose loss is subtracted: the learner's network, trained on the holdout.

    Attributes:
        epochs: over its data
        share: of the holdout that it sees; little data makes a poor reference
        batch: examples of an update
    """

    epochs: Count = 6
    share: PositiveShare = 1.0
    batch: Count = 64


@settings
class RunConfig:
    """Supervised batch selection, every criterion an arm on the same data in the same order.

    Attributes:
        task: what is learned
        arms: criteria and baselines
        steps: of selection, for each arm
        pool: n_B, examples that are scored at a step
        keep: n_b, examples of them that are trained on
        lr: AdamW's step size
        weight_decay: AdamW's
        reference: the reference model
        members: of the ensemble whose disagreement is a criterion
        width: units of the network's hidden layer
        steps_per_dispatch: in one program, between measurements
        seeds: independent runs, each with data, models and order of its own
        data_seed: of the data
    """

    task: Annotated[Mazes | Digits, Field(discriminator="type")] = Mazes()
    arms: tuple[ArmName, ...] = ARMS
    steps: Count = 2000
    pool: Count = 320
    keep: Count = 32
    lr: Positive = 1e-3
    weight_decay: NotNegative = 0.01
    reference: Reference = Reference()
    members: Annotated[int, Ge(2)] = 5
    width: Count = 128
    steps_per_dispatch: Count = 50
    seeds: Count = 5
    data_seed: Seed = 0

    def __post_init__(self) -> None:
        if not self.arms or len(set(self.arms)) < len(self.arms):
            raise fault(self, "arms", "at least one name, each once")
        if self.keep > self.pool:
            raise fault(self, "keep", f"at most {{pool}} = {self.pool}")
        if self.steps % self.steps_per_dispatch:
            raise fault(self, "steps_per_dispatch", f"a divisor of {{steps}} = {self.steps}")
        count = self.task.train if isinstance(self.task, Mazes) else self.task.images * self.task.copies
        if self.pool * self.steps_per_dispatch > count:
            raise fault(
                self, "steps_per_dispatch", f"at most {count // self.pool}, because {{pool}} = {self.pool} examples a "
                f"step are drawn without replacement from {count}",
            )  # fmt: skip
        held = self.task.holdout * self.reference.share
        if held < self.reference.batch:
            raise fault(self, "reference.batch", f"at most {int(held)}, the examples that the reference sees")

    @property
    def dispatches(self) -> int:
        """Dispatches of the whole run: an epoch of the reference each, then the arms'."""
        return self.reference.epochs + self.steps // self.steps_per_dispatch


@settings
class GrowConfig:
    """The outer loop: a generator that starts with easy mazes and proposes edits of those that score high.

    Attributes:
        arms: criteria by which mazes are kept, replayed and edited; uniform: at random
        size: cells on a side
        capacity: mazes in the buffer
        batch: mazes that are trained on in a step
        proposals: edited mazes that are offered to the buffer in a step
        edits: cells that an edit changes
        walls: most walls of an edited maze
        temperature: of the replay by rank
        rho: share of staleness in the replay
        threshold: accuracy on a family from which it counts as passed
        lr: AdamW's step size
        weight_decay: AdamW's
        width: units of the network's hidden layer
        steps: for each arm
        steps_per_dispatch: in one program, between measurements
        seeds: independent runs
    """

    arms: tuple[Literal["uniform", "loss", "gradient_norm", "entropy", "learnability"], ...] = (
        "uniform", "loss", "entropy", "learnability",
    )  # fmt: skip
    size: Annotated[int, Field(ge=7, le=25)] = 13
    capacity: Count = 2048
    batch: Count = 64
    proposals: Count = 64
    edits: Count = 4
    walls: CountOrZero = 60
    temperature: Positive = 0.5
    rho: Share = 0.3
    threshold: Share = 0.7
    lr: Positive = 1e-3
    weight_decay: NotNegative = 0.01
    width: Count = 128
    steps: Count = 6000
    steps_per_dispatch: Count = 100
    seeds: Count = 5

    def __post_init__(self) -> None:
        if not self.arms or len(set(self.arms)) < len(self.arms):
            raise fault(self, "arms", "at least one name, each once")
        if self.batch > self.capacity:
            raise fault(self, "batch", f"at most {{capacity}} = {self.capacity}")
        if self.proposals > self.capacity:
            raise fault(self, "proposals", f"at most {{capacity}} = {self.capacity}")
        if self.steps % self.steps_per_dispatch:
            raise fault(self, "steps_per_dispatch", f"a divisor of {{steps}} = {self.steps}")

    @property
    def dispatches(self) -> int:
        """Dispatches of the whole run."""
        return self.steps // self.steps_per_dispatch


_DIGITS = Reference(epochs=60, batch=32)
_SMALL = Mazes(size=9, walls=(0, 30), train=8000, holdout=8000, test=1000)

#: Name -> a run of batch selection.
PRESETS: dict[str, RunConfig] = {
    "mazes": RunConfig(),
    "mazes_poor_reference": RunConfig(reference=Reference(epochs=3, share=0.1)),
    "digits": RunConfig(task=Digits(), reference=_DIGITS, steps=1000, steps_per_dispatch=25),
    "digits_clean": RunConfig(task=Digits(label_noise=0.0), reference=_DIGITS, steps=1000, steps_per_dispatch=25),
    "digits_noisy": RunConfig(task=Digits(label_noise=0.3), reference=_DIGITS, steps=1000, steps_per_dispatch=25),
    "small": RunConfig(
        task=_SMALL, arms=("uniform", "loss", "reducible_loss"), steps=400, steps_per_dispatch=20, seeds=2
    ),
}
PRESET_HELP = {
    "mazes": "13 x 13 mazes, a fifth of the labels wrong, all arms, five seeds",
    "mazes_poor_reference": "the same with a reference that saw a tenth of the holdout",
    "digits": "scikit-learn's digits, a tenth of the labels wrong",
    "digits_clean": "scikit-learn's digits, all labels right",
    "digits_noisy": "scikit-learn's digits, three tenths of the labels wrong",
    "small": "9 x 9 mazes and three arms: half a minute of a CPU",
}
#: Name -> a run of the outer loop.
GROW_PRESETS: dict[str, GrowConfig] = {"mazes": GrowConfig()}
GROW_PRESET_HELP = {"mazes": "13 x 13 mazes, from empty ones, five seeds"}
