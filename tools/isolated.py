"""Each package as a user gets it: its built wheel alone in a new environment.

    python -m tools.isolated                  build, check and test everything
    python -m tools.isolated minimax          only that package
    python -m tools.isolated --wheels-only    build into dist/ and check names and contents

The shared development environment hides two kinds of fault, because every dependency of every package is there and
because uv never looks at version bounds between members of a workspace. Here they show:

- an import that the package does not declare fails in an environment that holds the wheel and nothing else;
- an impossible bound (`paperloop>=5`) fails when the wheels are resolved like anybody's.

Wheels are installed by file path: by name, uv's cache would serve an older build of the same version. The tests run on
a copy outside the tree, so that no source file can stand in for one that the wheel lacks.
"""

from __future__ import annotations

import argparse
import email.parser
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tools.bootstrap import find_uv, install_torch
from tools.run_tests import environment
from tools.workspace import REPO, SERVICE_EXTRAS, Member, members

__all__ = ["Failure", "Wheel", "build", "check_bounds", "check_imports", "main", "name_problems"]

DIST = REPO / "dist"
#: No test extra: `test` itself is always installed. torch is several GB and `make test` covers it.
NOT_TRIED = SERVICE_EXTRAS | {"test", "torch"}
#: Imports every module of the package named by the first argument but those named by the others, and prints where it
#: came from. A test suite need not load every module, so without this an undeclared import could hide in one.
IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if module.name not in sys.argv[2:]:
        importlib.import_module(module.name)
print(package.__file__)
"""


class Failure(Exception):
    """One check did not hold; the message is for the user."""


@dataclass(frozen=True)
class Wheel:
    """A built wheel and what it says of itself."""

    member: Member
    path: Path

    @cached_property
    def names(self) -> list[str]:
        """Every file in it."""
        with zipfile.ZipFile(self.path) as archive:
            return archive.namelist()

    @cached_property
    def metadata(self) -> dict[str, list[str]]:
        """The METADATA headers."""
        name = next(name for name in self.names if name.endswith(".dist-info/METADATA"))
        with zipfile.ZipFile(self.path) as archive:
            message = email.parser.Parser().parsestr(archive.read(name).decode())
        return {key: message.get_all(key, []) for key in set(message.keys())}

    @property
    def top_level(self) -> set[str]:
        """The names it puts next to those of other distributions."""
        tops = {name.split("/")[0] for name in self.names}
        return {re.sub(r"\.(py|pyi|so|pyd)$", "", top) for top in tops if not top.endswith(".dist-info")}

    def needs(self, extras: set[str], wheels: dict[str, Wheel]) -> dict[str, set[str]]:
        """Return the members among its dependencies, theirs included, each with the extras asked of it."""
        found: dict[str, set[str]] = {}
        for requirement in self.metadata.get("Requires-Dist", []):
            match = re.match(r"([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?", requirement)
            name = re.sub(r"[-_.]+", "-", match[1]).lower() if match else ""
            extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", requirement)
            if name not in wheels or (extra and extra[1] not in extras):
                continue
            wanted = {part.strip() for part in ((match and match[2]) or "").split(",") if part.strip()}
            found.setdefault(name, set()).update(wanted)
            if name != self.member.name:
                for other, more in wheels[name].needs(wanted, wheels).items():
                    found.setdefault(other, set()).update(more)
        return found


def run(command: list[str | Path], cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a command and return what it printed; raise `Failure` with it where it fails."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    output = (done.stdout + done.stderr).strip()
    if done.returncode:
        shown = " ".join(Path(part).name if os.path.isabs(str(part)) else str(part) for part in command)
        raise Failure(f"`{shown}` exits with {done.returncode}:\n{output}")
    return output


def build(uv: str, target: Path = DIST) -> dict[str, Wheel]:
    """Build every member into the emptied folder `target` and return distribution name -> wheel.

    `--no-sources` builds as a stranger would, without the workspace's own table of where members lie.
    """
    shutil.rmtree(target, ignore_errors=True)
    run([uv, "build", "--quiet", "--all-packages", "--no-sources", "--wheel", "--out-dir", target], cwd=REPO)
    wheels = {}
    for member in members():
        built = list(target.glob(f"{member.module}-*.whl"))
        if len(built) != 1:
            raise Failure(f"{member.name}: expected one wheel in {target.name}/, found {[path.name for path in built]}")
        wheels[member.name] = Wheel(member, built[0])
    return wheels


def name_problems(wheels: dict[str, Wheel]) -> list[str]:
    """Return what is wrong with the wheels' names and contents, as sentences."""
    problems = []
    owner: dict[str, str] = {}
    for name, wheel in wheels.items():
        if wheel.top_level != {wheel.member.module}:
            problems.append(f"{name} installs {sorted(wheel.top_level)}, not only {wheel.member.module}")
        for top in sorted(wheel.top_level):
            first = owner.setdefault(top.lower(), name)  # case makes no difference on some file systems
            if first != name:
                problems.append(f"{first} and {name} both install {top}")
            if top in sys.stdlib_module_names:
                problems.append(f"{name} installs {top}, which hides a module of the standard library")
        problems += [
            f"{name}'s wheel lacks {wheel.member.module}/{file}"
            for file in ("__init__.py", "py.typed")
            if f"{wheel.member.module}/{file}" not in wheel.names
        ]
        if not any("/licenses/" in file for file in wheel.names):
            problems.append(f"{name}'s wheel lacks its licence")
        # setuptools and others would leave build products and tests in.
        if strays := [file for file in wheel.names if "/tests/" in file or file.endswith(".pyc")]:
            problems.append(f"{name}'s wheel holds {strays[0]}")
    return problems


def check_bounds(uv: str, wheel: Wheel, wheels: dict[str, Wheel], scratch: Path) -> None:
    """Resolve one wheel against the others and the index, as pip would for a user.

    Raises:
        Failure: no versions satisfy it, or it would take a stranger's package for one of ours.
    """
    extras = sorted(
        {extra for extra in wheel.member.extras if extra not in NOT_TRIED} | {"test"} & {*wheel.member.extras}
    )
    wanted = scratch / "wanted.in"
    wanted.write_text(requirement(wheel, extras) + "\n", encoding="utf-8")
    options = ["--quiet", "--no-config", "--no-annotate", "--no-header", "--python", sys.executable]
    pins = run([uv, "pip", "compile", *options, "--find-links", wheel.path.parent, wanted], cwd=scratch)
    for name, other in wheels.items():
        version = other.metadata["Version"][0]
        if (pin := re.search(rf"(?m)^{re.escape(name)}==(\S+)", pins)) and pin[1] != version:
            raise Failure(f"{wheel.member.name} would get {name} {pin[1]}, not the {version} built here")


def requirement(wheel: Wheel, extras: set[str]) -> str:
    """Return "name[extras] @ file address" of a wheel."""
    chosen = f"[{','.join(sorted(extras))}]" if extras else ""
    return f"{wheel.member.name}{chosen} @ {wheel.path.resolve().as_uri()}"


def install(uv: str, python: Path, wheel: Wheel, extras: set[str], wheels: dict[str, Wheel]) -> None:
    """Install a wheel with `extras`, and the members that it declares, by file path."""
    wanted = {wheel.member.name: set(extras)}
    for name, more in wheel.needs(extras, wheels).items():
        wanted.setdefault(name, set()).update(more)
    arguments = [requirement(wheels[name], more) for name, more in wanted.items()]
    run([uv, "pip", "install", "--quiet", "--no-config", "--python", python, *arguments])


def outside_environment() -> dict[str, str]:
    """The environment of `make test`, without what could lead Python back into the tree."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "PYTHONPYCACHEPREFIX", "VIRTUAL_ENV", "PYTEST_ADDOPTS"}
    return {key: value for key, value in environment(1).items() if key not in hidden}


def check_imports(python: Path, module: str, scratch: Path, env: dict[str, str], without: Sequence[str] = ()) -> None:
    """Import every module of an installed package, but those in `without`.

    Raises:
        Failure: one cannot be imported, or the package does not come from the environment of `python`.
    """
    where = run([python, "-I", "-c", IMPORT_ALL, module, *without], cwd=scratch, env=env).splitlines()[-1]
    if not Path(where).resolve().is_relative_to(python.parent.parent.resolve()):
        raise Failure(f"{module} was imported from {where}, not from its wheel")


def try_package(uv: str, wheel: Wheel, wheels: dict[str, Wheel], scratch: Path) -> str:
    """Put one wheel through everything and return pytest's last lines."""
    member = wheel.member
    check_bounds(uv, wheel, wheels, scratch)

    venv = scratch / "venv"
    run([uv, "venv", "--quiet", "--no-project", "--python", sys.executable, venv])
    python = venv / "bin" / "python"
    env = outside_environment()
    needs_torch = any(re.match(r"torch\b(?!.*extra ==)", text) for text in wheel.metadata.get("Requires-Dist", []))
    if needs_torch and not install_torch(uv, str(python)):  # first, so that the index's CUDA build is not taken
        return "skipped: no CPU build of PyTorch within reach"
    # First without any extra: after a plain `pip install`, every module must import and every command answer. What an
    # extra brings is imported inside the functions that need it, or in modules that pyproject.toml names.
    install(uv, python, wheel, set(), wheels)
    check_imports(python, member.module, scratch, env, member.modules_of_extras)
    for script in member.scripts:
        run([venv / "bin" / script, "--help"], cwd=scratch, env=env)

    tests = scratch / "tests"
    shutil.copytree(member.folder / "tests", tests, ignore=shutil.ignore_patterns("__pycache__"))
    (scratch / "pytest.ini").write_text(pytest_settings(), encoding="utf-8")
    lines = []
    others = {*member.extras} - NOT_TRIED
    for extras in [{"test"}, {"test"} | others] if others else [{"test"}]:
        install(uv, python, wheel, extras & {*member.extras}, wheels)
        if others <= extras:
            check_imports(python, member.module, scratch, env)
        output = run([python, "-m", "pytest", "-q", "--import-mode=importlib", "tests"], cwd=scratch, env=env)
        lines.append(f"[{','.join(sorted(extras))}] {output.splitlines()[-1]}")
    return "\n".join(lines)


def pytest_settings() -> str:
    """The root's markers, so that a package's tests mean the same outside the tree."""
    settings = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    markers = "".join(f"\n    {marker}" for marker in settings.get("markers", []))
    return f"[pytest]\naddopts = --strict-markers\nmarkers ={markers}\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.isolated", description=__doc__.splitlines()[0])
    parser.add_argument("packages", nargs="*", metavar="FOLDER", help="folders in packages/ (default: all)")
    parser.add_argument("--wheels-only", action="store_true", help="build and look at the wheels, run nothing")
    args = parser.parse_args(argv)
    if unknown := set(args.packages) - {member.folder.name for member in members()}:
        parser.error(f"no package {', '.join(sorted(unknown))} in packages/")

    uv = find_uv()
    try:
        wheels = build(uv)
    except Failure as failure:
        print(f"isolated: FAILED: build: {failure}", file=sys.stderr)
        return 1
    for wheel in wheels.values():
        print(f"dist/{wheel.path.name}  {wheel.path.stat().st_size / 1024:.0f} KiB, {len(wheel.names)} files")
    problems = name_problems(wheels)
    for problem in problems:
        print(f"isolated: FAILED: {problem}", file=sys.stderr)
    if args.wheels_only:
        return 1 if problems else 0

    failed = ["wheel names"] if problems else []
    for name, wheel in wheels.items():
        if args.packages and wheel.member.folder.name not in args.packages:
            continue
        print(f"\n=== {name}", flush=True)
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"{wheel.member.module}-") as scratch:
            try:
                print(try_package(uv, wheel, wheels, Path(scratch)))
                verdict = "passed"
            except Failure as failure:
                print(failure)
                failed.append(name)
                verdict = "FAILED"
        print(f"{name}: {verdict} ({time.monotonic() - start:.0f} s)", flush=True)
    print(f"\nisolated: {'FAILED: ' + ', '.join(failed) if failed else 'every wheel stands alone'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
