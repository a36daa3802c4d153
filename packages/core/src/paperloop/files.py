"""Files: written so that a reader sees the old content or the new; JSON, strictly; what a path is."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import math
import os
import shutil
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from paperloop.errors import UserError

__all__ = [
    "check_is_file", "fsync_folder", "fsync_tree", "leftovers", "parse_json", "read_json", "remove", "remove_leftovers",
    "sha256", "write_atomically", "write_json",
]  # fmt: skip


def check_is_file(path: Path | str) -> Path:
    """Return `path` as a Path if it is a regular file that can be read, links followed.

    Asked before a file is opened: opening a named pipe waits for ever, and a folder or a circle of links gives an error
    that says little.

    Raises:
        UserError: it is missing, a folder, a pipe, socket or device, a link that leads in a circle, or not readable.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        what = "is a link to a file that does not exist" if path.is_symlink() else "does not exist"
        raise UserError(f"{path} {what}.") from None
    except OSError as error:  # a circle of links, a folder that may not be entered, a name that is too long
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:  # a null byte in the name
        raise UserError(f"{str(path)!r} is not a path: {error}.") from None
    if stat.S_ISDIR(mode):
        raise UserError(f"{path} is a folder, and a file is expected.")
    if not stat.S_ISREG(mode):
        kind = "named pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
        raise UserError(f"{path} is a {kind}, and a file is expected.")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path} cannot be read: you lack the permission.")
    return path


def write_atomically(path: Path, content: bytes | Callable[[Path], None]) -> None:
    """Make or replace a file through a temporary sibling, fsync and rename.

    `content` is the bytes, or a function that writes them to the path it is given.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if callable(content):
            content(temporary)
        else:
            temporary.write_bytes(content)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    fsync_folder(path.parent)


def leftovers(path: Path) -> list[Path]:
    """Return the temporary siblings of `path`, `.NAME.PID.tmp`, that are there, whoever writes or wrote them."""
    return list(path.parent.glob(f".{glob.escape(path.name)}.*.tmp"))


def remove_leftovers(files: Iterable[Path]) -> None:
    """Remove those temporary files and folders, `.NAME.PID.tmp`, whose process was killed while it wrote.

    Whether it lives is asked of this machine, so two machines must not write the same path of a shared disk at once.
    Call it before this process writes there.
    """
    for file in files:
        number = file.name.split(".")[-2]
        if number.isdecimal() and not _lives(int(number)):
            remove(file)


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder, if it is there and the system lets it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _lives(number: int) -> bool:
    """Whether another process has this number."""
    if number == os.getpid():
        return False  # a number that is given anew: this process has written nothing yet
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it lives, and is another user's
        return True
    return True


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN and infinities are refused: they are no JSON."""
    write_atomically(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path | str) -> Any:
    """Read a file of strict JSON.

    Raises:
        UserError: the file is missing, not a file, or does not hold such JSON.
    """
    path = check_is_file(path)
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a JSON file: it does not hold text.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read as JSON: {reason}.") from None


def parse_json(text: str | bytes, *, strict: bool = True, deepest: int = 100) -> Any:
    """Parse JSON.

    Args:
        text: the JSON.
        strict: refuse NaN, infinities, and keys that are there twice.
        deepest: how deep it may be nested, so that what follows can go down by calling itself.

    Raises:
        ValueError: says what is wrong with it.
    """
    hooks: dict[str, Any] = {"parse_constant": _no_constant, "parse_float": _finite, "object_pairs_hook": _unique}
    try:
        level = [value := json.loads(text, **(hooks if strict else {}))]
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    for _ in range(deepest):
        holders = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [child for holder in holders for child in holder]
    if level:
        raise ValueError(f"it is nested more than {deepest} deep")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in items:
        if name in result:
            raise ValueError(f'the key "{name}" is there twice')
        result[name] = value
    return result


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` durable, where the system can."""
    with contextlib.suppress(OSError):  # some network file systems refuse to open folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def fsync_tree(folder: Path) -> None:
    """Make every file and every folder below `folder` durable."""
    for root, _, names in os.walk(folder):
        for name in names:
            with (Path(root) / name).open("rb") as file:
                os.fsync(file.fileno())
        fsync_folder(Path(root))
