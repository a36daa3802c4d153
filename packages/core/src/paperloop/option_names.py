"""What a message calls by its name in Python, in the words of the command line.

Libraries name fields and arguments, because most of their users write Python. Who typed a command knows only options:

    >>> names = OptionNames.of(TrainConfig())  # doctest: +SKIP
    >>> names.say("TrainConfig.updates is -5; it must be an integer of at least 1.")  # doctest: +SKIP
    '--updates is -5; it must be an integer of at least 1.'
    >>> names.say("mend the data, or load it with drop_nonfinite=True.")  # doctest: +SKIP
    'mend the data, or load it with --loading.drop-nonfinite True.'

`paperloop.command.App` does this with every `UserError`. What a command prints itself, such as warnings, goes through
`in_option_names`, which knows the command that runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import types
import typing
from collections.abc import Generator, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from paperloop.config import field_types

__all__ = ["OptionNames", "in_option_names", "option_names"]

_NAME = r"[A-Za-z_]\w*(?:\.\w+)*"
_VALUE = r"\((?:'[^']*'(?:, ?)?)+\)|'[^']*'|-?\w+(?:[.+-]\w+)*"
#: A name that is not part of a path, an option, a call or a quotation; with or without a value.
_NAMED = re.compile(rf"(?<![\w./\\'\"-])(?P<name>{_NAME})(?:=(?P<value>(?>{_VALUE})))?(?![\w/\\'\"(\[=-])(?!\.\w)")
#: What files are called, whose words are not those of the command line.
_SUFFIX = r"\.(?:hdf5|h5|npz|npy|json|jsonl|csv|toml|ya?ml|zip|gz|pickle|pkl|txt|safetensors)"
#: "x.hdf5: ..." and "data/x: ...", the beginning of a message about what is in a file or folder.
_OF_FILE = re.compile(rf"[^:]*{_SUFFIX}(?:, line \d+)?: |[^:\s]*[/\\][^:\s]*: ")


@dataclasses.dataclass(frozen=True)
class OptionNames:
    """The options of a command.

    Attributes:
        types: the dotted path of each option's field -> its type.
        classes: the name of each dataclass among the fields -> its path; "" for those that hold the others.
    """

    types: Mapping[str, Any]
    classes: Mapping[str, str]

    @classmethod
    def of(cls, *configs: Any) -> OptionNames:
        """Return the options of dataclasses, instances or classes, that a command line fills; None is left out."""
        kinds: dict[str, Any] = {}
        places: dict[str, list[str]] = {}
        for config in configs:
            if config is not None:
                for path, hint, name in _walk(config, ""):
                    if name:
                        places.setdefault(name, []).append(path)
                    else:
                        kinds[path] = hint
        return cls(kinds, {name: paths[0] for name, paths in places.items() if len(paths) == 1})

    def say(self, text: str) -> str:
        """Return a message with the options' names in place of those of fields.

        What stands for one option only is replaced: `Class.field`, `name=value`, and a bare name that has a dot or an
        underscore, so that it is no word of a sentence. A name is a field's, with or without those that hold it.

        What is part of a path stays, such as "seed=3.hdf5". In a message that begins with a file, "x.hdf5: ...", names
        without a value are those of its contents, and stay too.
        """
        for name in self.classes:
            text = re.sub(rf"(^|(?<=[ ;(])){name}: ", "", text)
        values_only = _OF_FILE.match(text) is not None
        return _NAMED.sub(lambda found: self._replace(found, values_only), text)

    def _replace(self, found: re.Match[str], values_only: bool) -> str:
        name, value = found["name"], found["value"]
        if (value is None and values_only) or (value is not None and _in_path(found)):
            return found[0]
        head, _, tail = name.partition(".")
        if tail and head in self.classes:
            prefix = self.classes[head]
            path = f"{prefix}.{tail}" if prefix else tail
            path = path if path in self.types else None
        elif value is not None or "_" in name or "." in name:
            path = self._find(name)
        else:
            path = None
        if path is None:
            return found[0]
        if value is None:
            return _option(path)
        if self.types[path] is bool and value in ("True", "False"):
            return _option(path, negative=value == "False")
        value = " ".join(re.findall(r"'([^']*)'", value)) if value.startswith("(") else value.strip("'")
        return f"{_option(path)} {value}"

    def _find(self, name: str) -> str | None:
        """The path of the one field that a name stands for."""
        if name in self.types:
            return name
        found = [path for path in self.types if path.endswith(f".{name}")]
        return found[0] if len(found) == 1 else None


def _in_path(found: re.Match[str]) -> bool:
    """Whether `name=value` is part of the name of a file or folder: of a word with slashes, or with a suffix."""
    before = re.split(r"[\s('\"]", found.string[: found.start()])[-1]
    after = re.split(r"[\s)'\"]", found.string[found.end() :])[0]
    quoted = found["value"][0] in "('"
    rest = ("" if quoted else found["value"]) + after.rstrip(".,:;!?")
    return re.search(r"[/\\]", before + after) is not None or re.search(r"\.[A-Za-z]\w*$", rest) is not None


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any, str]]:
    """Yield (path, type, "") for fields, and (path, None, name of its class) for a dataclass."""
    import tyro

    cls = value if isinstance(value, type) else type(value)
    yield path, None, cls.__name__
    marks = typing.get_type_hints(cls, include_extras=True)
    for name, hint in field_types(cls).items():
        if {tyro.conf.Positional, tyro.conf.Suppress} & set(getattr(marks[name], "__metadata__", ())):
            continue  # no option
        here = f"{path}.{name}" if path else name
        inner = hint if isinstance(value, type) else getattr(value, name)
        if dataclasses.is_dataclass(inner):
            yield from _walk(inner, here)
        else:
            yield here, hint, ""


def _option(path: str, *, negative: bool = False) -> str:
    *holders, last = path.replace("_", "-").split(".")
    return "--" + ".".join([*holders, f"no-{last}" if negative else last])


_CURRENT: ContextVar[OptionNames | None] = ContextVar("paperloop_option_names", default=None)


@contextlib.contextmanager
def option_names(names: OptionNames) -> Generator[None]:
    """Make these the names that `in_option_names` uses inside the block."""
    token = _CURRENT.set(names)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def in_option_names(text: str) -> str:
    """Return a message in the words of the command that runs; as it is, where none does."""
    names = _CURRENT.get()
    return text if names is None else names.say(text)


def is_optional_bool(hint: Any) -> bool:
    """Whether a type is `bool | None`."""
    parts = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else ()
    return set(parts) == {bool, types.NoneType}
