"""Everything that can be said about the code without running it: `make check`.

Each check runs, whatever the others say; the last lines are the verdicts. `python -m tools.check --fix` lets ruff fix
what it can first.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tools import isolated, lock
from tools.bootstrap import find_uv
from tools.workspace import REPO, SERVICE_EXTRAS, members

__all__ = ["EXPECTED", "main", "member_problems"]

#: Folder -> distribution. A folder without pyproject.toml is silently no member for uv, so the names stand here too.
EXPECTED = {
    "cascade": "cascade-explore",
    "core": "paperloop",
    "data": "paperloop-data",
    "exploration": "generalized-exploration",
    "hgap": "hgap",
    "lab": "paperloop-lab",
    "llm-probes": "llm-probes",
    "minimax": "minimax-ued",
    "opshape": "opshape",
    "otr": "otr",
    "policy-finetune": "policy-finetune",
}


def tool(name: str) -> str:
    """Return the path of a development tool of the running environment."""
    path = shutil.which(name, path=str(Path(sys.executable).parent))
    if path is None:
        raise SystemExit(f"check: {name} is missing from the environment; run `make setup`")
    return path


def command(*arguments: str | Path, cwd: Path = REPO) -> list[str]:
    """Run a command, let it print, and return a problem where it fails."""
    done = subprocess.run([str(part) for part in arguments], cwd=cwd, check=False)
    return [f"{Path(arguments[0]).name} exits with {done.returncode}"] if done.returncode else []


def member_problems(uv: str) -> list[str]:
    """Return how the workspace's members, as uv sees them, differ from `EXPECTED`."""
    listed = subprocess.run([uv, "workspace", "list"], cwd=REPO, capture_output=True, text=True, check=False)
    seen = set(listed.stdout.split())
    problems = [f"uv sees no member {name}" for name in sorted(set(EXPECTED.values()) - seen)]
    problems += [f"{name} is a member but not expected" for name in sorted(seen - set(EXPECTED.values()))]
    folders = {path.name for path in (REPO / "packages").iterdir() if path.is_dir()}
    problems += [f"packages/{name} is not expected" for name in sorted(folders - EXPECTED.keys())]
    return problems


def undeclared(folder: Path) -> list[str]:
    """Return deptry's verdict on one package: imports and declared dependencies must be the same set."""
    # A distribution that is not installed here is taken to have its own name as import name.
    absent = ",".join(f"{name}={name.replace('-', '_')}" for name in sorted({"torch", *SERVICE_EXTRAS} - {"cuda"}))
    options = ["--no-ansi", "--optional-dependencies-dev-groups", "test", "--package-module-name-map", absent]
    problems = command(tool("deptry"), "src", *options, cwd=folder)
    return [f"{folder.name}: {problem}" for problem in problems]


def wheel_names(uv: str) -> list[str]:
    """Return what is wrong with the names that the built wheels install."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return isolated.name_problems(isolated.build(uv, Path(folder) / "dist"))
        except isolated.Failure as failure:
            return [str(failure)]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.check", description=__doc__.splitlines()[0])
    parser.add_argument("--fix", action="store_true", help="let ruff format and fix first")
    args = parser.parse_args(argv)
    uv = find_uv()
    if args.fix:
        command(tool("ruff"), "check", "--quiet", "--fix", ".")
        command(tool("ruff"), "format", "--quiet", ".")
    checks: dict[str, Callable[[], list[str]]] = {
        "lint": lambda: command(tool("ruff"), "check", "--quiet", "."),
        "format": lambda: command(tool("ruff"), "format", "--check", "--quiet", "."),
        "types": lambda: command(tool("ty"), "check", "--output-format", "concise", "--python", sys.prefix),
        "dependencies": lambda: [problem for member in members() for problem in undeclared(member.folder)],
        "import rules": lambda: command(tool("lint-imports"), "--no-logo"),
        "members": lambda: member_problems(uv),
        "lock": lambda: lock.check(uv),
        "wheel names": lambda: wheel_names(uv),
    }
    verdicts = {}
    for name, check in checks.items():
        print(f"=== {name}", flush=True)
        verdicts[name] = check()
        for problem in verdicts[name]:
            print(f"check: {problem}", flush=True)
    failed = [name for name, problems in verdicts.items() if problems]
    print(f"\ncheck: {'FAILED: ' + ', '.join(failed) if failed else f'all {len(checks)} checks passed'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
