"""Runs `otr label` again and again, killed at every touch of the disk in turn, and calls it once more each time.

    python crash_points.py FOLDER FIRST EVERY ARGUMENT...

Each attempt works on a copy of FOLDER, in which `otr ARGUMENT...` is called. Its touches of the disk are numbered from
0, and at every EVERY-th from FIRST on one process dies without another word. Prints a line of JSON for each: the touch,
the exit code of the call after the kill, what it said, and the content of every file that is then there. The last line
is of a call that nothing killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

# What a call imports is loaded before the calls are forked, so that each takes a fraction of a second.
import h5py  # noqa: F401
import scipy.stats  # noqa: F401

import otr.commands.label
import otr.labellers.transport
import otr.optimal_transport.solvers.reference  # noqa: F401
from otr.cli import main

TOUCHES = {
    "open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link", "fcntl.flock", "shutil.rmtree",
}  # fmt: skip
KILLED = 137


def call(arguments: list[str], folder: Path, crash_at: int | None) -> tuple[int, str]:
    """(exit code, output) of `otr ARGUMENT...` in a process of its own, which dies at its crash_at-th touch."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        os.chdir(folder)
        seen, said = [0], io.StringIO()

        def hook(event: str, details: tuple) -> None:
            if event not in TOUCHES or (event == "open" and not inside(details[0])):
                return
            if seen[0] == crash_at:
                os._exit(KILLED)
            seen[0] += 1

        sys.addaudithook(hook)
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = main(arguments)
        os.write(write, said.getvalue().encode()[:60_000])
        os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def inside(path: object) -> bool:
    """Whether a file that is opened is one of the labelling's, not a module or a library's."""
    if not isinstance(path, str | bytes | os.PathLike):
        return False
    return os.path.abspath(os.fsdecode(path)).startswith(os.getcwd() + os.sep)


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*"))
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""
        for path in files
    }


def run(folder: Path, first: int, every: int, arguments: list[str]) -> None:
    touch: int | None = first
    while True:
        with tempfile.TemporaryDirectory() as scratch:
            work = Path(scratch).resolve() / "work"
            shutil.copytree(folder, work)
            code, said = call(arguments, work, touch)
            killed = code == KILLED
            if killed:
                code, said = call(arguments, work, None)
            print(json.dumps({"touch": touch if killed else None, "code": code, "said": said, "files": contents(work)}))
        if not killed:
            return
        touch += every


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
