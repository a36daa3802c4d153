"""The portable lock: `uv.lock` without the address of any index.

    python -m tools.lock update     write uv.lock (`make lock`)
    python -m tools.lock check      fail unless uv.lock is portable and up to date
    python -m tools.lock sync       install what it names into the running interpreter's environment (`make setup`)

The committed file holds names, versions, file names and hashes, so that a mirror serves it as well as the public index.
uv reads it directly: it takes the versions as preferences and looks the addresses up itself. But uv then writes its
own form back, with addresses. So uv never runs on the committed file: the pyproject files and the lock are copied to
`.cache/lock`, uv works there, and the tree stays clean whatever happens, a `kill -9` in the middle included. Should
somebody run a plain `uv sync` in the tree, `make lock` brings the portable form back, with the same versions.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from tools.bootstrap import find_uv
from tools.workspace import REPO, SERVICE_EXTRAS, members

__all__ = [
    "OFFLINE",
    "changed_files",
    "check",
    "clean_environment",
    "difference",
    "file_hashes",
    "main",
    "resolve",
    "sync",
    "to_portable",
    "update",
]

LOCK = REPO / "uv.lock"
STAGE = REPO / ".cache" / "lock"
#: How uv words that it cannot reach the index.
OFFLINE = re.compile(r"error sending request|Failed to fetch|dns error|Network connectivity is disabled")


def to_portable(text: str) -> str:
    """Return a uv.lock without addresses; a portable one comes back unchanged.

    Every index address becomes the word `pypi`, every file address `path = "<file name>"`. The [package.metadata]
    tables go: without them uv does not take the file as final, and resolves the addresses anew.
    """
    text = re.sub(r'\bregistry = "[^"]*"', 'registry = "pypi"', text)
    text = re.sub(r'\burl = "[^"]*?([^"/?#]+)(?:[?#][^"]*)?"', r'path = "\1"', text)
    return re.sub(r"(?m)^\[package\.metadata[^\n]*\]\n(?:(?!\[)[^\n]*\n)*", "", text)


def file_hashes(text: str) -> dict[str, str]:
    """Return file name -> hash of every sdist and wheel in a lock of either form."""
    return dict(re.findall(r'\bpath = "([^"]+)", hash = "([^"]+)"', to_portable(text)))


def clean_environment() -> dict[str, str]:
    """The environment without the variables that would point uv at another project or forbid it to resolve."""
    return {key: value for key, value in os.environ.items() if key not in {"UV_PROJECT", "UV_FROZEN", "UV_LOCKED"}}


def resolve(uv: str, *options: str) -> str:
    """Complete the committed lock in `.cache/lock` and return uv's full form of it.

    A completed lock of an earlier call that still says the same is used again: then uv needs no connection.
    """
    committed = LOCK.read_text(encoding="utf-8") if LOCK.exists() else ""
    stage = STAGE / "uv.lock"
    complete = stage.read_text(encoding="utf-8") if stage.exists() else ""
    shutil.rmtree(STAGE, ignore_errors=True)
    for source in [REPO / "pyproject.toml", *(member.folder / "pyproject.toml" for member in members())]:
        target = STAGE / source.relative_to(REPO)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    text = complete if complete and to_portable(complete) == to_portable(committed) else committed
    if text:
        stage.write_text(text, encoding="utf-8")
    command = [uv, "lock", "--quiet", "--project", str(STAGE), "--python", sys.executable, *options]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"lock: uv could not resolve the workspace's dependencies\n{done.stderr.strip()}")
    return stage.read_text(encoding="utf-8")


def changed_files(committed: str, resolved: str) -> list[str]:
    """Return the files that the index serves with another content than the lock says."""
    old, new = file_hashes(committed), file_hashes(resolved)
    return sorted(name for name in old.keys() & new.keys() if old[name] != new[name])


def difference(committed: str, resolved: str) -> str:
    """Say in a few words what resolving changed: "" where nothing did."""
    if to_portable(resolved) == committed:
        return ""
    pins = [
        {(package["name"], package.get("version", "")) for package in tomllib.loads(text).get("package", [])}
        for text in (committed, resolved)
    ]
    gone, come = (
        sorted(f"{name} {version}" for name, version in one) for one in (pins[0] - pins[1], pins[1] - pins[0])
    )
    parts = [f"{word} {', '.join(names)}" for word, names in (("drops", gone), ("adds", come)) if names]
    return "; ".join(parts) or "the same versions, other details"


def update(uv: str, *options: str) -> None:
    """Write uv.lock in the portable form; `options` go to uv, such as `--upgrade-package jax`."""
    before = LOCK.read_text(encoding="utf-8") if LOCK.exists() else ""
    text = to_portable(resolve(uv, *options))
    if text == before:
        print("lock: uv.lock is unchanged")
        return
    sibling = LOCK.with_name("uv.lock.tmp")
    with sibling.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(sibling, LOCK)
    print(f"lock: wrote uv.lock ({difference(to_portable(before), text) or 'portable form restored'})")


def check(uv: str) -> list[str]:
    """Return what is wrong with the committed lock; resolving needs the index unless `.cache/lock` is complete."""
    committed = LOCK.read_text(encoding="utf-8")
    if to_portable(committed) != committed or "://" in committed:
        return ["uv.lock holds addresses: `make lock` restores the portable form"]
    resolved = resolve(uv)
    if changed := changed_files(committed, resolved):
        return [f"the index serves another content than uv.lock says for {', '.join(changed)}"]
    if words := difference(committed, resolved):
        return [f"uv.lock is out of date ({words}): run `make lock`"]
    return []


def sync(uv: str) -> None:
    """Install the locked dependencies, the development tools and every package (editable) into this environment.

    What the lock does not name is left alone, PyTorch above all: it and what only it needs are left out here, because
    the index's own build is several GB (see `tools.bootstrap.install_torch`). That nothing undeclared is used is the
    business of `make test-isolated`, not of this shared environment.
    """
    committed = LOCK.read_text(encoding="utf-8")
    resolved = resolve(uv)
    if changed := changed_files(to_portable(committed), resolved):
        raise SystemExit(f"lock: the index serves another content than uv.lock says for {', '.join(changed)}")
    if words := difference(to_portable(committed), resolved):
        print(f"lock: uv.lock does not fit the pyproject files ({words}); `make lock` writes it anew")
    export = [uv, "export", "--quiet", "--frozen", "--project", str(STAGE), "--no-emit-workspace", "--no-header"]
    parts = [["--only-group", "dev"]]
    for member in members():
        extras = [name for name in member.extras if name not in SERVICE_EXTRAS]
        parts.append(["--package", member.name, *(f"--extra={name}" for name in extras), "--prune", "torch"])
    requirements = []
    for number, part in enumerate(parts):
        requirements += ["--requirements", str(STAGE / f"requirements-{number}.txt")]
        command = [*export, *part, "--output-file", requirements[-1]]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=clean_environment())
    install = [uv, "pip", "install", "--quiet", "--python", sys.executable]
    subprocess.run([*install, "--require-hashes", *requirements], check=True)
    editable = [part for member in members() for part in ("--editable", str(member.folder))]
    subprocess.run([*install, "--no-deps", *editable], check=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.lock", description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["update", "check", "sync"])
    parser.add_argument("--uv", default=None, help="path of uv")
    args, options = parser.parse_known_args(argv)
    if options and args.action != "update":
        parser.error(f"unknown arguments: {' '.join(options)}")
    uv = args.uv or find_uv()
    if args.action == "update":
        update(uv, *options)
    elif args.action == "sync":
        try:
            sync(uv)
        except subprocess.CalledProcessError as error:
            print(f"lock: {Path(error.cmd[0]).name} {' '.join(error.cmd[1:3])} failed", file=sys.stderr)
            return 1
    else:
        problems = check(uv)
        for problem in problems:
            print(f"lock: {problem}", file=sys.stderr)
        return 1 if problems else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
