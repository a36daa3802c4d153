"""Prompt templates and how a prompt is put together, character for character as in the paper."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llm_probes.implicature.examples import Example
from paperloop.errors import UserError

__all__ = ["CONTRASTIVE_INSTRUCTION", "TEMPLATES", "Prompt", "Template", "assemble", "contrastive", "read_templates"]

#: Stands between the instruction, the examples and the text.
BREAK = "\n\n"
CONTRASTIVE_INSTRUCTION = "Consider the following two texts:"


@dataclass(frozen=True)
class Template:
    """How an example is worded.

    Attributes:
        name: its number in the paper, or another short name.
        group: "structured", "natural" or "extra".
        text: the wording with `%s` for utterance, response and label, the label last.
        instruction: stands before the text.
        header: stands before the examples of a k-shot prompt.
    """

    name: str
    group: str
    text: str
    instruction: str
    header: str

    def __post_init__(self) -> None:
        if self.text.count("%s") != 3 or not self.text.endswith(" %s"):
            raise UserError(f"template {self.name}: the text must have three %s, the last after a space at the end.")

    def wrap(self, example: Example, label: str) -> str:
        """Return the example in this wording, ending in `label`."""
        before, between, after, _ = self.text.split("%s")
        return f"{before}{example.utterance}{between}{example.response}{after}{label}"


def _structured(name: str, noun: str, instruction: str, header: str) -> Template:
    return Template(name, "structured", f"question: %s\nresponse: %s\n{noun}: %s", instruction, header)


def _natural(name: str, first: str, second: str) -> Template:
    text = f'{first} asked "%s" and {second} responded "%s", which means %s'
    return Template(name, "natural", text, "Finish the following text:", "The following are examples of the task:")


#: The paper's six (Ruis et al. 2023, section 3): three structured, three natural.
TEMPLATES = (
    _structured(
        "1",
        "implicature",
        "Does the following response to the question imply yes or no?",
        "Each following response to the question implies yes or no:",
    ),
    _natural("2", "Esther", "Juan"),
    _structured(
        "3",
        "meaning",
        "Is the implied meaning of the following response yes or no:",
        "Is the implied meaning of the following responses yes or no:",
    ),
    _structured("4", "intent", *["What is the intent of the following response, yes or no?"] * 2),
    _natural("5", "Karen", "William"),
    _natural("6", "Bob", "Alice"),
)


@dataclass(frozen=True)
class Prompt:
    """What a model is asked: one prefix and the answers that may follow it, the right one first.

    A space before an answer belongs to the answer, because byte-pair tokenisers put it into the word's token.
    """

    prefix: str
    answers: tuple[str, str]

    @property
    def texts(self) -> tuple[str, str]:
        """The coherent and the incoherent text."""
        return self.prefix + self.answers[0], self.prefix + self.answers[1]


def assemble(template: Template, example: Example, shots: Sequence[Example] = ()) -> Prompt:
    """Return the prompt `[header, examples,] instruction, text`, with blank lines between.

    The instruction stands before the text in a k-shot prompt too.
    """
    worked = [template.wrap(shot, shot.label) for shot in shots]
    answers = (f" {example.label}", f" {example.other_label}")
    return _prompt(template, worked, template.instruction, template.wrap(example, "")[:-1], answers)


def contrastive(
    template: Template,
    example: Example,
    shots: Sequence[Example] = (),
    *,
    first: bool,
    shots_first: Sequence[bool] = (),
) -> Prompt:
    """Return the prompt that shows both texts as A and B and asks which is coherent.

    Args:
        template: the wording of each text.
        example: the example asked about.
        shots: worked examples.
        first: whether the coherent text is A.
        shots_first: the same for every worked example.
    """
    worked = [_both(template, shot, up) + " " + "AB"[not up] for shot, up in zip(shots, shots_first, strict=True)]
    answers = (" A", " B") if first else (" B", " A")
    return _prompt(template, worked, CONTRASTIVE_INSTRUCTION, _both(template, example, first), answers)


def _both(template: Template, example: Example, first: bool) -> str:
    texts = [template.wrap(example, example.label), template.wrap(example, example.other_label)]
    a, b = texts if first else texts[::-1]
    return f"A: {a}\nB: {b}\nQuestion: Which of the above texts is coherent, A or B?\nAnswer:"


def _prompt(template: Template, worked: list[str], instruction: str, query: str, answers: tuple[str, str]) -> Prompt:
    parts = [template.header, *worked] if worked else []
    return Prompt(BREAK.join([*parts, instruction, query]), answers)


def read_templates(path: str | Path) -> list[Template]:
    """Read a template file in the published format: semicolons between quoted fields, the first row names them.

    Quotes inside a field are not escaped, and the two characters backslash and n mean a new line, as in the original
    files. The needed fields are `example_template_text`, `example_instruction_text` and `prompt_instruction_text`.
    The templates are named by the file's stem and their row.

    Raises:
        UserError: the file is missing, lacks a field, or a template does not end in the label.
    """
    path = Path(path)
    try:
        head, *rows = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a template file ({error}).") from None
    names = [name.strip() for name in head.split(";")]
    fields = ("example_template_text", "example_instruction_text", "prompt_instruction_text")
    if missing := [name for name in fields if name not in names]:
        raise UserError(f"{path} lacks the fields {missing}; its first row is {head!r}.")
    templates = []
    for number, row in enumerate(rows, start=1):
        found = re.findall(r'"(.*?)"(?=\s*;\s*"|\s*$)', row)
        if len(found) != len(names):
            raise UserError(f"{path}, template {number}: {len(found)} quoted fields instead of {len(names)}.")
        values = dict(zip(names, (value.replace(r"\n", "\n") for value in found), strict=True))
        templates.append(Template(f"{path.stem}-{number}", "extra", *(values[name] for name in fields)))
    return templates
