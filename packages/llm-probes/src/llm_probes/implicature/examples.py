"""The data set's file formats: binary implicatures and their type labels."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from paperloop.errors import UserError, setting
from paperloop.files import check_is_file

__all__ = ["LABELS", "Example", "join_types", "label_of", "read_examples", "rows_of"]

LABELS = ("yes", "no")
COLUMNS = ("Context utterance", "Response utterance", "Implicature")
TYPE_COLUMNS = ("Utterance", "Response", "Type")


@dataclass(frozen=True)
class Example:
    """One conversational implicature.

    Attributes:
        utterance: what the first speaker asks.
        response: what the second speaker answers.
        label: what the answer implies, "yes" or "no".
    """

    utterance: str
    response: str
    label: str

    @property
    def other_label(self) -> str:
        """The label that the answer does not imply."""
        return LABELS[1 - LABELS.index(self.label)]


def label_of(text: str) -> str | None:
    """Return "yes", "no", or None for an annotation such as "Yes. But it does not arrive on time.".

    The rule is the paper's, in lower case: "yes" if it stands in the first five characters, else "no" if in the first
    four.
    """
    text = text.lower()
    if "yes" in text[:5]:
        return "yes"
    return "no" if "no" in text[:4] else None


def rows_of(path: str | Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line of the row's end, row) of a comma-separated file with a header.

    Fields may hold newlines inside quotes; a byte-order mark is ignored.

    Raises:
        UserError: the file is missing or not UTF-8, lacks one of `columns`, or has a row of another length.
    """
    try:
        with open(check_is_file(path), encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header = reader.fieldnames or []
            if missing := [name for name in columns if name not in header]:
                one = len(header) == 1 and any(mark in header[0] for mark in ";\t")
                hint = " It seems to be separated by semicolons or tabs; use commas." if one else ""
                raise UserError(f"{path} lacks the columns {missing}; its header is {list(header)}.{hint}")
            for row in reader:
                if None in row or None in row.values():
                    raise UserError(f"{path}, line {reader.line_num}: the row does not have {len(header)} fields.")
                yield reader.line_num, row
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}).") from None
    except csv.Error as error:
        raise UserError(f"{path} is not a readable CSV file ({error}).") from None


def read_examples(path: str | Path, *, drop_unlabelled: bool = False) -> tuple[list[Example], int]:
    """Read a CSV with the columns `Context utterance`, `Response utterance` and `Implicature`.

    Only newlines are stripped from utterance and response, nothing else.

    Args:
        path: the file.
        drop_unlabelled: leave out rows whose label is neither yes nor no.

    Returns:
        The examples in the file's order, and how many rows were left out.

    Raises:
        UserError: the file is unreadable or empty, a response is empty, or a label is neither yes nor no.
    """
    examples: list[Example] = []
    unlabelled: list[int] = []
    for line, row in rows_of(path, COLUMNS):
        utterance, response, implicature = (row[name] for name in COLUMNS)
        label = label_of(implicature)
        if label is None:
            unlabelled.append(line)
            continue
        if not response.strip():
            raise UserError(f"{path}, line {line}: the response is empty.")
        examples.append(Example(utterance.strip("\n"), response.strip("\n"), label))
    if unlabelled and not drop_unlabelled:
        raise UserError(
            f"{path}: {len(unlabelled)} of the labels are neither yes nor no, the first at line {unlabelled[0]}; "
            f"correct them, or leave those rows out with {setting('drop_unlabelled', True)}."
        )
    if not examples:
        raise UserError(f"{path} holds no labelled example.")
    return examples, len(unlabelled)


def join_types(examples: Sequence[Example], path: str | Path, *, published: bool = False) -> list[str]:
    """Return the type of every example, "Other" where the file gives none.

    Rows belong to an example by utterance and response, without white space at their ends; where the response differs,
    the last row with the utterance decides. The published figures come from a join by the utterance alone, white space
    included: two examples get the type of their namesake ("Did you like the show?" 108, "Are you tired?" 134, counted
    from 0), and 15 that differ in white space get none.

    Args:
        examples: the examples.
        path: a CSV with at least the columns `Utterance`, `Response` and `Type`.
        published: join as for the published figures.

    Raises:
        UserError: the file is unreadable.
    """
    bare = (lambda text: text.replace("\r", "")) if published else _bare
    types: dict[str, str] = {}
    pairs: dict[tuple[str, str], str] = {}
    for _, row in rows_of(path, TYPE_COLUMNS):
        utterance, response = bare(row["Utterance"]), bare(row["Response"])
        if utterance:
            types[utterance] = row["Type"].strip()
            if not published:
                pairs[utterance, response] = types[utterance]
    keys = [(bare(example.utterance), bare(example.response)) for example in examples]
    return [pairs.get(key) or types.get(key[0]) or "Other" for key in keys]


def _bare(text: str) -> str:
    return text.replace("\r", "").strip()
