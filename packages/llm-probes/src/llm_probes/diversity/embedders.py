"""Texts as vectors, and pairs of texts as judgements, by Hugging Face models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llm_probes.diversity.similarity import Judge
from llm_probes.models.loading import context_limit
from paperloop.errors import UserError

__all__ = ["Embedder", "TextEncoder", "load_embedder", "load_judge"]

#: Texts -> float [texts, dimensions].
Embedder = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class TextEncoder:
    """An embedder that encodes each different text once, sorted by length so that batches are even.

    Attributes:
        encode: texts -> vectors.
        count: texts -> the number of tokens of each.
        limit: tokens after which a text is cut; None where nothing is.
    """

    encode: Embedder
    count: Callable[[Sequence[str]], Sequence[int]]
    limit: int | None

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return one vector for each text."""
        different = sorted(set(texts), key=len)
        vectors = self.encode(different)
        row = {text: i for i, text in enumerate(different)}
        return vectors[[row[text] for text in texts]]

    def cut(self, texts: Sequence[str]) -> int:
        """Return how many of the texts are longer than the limit, so that their ends have no part in their vectors."""
        if self.limit is None:
            return 0
        different = list(dict.fromkeys(texts))
        long = {text for text, n in zip(different, self.count(different), strict=True) if n > self.limit}
        return sum(text in long for text in texts)


def load_embedder(name: str, *, device: str = "cpu", batch: int = 64) -> TextEncoder:
    """Return an embedder from a folder or hub name.

    A sentence-transformers model (a folder with `modules.json`, or any name if that library is installed) goes through
    that library; any other encoder gives the mean of its last hidden states over the text's tokens, 512 at most.

    Raises:
        UserError: it cannot be loaded.
    """
    folder = Path(name)
    if (folder / "modules.json").exists() or not folder.exists():
        try:
            from sentence_transformers import SentenceTransformer  # ty: ignore[import-not-found]
        except ImportError:
            what = "is a sentence-transformers model" if folder.exists() else "is not a folder here; from the hub it"
            needs = ", which needs that library" if folder.exists() else " needs sentence-transformers"
            raise UserError(f"{name} {what}{needs}: pip install 'llm-probes[sentence-transformers]'.") from None
        try:
            model = SentenceTransformer(name, device=device)
        except (OSError, ValueError) as error:
            raise UserError(f"{name} cannot be loaded ({str(error).splitlines()[0]}).") from None
        return TextEncoder(
            lambda texts: np.asarray(model.encode(list(texts), batch_size=batch, show_progress_bar=False)),
            _counter(model.tokenizer),
            model.max_seq_length,
        )
    model, tokenizer = _load(name, "AutoModel", device)
    limit = min(512, context_limit(model) or 512)

    def encode(texts: Sequence[str]) -> np.ndarray:
        return np.concatenate([_mean(model, tokenizer, part, limit) for part in _parts(texts, batch)])

    return TextEncoder(encode, _counter(tokenizer), limit)


def load_judge(name: str, *, device: str = "cpu", batch: int = 64) -> Judge:
    """Return a natural-language inference model from a folder or hub name.

    Raises:
        UserError: it cannot be loaded, or its labels are not contradiction, neutral and entailment.
    """
    model, tokenizer = _load(name, "AutoModelForSequenceClassification", device)
    labels = {number: label.lower() for number, label in model.config.id2label.items()}
    if sorted(labels.values()) != ["contradiction", "entailment", "neutral"]:
        raise UserError(f"{name} has the labels {sorted(labels.values())}, not contradiction, entailment and neutral.")

    def judge(premises: Sequence[str], hypotheses: Sequence[str]) -> list[tuple[str, float]]:
        import torch

        verdicts = []
        for start in range(0, len(premises), batch):
            chosen = slice(start, start + batch)
            inputs = tokenizer(
                list(premises[chosen]), list(hypotheses[chosen]), padding=True, truncation=True, return_tensors="pt"
            )
            with torch.no_grad():
                best = model(**inputs.to(model.device)).logits.softmax(-1).max(-1)
            verdicts += [(labels[i], p) for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
        return verdicts

    return judge


def _load(name: str, family: str, device: str) -> tuple[Any, Any]:
    import transformers

    options = {"local_files_only": True} if Path(name).exists() else {}
    try:
        model = getattr(transformers, family).from_pretrained(name, **options)
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(name, **options)
    except (OSError, ValueError) as error:
        raise UserError(f"{name} cannot be loaded ({str(error).splitlines()[0]}).") from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.to(device).eval(), tokenizer


def _counter(tokenizer: Any) -> Callable[[Sequence[str]], list[int]]:
    return lambda texts: [len(row) for row in tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]]


def _mean(model: Any, tokenizer: Any, texts: Sequence[str], limit: int) -> np.ndarray:
    import torch

    inputs = tokenizer(list(texts), padding=True, truncation=True, max_length=limit, return_tensors="pt")
    inputs = inputs.to(model.device)
    with torch.no_grad():
        hidden = model(**inputs).last_hidden_state
    weight = inputs["attention_mask"][..., None].to(hidden.dtype)
    return ((hidden * weight).sum(1) / weight.sum(1).clamp(min=1)).float().cpu().numpy()


def _parts(texts: Sequence[str], size: int) -> list[Sequence[str]]:
    return [texts[start : start + size] for start in range(0, len(texts), size)]
