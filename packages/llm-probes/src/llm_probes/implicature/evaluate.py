"""The evaluation: every example in every template, ranked, completed or contrasted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from llm_probes.implicature.examples import Example
from llm_probes.implicature.parsing import parse_reference, parse_words
from llm_probes.implicature.shots import draw_shots, random_labels
from llm_probes.implicature.templates import Prompt, Template, assemble, contrastive
from llm_probes.models.encode import encode
from llm_probes.models.generate import generate
from llm_probes.models.loading import Kind
from llm_probes.models.score import SCORES, AnswerScores, Layout, score_trees
from llm_probes.models.slots import score_masked, score_seq2seq
from paperloop.errors import UserError

__all__ = ["Item", "Mode", "build_prompts", "complete", "rank", "strictly_better"]

#: (index of the example, template, prompt) of everything that is asked.
Asked = Sequence[tuple[int, Template, Prompt]]
Mode = Literal["ranking", "contrastive"]
Score = Literal["continuation", "last_token", "mean_all", "corrected"]
#: What a prompt without content asks, for the prior of each answer (Zhao et al. 2021, Calibrate Before Use).
EMPTY = Example("N/A", "N/A", "yes")


@dataclass(frozen=True)
class Item:
    """One example in one template.

    Attributes:
        example: its index in the test set.
        template: the template's name.
        prompt: what the model saw.
        answers: the right answer and the other one, as they were scored.
        valid: whether the scores are finite, or a completion gives an answer.
        correct: whether the model chose the right answer; a tie and an invalid item are wrong.
        scores: name -> (of the right answer, of the other).
        completion: the model's text, in completion mode.
        reference_valid: `valid` by the original's parser, in completion mode.
        reference_correct: `correct` by the original's parser, in completion mode.
    """

    example: int
    template: str
    prompt: str
    answers: tuple[str, str]
    valid: bool
    correct: bool
    scores: dict[str, tuple[float, float]] = field(default_factory=dict)
    completion: str | None = None
    reference_valid: bool | None = None
    reference_correct: bool | None = None


def strictly_better(right: np.ndarray, wrong: np.ndarray, *, higher_is_better: bool = True) -> np.ndarray:
    """Return whether the right answer's score wins; a tie or a score that is not finite is no win."""
    better = right > wrong if higher_is_better else right < wrong
    return better & np.isfinite(right) & np.isfinite(wrong)


def build_prompts(
    test: Sequence[Example],
    development: Sequence[Example],
    templates: Sequence[Template],
    *,
    shots: int = 0,
    mode: Mode = "ranking",
    random_shot_labels: bool = False,
    seed: int = 0,
    limit: int | None = None,
) -> list[tuple[int, Template, Prompt]]:
    """Return (example, template, prompt) for all templates of the first `limit` examples, in the paper's draws.

    Args:
        test: the examples asked about; draws are made for all of them whatever the limit.
        development: where the worked examples come from.
        templates: the wordings.
        shots: worked examples in each prompt.
        mode: "ranking" compares the two texts; "contrastive" shows both and asks for A or B.
        random_shot_labels: give every worked example a random label (an ablation).
        seed: of the draws; 0 is the paper's.
        limit: how many test examples are used; None means all.
    """
    draws = draw_shots(len(test), len(development), shots, seed=seed)
    coins = np.random.default_rng([seed, 1])  # labels and order of A and B: never the generator of the draws
    prompts = []
    for index, example in enumerate(test[:limit]):
        worked = [development[i] for i in draws[index]]
        worked = random_labels(worked, coins) if random_shot_labels else worked
        first = [bool(coin) for coin in coins.integers(2, size=shots + 1)] if mode == "contrastive" else []
        for template in templates:
            if mode == "contrastive":
                prompt = contrastive(template, example, worked, first=first[0], shots_first=first[1:])
            else:
                prompt = assemble(template, example, worked)
            prompts.append((index, template, prompt))
    return prompts


def rank(
    model: Any,
    tokenizer: Any,
    prompts: Asked,
    *,
    kind: Kind = "causal",
    by: Score = "continuation",
    add_special_tokens: bool = False,
    layout: Layout = "auto",
    pack_tokens: int = 512,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[list[Item], str]:
    """Score both answers of each prompt and say which one the model prefers.

    Args:
        model: a Hugging Face model in evaluation mode.
        tokenizer: its tokeniser.
        prompts: from `build_prompts`.
        kind: how the model predicts.
        by: the score that decides. "corrected" subtracts the score that the answer has without any content.
        add_special_tokens: let the tokeniser open each text (causal models; the others always do).
        layout: see `score_trees`.
        pack_tokens: see `score_trees`.
        progress: called with the number of prompts done.

    Returns:
        The items in the prompts' order, and how the prompts were laid out.

    Raises:
        UserError: a prompt is too long, or the model's kind does not have the score asked for.
    """
    if by == "mean_all" and kind != "causal":
        raise UserError(f"a {kind} model does not give every token of the text a likelihood: use another score.")
    wanted = [prompt for _, _, prompt in prompts]
    names = [f"example {index}, template {template.name}" for index, template, _ in prompts]
    bare = [assemble(template, EMPTY) for template in _unique(prompts)] if by == "corrected" else []
    wanted, names = wanted + bare, names + ["the prompt without content"] * len(bare)
    if kind == "causal":
        trees = [
            encode(tokenizer, prompt.prefix, prompt.answers, name=name, add_special_tokens=add_special_tokens)
            for prompt, name in zip(wanted, names, strict=True)
        ]
        options = {"mean_all": by == "mean_all", "layout": layout, "pack_tokens": pack_tokens}
        found = score_trees(model, trees, names, progress=progress, **options)
    else:
        score = score_seq2seq if kind == "seq2seq" else score_masked
        texts, answers = [prompt.prefix for prompt in wanted], [prompt.answers for prompt in wanted]
        found = score(model, tokenizer, texts, answers, names, progress=progress)
    scores = {name: values for name in SCORES if (values := getattr(found, name)) is not None}
    if bare:
        scores["corrected"] = _corrected(found, prompts, bare)
    right, wrong = scores[by][: len(prompts)].T
    correct, valid = strictly_better(right, wrong), np.isfinite(right) & np.isfinite(wrong)
    items = [
        Item(
            index,
            template.name,
            prompt.prefix,
            prompt.answers,
            bool(valid[i]),
            bool(correct[i]),
            {name: (float(values[i, 0]), float(values[i, 1])) for name, values in scores.items()},
        )
        for i, (index, template, prompt) in enumerate(prompts)
    ]
    return items, found.layout


def complete(
    model: Any,
    tokenizer: Any,
    prompts: Asked,
    *,
    max_new_tokens: int = 500,
    batch: int = 16,
    chat: bool = False,
    opening: str = "",
    progress: Callable[[int], None] = lambda done: None,
) -> list[Item]:
    """Let the model continue each prompt and read its answer, by whole words and by the original's rule.

    Args:
        model: a Hugging Face model in evaluation mode.
        tokenizer: its tokeniser.
        prompts: from `build_prompts`.
        max_new_tokens: length limit of a completion.
        batch: prompts of one pass.
        chat: use the tokeniser's chat template.
        opening: stands before every prompt, such as worked chains of thought that end in "Answer: yes".
        progress: called with the number of prompts done.
    """
    texts = generate(
        model,
        tokenizer,
        [opening + prompt.prefix for _, _, prompt in prompts],
        max_new_tokens=max_new_tokens,
        batch=batch,
        chat=chat,
        progress=progress,
    )
    items = []
    for (index, template, prompt), text in zip(prompts, texts, strict=True):
        label = prompt.answers[0].strip()
        ours, theirs = parse_words(text, label), parse_reference(text, label)
        items.append(
            Item(
                index,
                template.name,
                opening + prompt.prefix,
                prompt.answers,
                ours.valid,
                ours.correct,
                completion=text,
                reference_valid=theirs.valid,
                reference_correct=theirs.correct,
            )
        )
    return items


def _unique(prompts: Asked) -> list[Template]:
    return list({template.name: template for _, template, _ in prompts}.values())


def _corrected(
    found: AnswerScores, prompts: Sequence[tuple[int, Template, Prompt]], bare: Sequence[Prompt]
) -> np.ndarray:
    """Subtract each answer's score after the prompt without content."""
    prior = {
        template.name: dict(zip(prompt.answers, found.continuation[len(prompts) + i], strict=True))
        for i, (template, prompt) in enumerate(zip(_unique(prompts), bare, strict=True))
    }
    shift = [[prior[template.name][answer] for answer in prompt.answers] for _, template, prompt in prompts]
    return found.continuation[: len(prompts)] - np.array(shift)
