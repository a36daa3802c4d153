"""Things with names: adding one, and finding one with a hint where the name is wrong. Imports neither jax nor numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from paperloop.errors import UserError
from paperloop.settings import did_you_mean

__all__ = ["add", "look_up"]

Entry = TypeVar("Entry")


def add(kind: str, name: str, entry: Entry, known: dict[str, Entry]) -> None:
    """Put `entry` into `known` under `name`.

    Registering the same object again, as when a notebook cell is rerun, is not an error.

    Raises:
        UserError: there is another of that name.
    """
    if known.get(name, entry) != entry:
        raise UserError(f"There is a {kind} named {name!r} already: choose another name.")
    known[name] = entry


def look_up(kind: str, name: str, known: Mapping[str, Entry]) -> Entry:
    """Return the entry called `name`.

    Raises:
        UserError: there is none; the message names the nearest, or all where none is near.
    """
    if name not in known:
        raise UserError(f"There is no {kind} named {name!r}{did_you_mean(str(name), known)}")
    return known[name]
