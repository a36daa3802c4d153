"""How fast are diversity and ensembles next to the loops that they replace? The same work, with the results compared.

    OMP_NUM_THREADS=1 python -m benchmarks.llm_probes.speed   # a minute or two of one core

- n-grams: distinct n-grams and EAD of 500 inputs with 16 outputs of 40 words, against loops as in the original code,
  which splits every text anew and builds tuples for each metric and each n.
- cosine: the closed form over vectors of 384 dimensions, against a loop over pairs.
- ensemble: eight fine-tunings of a compiled counter as one program, against eight one after the other in a loop like
  minGPT's trainer (a DataLoader, logits at every position), both with the paper's SGD, at its batch of 96 and at 16.
  The floor is the arithmetic: the matrix products of both passes alone, as plain products of one member at a time.

One thread. Scoring against lm-evaluation-harness is measured where that is installed, and PPO against TRL by
`benchmarks.llm_probes.parity_trl`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from benchmarks.harness import InProcess, Json, alternate, record, table, write_result
from llm_probes.diversity.ngrams import count_ngrams, distinct, ead, words_of
from llm_probes.diversity.similarity import cosine_diversity
from llm_probes.wrapped.counting import draw_strings
from llm_probes.wrapped.ensemble import train_together
from llm_probes.wrapped.instruments import Examples
from llm_probes.wrapped.rasp import compile_counter
from llm_probes.wrapped.tune import add_noise, make_optimiser, warmup_cosine

__all__ = ["main"]

MEMBERS, SYMBOLS, LENGTH, RATE = 8, 6, 8, 1e-4


def texts(inputs: int, outputs: int = 16, words: int = 40) -> list[list[str]]:
    """Return generations with the frequencies of natural words."""
    generator = np.random.default_rng(0)
    shares = 1 / np.arange(1, 8001)
    vocabulary = np.array([f"wo{i}d" for i in range(8000)])
    rows = generator.choice(vocabulary, (inputs, outputs, words), p=shares / shares.sum())
    return [[" ".join(row) + "." for row in group] for group in rows]


def ngram_loops(sets: Sequence[Sequence[str]]) -> np.ndarray:
    """Return (distinct, EAD) of every set, float [2, sets], by loops."""
    found = np.zeros((2, len(sets)))
    for i, group in enumerate(sets):
        for metric in range(2):
            values = []
            for n in range(1, 6):
                grams = [tuple(w[j : j + n]) for w in map(words_of, group) for j in range(len(w) - n + 1)]
                unique, total = len(set(grams)), len(grams)
                values.append(unique / (50257 * (1 - (50256 / 50257) ** total) if metric else total))
            found[metric, i] = np.mean(values)
    return found


def ngram_arrays(sets: Sequence[Sequence[str]]) -> np.ndarray:
    """Return the same by this package."""
    counts = count_ngrams(sets)
    return np.stack([distinct(counts), ead(counts)])


def cosine_loops(vectors: np.ndarray) -> np.ndarray:
    """Return the cosine diversity of every set, by a loop over pairs."""
    found = []
    for rows in vectors:
        norms = [float(np.sqrt(row @ row)) for row in rows]
        pairs = [rows[i] @ rows[j] / (norms[i] * norms[j]) for i in range(len(rows)) for j in range(i)]
        found.append(1 - np.mean(pairs))
    return np.array(found)


def members() -> list[Any]:
    """Return the counters to fine-tune."""
    found = []
    for seed in range(MEMBERS):
        model = compile_counter(symbols=SYMBOLS, length=LENGTH)
        add_noise(model, 2e-4, torch.Generator().manual_seed(seed))
        found.append(model)
    return found


def data_of(seed: int, batch: int, steps: int) -> TensorDataset:
    """Return the strings of one member with the letter b's count."""
    generator = torch.Generator().manual_seed(seed)
    drawn = draw_strings(batch * steps, symbols=SYMBOLS, length=LENGTH, correlated=1.0, generator=generator)
    return TensorDataset(drawn.tokens, drawn.counts[:, 1])


def one_by_one(data: Sequence[TensorDataset], batch: int, steps: int) -> list[Any]:
    """Return models fine-tuned one after the other, in a loop like minGPT's trainer."""
    trained = []
    for model, strings in zip(members(), data, strict=True):
        optimiser = make_optimiser(model.parameters(), "sgd", RATE)
        loader = DataLoader(Subset(strings, range(batch * steps)), batch_size=batch, shuffle=False)
        for step, (tokens, targets) in enumerate(loader):
            goals = torch.full_like(tokens, -1)
            goals[:, -1] = targets
            for group in optimiser.param_groups:
                group["lr"] = RATE * warmup_cosine(step, steps=steps)
            loss = nn.functional.cross_entropy(model(tokens).flatten(0, 1), goals.flatten(), ignore_index=-1)
            model.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
        trained.append(model)
    return trained


def together(data: Sequence[TensorDataset], batch: int, steps: int) -> list[Any]:
    """Return models fine-tuned as one program."""
    trained = members()

    def draw(step: int) -> list[Examples]:
        return [Examples(*strings[step * batch : (step + 1) * batch]) for strings in data]

    train_together(trained, draw, steps=steps, lr=RATE, clip=1.0)
    return trained


def products(batch: int) -> Callable[[], None]:
    """Return the matrix products of one step of one member, forward and backward, and nothing else."""
    tokens, last = batch * (LENGTH + 1), batch
    shapes = []
    for name, weight in members()[0].named_parameters():
        if weight.ndim == 2 and name.startswith(("blocks.", "unembed.")):
            late = name.startswith(("blocks.2.", "unembed.")) and not name.startswith(
                ("blocks.2.key", "blocks.2.value")
            )
            shapes.append((last if late else tokens, weight.shape[1], weight.shape[0]))
    pairs: list[tuple[Tensor, Tensor, Tensor]] = [
        (torch.randn(n, k), torch.randn(k, m), torch.randn(n, m)) for n, k, m in shapes
    ]

    def run() -> None:
        for inputs, weight, gradient in pairs:
            inputs @ weight
            gradient @ weight.T
            inputs.T @ gradient

    return run


def compared(name: str, ours: Callable[[], Any], peer: Callable[[], Any], work: int, rounds: int) -> Json:
    """Return the ratio of two functions that are run in turn."""

    def contestant(label: str, function: Callable[[], Any]) -> InProcess:
        def trial() -> Json:
            function()
            return {"work": work}

        def setup() -> tuple[Json, Callable[[], Json]]:
            function()  # whatever is loaded or allocated only once
            return {}, trial

        return InProcess(label, setup)

    comparison, _ = alternate([contestant("ours", ours), contestant("peer", peer)], rounds)
    ratio = comparison.ratio("ours", "peer", "cpu_s")
    rates = {label: comparison.rate(label, "cpu_s") for label in ("ours", "peer")}
    return {"name": name, "ratio": str(ratio), "median": ratio.median, "per cpu-s": rates}


def measure(inputs: int, steps: int, rounds: int) -> list[Json]:
    """Return all comparisons, each with the largest difference of its results."""
    torch.set_num_threads(1)
    sets = texts(inputs)
    vectors = np.random.default_rng(1).normal(size=(inputs, 16, 384))
    rows = [
        compared("n-grams", lambda: ngram_arrays(sets), lambda: ngram_loops(sets), inputs, rounds),
        compared("cosine", lambda: cosine_diversity(vectors), lambda: cosine_loops(vectors), inputs, rounds),
    ]
    rows[0]["difference"] = float(np.abs(ngram_arrays(sets) - ngram_loops(sets)).max())
    rows[1]["difference"] = float(np.abs(cosine_diversity(vectors) - cosine_loops(vectors)).max())
    for batch in (96, 16):
        data = [data_of(seed, batch, steps) for seed in range(MEMBERS)]
        functions = [partial(train, data, batch, steps) for train in (together, one_by_one)]
        row = compared(f"ensemble, batch {batch}", *functions, MEMBERS * steps, rounds)
        pairs = zip(together(data, batch, steps), one_by_one(data, batch, steps), strict=True)
        differences = [
            float((one - other).abs().max())
            for pair in pairs
            for one, other in zip(*(model.parameters() for model in pair), strict=True)
        ]
        arithmetic, began = products(batch), time.process_time()
        for _ in range(100):
            arithmetic()
        floor = (time.process_time() - began) / 100
        limit = 1 / (row["per cpu-s"]["peer"] * floor)
        rows.append(row | {"difference": max(differences), "arithmetic_s": floor, "ratio of the floor": limit})
    return rows


def main(argv: list[str] | None = None) -> int:
    """Measure and write the result; 0 if the results are equal."""
    about = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llm_probes.speed", description=about)
    parser.add_argument("--inputs", type=int, default=500)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args(argv)
    rows = measure(args.inputs, args.steps, args.rounds)
    shown = [
        [row["name"], row["ratio"], f"{row['difference']:.1e}",
         f"{row['ratio of the floor']:.1f}x" if "ratio of the floor" in row else ""] for row in rows
    ]  # fmt: skip
    print(table(shown, ["what", "per CPU-s, times the loop", "difference", "arithmetic alone"]))
    origin = record("benchmarks.llm_probes.speed", sys.argv[1:] if argv is None else argv, ["torch"])
    write_result("llm_probes_speed", {"record": origin, "rows": rows})
    return 0 if all(row["difference"] < 1e-4 for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
