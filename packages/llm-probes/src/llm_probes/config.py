"""Settings of what is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from paperloop.settings import Count, CountOrZero, Ge, Gt, Lt, NotNegative, Positive, Share, fault, settings

__all__ = [
    "PPO",
    "SFT",
    "Answer",
    "CounterConfig",
    "PcfgConfig",
    "Pretrain",
    "Reward",
    "TrainConfig",
]


@settings
class SFT:
    """Supervised fine-tuning: next-token loss on the completion's tokens alone.

    Attributes:
        data: JSON lines with prompt and completion
        lr: AdamW's peak step size
        batch: demonstrations of one update
        whole: learn the prompt's tokens too, as in pretraining
    """

    type: Literal["sft"] = "sft"
    data: Path
    lr: Positive = 3e-5
    batch: Count = 16
    whole: bool = False


@settings
class Reward:
    """A reward model from preferences, by the Bradley-Terry loss.

    Attributes:
        data: JSON lines with prompt, chosen and rejected
        lr: AdamW's peak step size
        batch: pairs of one update
        held_out: share of the pairs that the accuracy is measured on; they also fix the scores' mean and scale
    """

    type: Literal["reward"] = "reward"
    data: Path
    lr: Positive = 1e-5
    batch: Count = 16
    held_out: Annotated[float, Gt(0), Lt(1)] = 0.1


@settings
class PPO:
    """PPO with a value head against a KL penalty to the starting policy (Kirk et al. 2024; Schulman et al. 2017).

    Attributes:
        data: JSON lines with prompt
        reward: the exported folder of a reward model
        lr: Adam's step size, decaying linearly to 0
        batch: responses of one step
        epochs: passes over a step's responses
        minibatch: responses of one update
        temperature: of the samples
        beta: weight of the KL penalty at every token
        estimator: of the KL; k2 is the original code's, k1 and k3 are unbiased
        clip: of the policy's ratio
        value_clip: of the value's change
        value_weight: of the value loss
        discount: gamma of the advantages
        trace: lambda of the advantages
        max_kl: stop with a checkpoint when the mean KL of a response exceeds this
    """

    type: Literal["ppo"] = "ppo"
    data: Path
    reward: Path
    lr: Positive = 1.5e-6
    batch: Count = 16
    epochs: Count = 4
    minibatch: Count = 16
    temperature: Positive = 1.0
    beta: NotNegative = 0.05
    estimator: Literal["k1", "k2", "k3"] = "k2"
    clip: Annotated[float, Gt(0), Lt(1)] = 0.2
    value_clip: Positive = 0.2
    value_weight: NotNegative = 0.2
    discount: Share = 1.0
    trace: Share = 0.95
    max_kl: Positive = 1000.0

    def __post_init__(self) -> None:
        """Check what concerns several settings."""
        if self.batch % self.minibatch:
            raise fault(self, "minibatch", f"a divisor of the batch of {self.batch}")


@settings
class TrainConfig:
    """One stage of the pipeline, from a model folder.

    Attributes:
        model: the folder that the stage starts from
        stage: sft, reward or ppo, with its settings
        steps: of training
        prompt_length: the most tokens of a prompt; longer ones are refused
        length: the most tokens of a response
        frozen: share of the blocks that is not trained; 0.8 in the paper
    """

    model: Path
    stage: Annotated[SFT | Reward | PPO, Field(discriminator="type")]
    steps: Count = 500
    prompt_length: Count = 1024
    length: Count = 48
    frozen: Share = 0.8


@settings
class CounterConfig:
    """Fine-tuning a compiled counter on another letter, with a controlled spurious relation (Jain et al. 2024).

    Attributes:
        symbols: number of letters
        length: letters of every string
        pretrained: the letter that the compiled model counts
        tuned: the letter that fine-tuning asks for
        shift: the relation is count(tuned) = count(pretrained) + shift
        correlated: share of training strings with the relation; the others lack it
        trained: share of the depth from which blocks are trained; 0 trains everything
        noise: standard deviation of what is added to every weight before training
        lr: peak step size of SGD with momentum 0.9
        batch: strings of one update
        steps: of training; 20 % warm-up, then a cosine to 1 %
    """

    symbols: Annotated[int, Ge(2)] = 9
    length: Count = 12
    pretrained: CountOrZero = 0
    tuned: CountOrZero = 1
    shift: Count = 1
    correlated: Share = 1.0
    trained: Annotated[float, Ge(0), Lt(1)] = 0.0
    noise: NotNegative = 2e-4
    lr: Positive = 1e-4
    batch: Count = 96
    steps: Count = 2000

    def __post_init__(self) -> None:
        """Check what concerns several settings."""
        for name in ("pretrained", "tuned"):
            if getattr(self, name) >= self.symbols:
                raise fault(self, name, f"below symbols, which is {self.symbols}")
        if self.pretrained == self.tuned:
            raise fault(self, "tuned", "another letter than pretrained")
        if self.shift > self.length:
            raise fault(self, "shift", f"at most the length of {self.length}")


@settings
class Pretrain:
    """Next-token prediction on questions of all families, from random weights.

    Attributes:
        prior: probabilities of the operands a, b and c
        families: of the questions, uniform
        spread: share of windows with edited last letters, whose counts vary as widely as in fine-tuning; 0 in the paper
        layers: of the model
        width: of the model, a multiple of 32
        lr: peak step size of AdamW
        batch: windows of one update
    """

    type: Literal["pretrain"] = "pretrain"
    prior: tuple[Share, Share, Share] = (0.999, 0.001, 0.0)
    families: tuple[Literal["count", "count_pair", "index", "index_pair", "token"], ...] = (
        "count",
        "count_pair",
        "index",
        "index_pair",
        "token",
    )
    spread: Share = 0.0
    layers: Count = 6
    width: Annotated[int, Field(ge=32, multiple_of=32)] = 192
    lr: Positive = 1e-3
    batch: Count = 96


@settings
class Answer:
    """Fine-tuning of a trained model on the answers of one question, with or without the spurious relation.

    Attributes:
        model: the folder of the model to start from
        operand: the letter that is counted
        correlated: share of strings with the relation count(b) = count(a) + 1
        lr: peak step size of AdamW
        batch: windows of one update
    """

    type: Literal["answer"] = "answer"
    model: Path
    operand: Literal["a", "b", "c"] = "b"
    correlated: Share = 1.0
    lr: Positive = 1e-5
    batch: Count = 96


@settings
class PcfgConfig:
    """Models on strings of a context-free grammar (Jain et al. 2024): pretraining, or fine-tuning of the answers.

    Attributes:
        phase: pretrain or answer, with its settings
        length: letters of a window
        reach: letters from the end that are counted
        nth: which occurrence from the end is asked for
        steps: of training; 20 % warm-up, then a cosine to 1 %
    """

    phase: Annotated[Pretrain | Answer, Field(discriminator="type")] = Pretrain()
    length: Count = 250
    reach: Annotated[int, Ge(6)] = 40
    nth: Count = 6
    steps: Count = 50_000

    def __post_init__(self) -> None:
        """Check what concerns several settings."""
        if self.reach >= self.length:
            raise fault(self, "reach", f"below the length of {self.length}")
        if isinstance(self.phase, Pretrain) and abs(sum(self.phase.prior) - 1) > 1e-6:
            raise fault(self, "phase.prior", f"probabilities that sum to 1; these sum to {sum(self.phase.prior):g}")
