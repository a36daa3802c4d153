"""Pretraining and fine-tuning on strings of a grammar as a `paperloop.Trainer`, and what is measured of it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from llm_probes.config import PcfgConfig, Pretrain
from llm_probes.models.lines import write_rows
from llm_probes.models.loading import load_model
from llm_probes.models.scratch import gpt2, word_tokenizer
from llm_probes.wrapped.instruments import CausalView, Examples, accuracy, answer_loss
from llm_probes.wrapped.pcfg import Layout, relate, windows
from llm_probes.wrapped.tune import make_optimiser, warmup_cosine
from paperloop.errors import UserError
from paperloop.torch_backend import load_objects, save_objects

__all__ = ["PcfgAccuracy", "PcfgTrainer", "write_outcome"]

State = SimpleNamespace


class PcfgTrainer:
    """One phase: next-token prediction on all questions, or cross entropy of the answers of one.

    Attributes:
        config: the run.
        donates: True, `step` changes the state that it is given.
        headlines: the metrics to show first.
        layout: tokens of the questions.
        view: reads answers that are counts.
    """

    donates = True
    headlines: Sequence[str] = ("loss",)

    def __init__(self, config: PcfgConfig, device: str = "cpu"):
        self.config, self.device = config, device
        self.layout = Layout(config.length, config.reach, config.nth)
        self.tokenizer = word_tokenizer(self.layout.names, end="EOS", pad="null")
        self.view = CausalView(range(config.reach + 1))
        self.start = None
        if not isinstance(config.phase, Pretrain):
            self.start, tokenizer = load_model(config.phase.model, kind="causal", device=device, dtype="float32")
            if tokenizer.get_vocab() != self.tokenizer.get_vocab():
                raise UserError(f"{config.phase.model} was trained on other windows: use its length, reach and nth.")

    def init(self, seed: int) -> State:
        """Return the state before the first step."""
        phase: Any = self.config.phase
        if self.start is None:
            size = {"layers": phase.layers, "width": phase.width, "positions": self.layout.positions}
            model = gpt2(self.tokenizer, **size, seed=seed, tied=False).to(self.device).eval()
        else:
            model = copy.deepcopy(self.start)
        optimiser = make_optimiser(model.parameters(), "adamw", phase.lr)
        return State(model=model, optimiser=optimiser, generator=torch.Generator().manual_seed(seed + 1), updates=0)

    def draw(
        self, number: int, generator: torch.Generator, *, operand: str = "a", correlated: float | None = 0.0
    ) -> Examples:
        """Return windows with the count of a letter, the one of pretraining by default."""
        source = _numpy(generator)
        letters = windows(number, self.config.length, source)
        letters = relate(letters, correlated, reach=self.config.reach, generator=source)
        found = self.layout.examples(letters, "count", operand)
        return Examples(found.tokens.to(self.device), found.targets.to(self.device))

    def step(self, state: State) -> tuple[State, dict[str, Any]]:
        """Do one update."""
        phase: Any = self.config.phase
        for group in state.optimiser.param_groups:
            group["lr"] = phase.lr * warmup_cosine(state.updates, steps=self.config.steps)
        if self.start is None:
            prior = dict(zip("abc", phase.prior, strict=True))
            source = _numpy(state.generator)
            rows = self.layout.mixture(phase.batch, prior, source, phase.families, phase.spread).to(self.device)
            logits = state.model(input_ids=rows[:, :-1], use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        else:
            batch = self.draw(phase.batch, state.generator, operand=phase.operand, correlated=phase.correlated)
            loss = answer_loss(self.view, state.model, batch)
        state.optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), 1.0)
        state.optimiser.step()
        state.updates += 1
        return state, {"loss": loss.detach(), "gradient_norm": norm}

    def final_notes(self, state: State) -> list[str]:
        """Return what a reader of the accuracies must know."""
        if not isinstance(self.config.phase, Pretrain):
            return []
        absent = [letter for letter, share in zip("ab", self.config.phase.prior, strict=False) if share == 0]
        return [f"{one} was never asked about, so its accuracy is that of an unseen question" for one in absent]

    def progress(self, state: State) -> Mapping[str, int]:
        """Return counters."""
        return {"updates": state.updates, "strings": state.updates * self.config.phase.batch}

    def save(self, state: State, folder: Path) -> None:
        """Write the whole state."""
        save_objects(vars(state), folder)

    def restore(self, folder: Path, like: State) -> State:
        """Read it back."""
        return State(**load_objects(vars(like), folder))


def _numpy(generator: torch.Generator) -> np.random.Generator:
    """Return a NumPy generator seeded by the next number of a PyTorch one, which checkpoints can hold."""
    return np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))


class PcfgAccuracy:
    """Percent right on the counts of a and b: in natural strings, with the relation and without it."""

    def __init__(self, trainer: PcfgTrainer, examples: int = 500):
        self.trainer, self.examples = trainer, examples

    def __call__(self, state: State, seed: int) -> dict[str, float]:
        """Return the six accuracies on strings drawn from `seed`, and what the commonest answer earns."""
        found = {}
        for word, share in (("natural", None), ("with", 1.0), ("without", 0.0)):
            for letter in "ab":
                drawn = self.trainer.draw(
                    self.examples, torch.Generator().manual_seed(seed), operand=letter, correlated=share
                )
                found[f"{letter}_{word}"] = accuracy(self.trainer.view, state.model, drawn, batch=128)
            found[f"commonest_{word}"] = 100 * float(drawn.targets.bincount().max()) / len(drawn)
        return found


def write_outcome(trainer: PcfgTrainer, state: State, folder: Path, *, seed: int, examples: int = 2000) -> None:
    """Write model/, which `transformers` reads, and task.jsonl: counts of a without the relation."""
    state.model.save_pretrained(folder / "model")
    trainer.tokenizer.save_pretrained(folder / "model")
    drawn = trainer.draw(examples, torch.Generator().manual_seed(seed + 1000))
    names = trainer.layout.names
    rows = [
        {"prompt": " ".join(names[token] for token in tokens), "answer": f" {names[target]}"}
        for tokens, target in zip(drawn.tokens.tolist(), drawn.targets.tolist(), strict=True)
    ]
    write_rows(folder / "task.jsonl", rows)
