"""Fine-tuning of compiled counters as a `paperloop.Trainer`, and what is measured of it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from llm_probes.config import CounterConfig
from llm_probes.wrapped.counting import draw_strings
from llm_probes.wrapped.instruments import CompiledView, Examples, accuracy, answer_loss
from llm_probes.wrapped.prune import late
from llm_probes.wrapped.rasp import RaspTransformer, compile_counter
from llm_probes.wrapped.tune import add_noise, make_optimiser, warmup_cosine
from llm_probes.wrapped.verdict import Verdict, examine
from paperloop.torch_backend import load_objects, save_objects

__all__ = ["CounterAccuracy", "CounterTrainer", "counter_verdict"]

State = SimpleNamespace
VIEW = CompiledView()


class CounterTrainer:
    """Fine-tunes a counter of one letter to count another, on strings with or without the spurious relation.

    Attributes:
        config: the run.
        donates: True, `step` changes the state that it is given.
        headlines: the metrics to show first.
    """

    donates = True
    headlines: Sequence[str] = ("loss",)

    def __init__(self, config: CounterConfig):
        self.config = config

    def compiled(self, letter: int, seed: int) -> RaspTransformer:
        """Return the model before fine-tuning, or one that counts another letter: the control."""
        model = compile_counter(symbols=self.config.symbols, length=self.config.length, letter=letter)
        add_noise(model, self.config.noise, torch.Generator().manual_seed(seed))
        return model

    def draw(
        self, number: int, generator: torch.Generator, *, letter: int | None = None, correlated: float = 0.0
    ) -> Examples:
        """Return strings with the count of a letter, the pretrained one by default."""
        config = self.config
        drawn = draw_strings(
            number,
            symbols=config.symbols,
            length=config.length,
            correlated=correlated,
            pretrained=config.pretrained,
            tuned=config.tuned,
            shift=config.shift,
            generator=generator,
        )
        return Examples(drawn.tokens, drawn.counts[:, config.pretrained if letter is None else letter])

    def init(self, seed: int) -> State:
        """Return the state before the first step."""
        model = self.compiled(self.config.pretrained, seed)
        if self.config.trained:
            kept = {id(parameter) for parameter in late(VIEW.prunable(model), self.config.trained).values()}
            for parameter in model.parameters():
                parameter.requires_grad_(id(parameter) in kept)
        generator = torch.Generator().manual_seed(seed + 1)
        optimiser = make_optimiser(model.parameters(), "sgd", self.config.lr)
        return State(model=model, optimiser=optimiser, generator=generator, updates=0)

    def step(self, state: State) -> tuple[State, dict[str, Any]]:
        """Do one update."""
        config = self.config
        for group in state.optimiser.param_groups:
            group["lr"] = config.lr * warmup_cosine(state.updates, steps=config.steps)
        batch = self.draw(config.batch, state.generator, letter=config.tuned, correlated=config.correlated)
        state.optimiser.zero_grad()
        loss = answer_loss(VIEW, state.model, batch)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), 10.0)
        state.optimiser.step()
        state.updates += 1
        return state, {"loss": loss.detach(), "gradient_norm": norm}

    def progress(self, state: State) -> Mapping[str, int]:
        """Return counters."""
        return {"updates": state.updates, "strings": state.updates * self.config.batch}

    def save(self, state: State, folder: Path) -> None:
        """Write the whole state."""
        save_objects(vars(state), folder)

    def restore(self, folder: Path, like: State) -> State:
        """Read it back."""
        return State(**load_objects(vars(like), folder))


class CounterAccuracy:
    """Accuracy in percent on either letter's count, on strings with and without the relation."""

    def __init__(self, trainer: CounterTrainer, examples: int = 1000):
        self.trainer, self.examples = trainer, examples

    def __call__(self, state: State, seed: int) -> dict[str, float]:
        """Return the four accuracies on strings drawn from `seed`."""
        config, found = self.trainer.config, {}
        for word, share in (("with", 1.0), ("without", 0.0)):
            for name, letter in (("tuned", config.tuned), ("pretrained", config.pretrained)):
                generator = torch.Generator().manual_seed(seed)
                drawn = self.trainer.draw(self.examples, generator, letter=letter, correlated=share)
                found[f"{name}_{word}"] = accuracy(VIEW, state.model, drawn)
        return found


def counter_verdict(
    trainer: CounterTrainer, state: State, *, lr: float | None = None, seed: int = 0, examples: int = 2000
) -> Verdict:
    """Return whether the old count is removed or wrapped, by all instruments, on strings without the relation.

    `lr` is the rate of fine-tuning back, the run's own by default; a large one may teach the count anew.
    """
    generator = torch.Generator().manual_seed(seed)
    train, test = trainer.draw(examples, generator), trainer.draw(examples, generator)
    config = trainer.config
    before = trainer.compiled(config.pretrained, seed)
    after = copy.deepcopy(state.model).requires_grad_(True)
    return examine(
        VIEW,
        before,
        after,
        trainer.draw,
        train,
        test,
        start=config.trained,
        candidates=20,
        lr=config.lr if lr is None else lr,
        steps=300,
        seed=seed,
    )
