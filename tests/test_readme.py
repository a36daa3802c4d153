"""What the READMEs show, runs.

The fenced blocks of a README run in the order in which they stand, in one temporary folder: python blocks in one
interpreter, so that a block sees the names of those before it, and shell blocks line by line where a line starts with
python or one of the workspace's commands. `make`, `pip` and `git` are not run (a test would start itself, or the
network), but every target, package and extra that they name must exist. A fence such as ```bash no-run is left out,
and one such as ```python file=mine.py is written to that file. READMEs that train are run by `make test-full`.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.run_tests import environment, suites
from tools.workspace import REPO, members

READMES = [REPO / "README.md", REPO / "CONTRIBUTING.md", *(member.folder / "README.md" for member in members())]
COMMANDS = {command for member in members() for command in member.scripts}
SHELLS = {"bash", "sh", "shell", "console"}
FENCE = re.compile(r"(?ms)^(?P<ticks>```+)(?P<language>[\w+-]*)(?P<options>[^\n`]*)\n(?P<code>.*?)^(?P=ticks)[ \t]*$")

#: READMEs whose blocks take seconds; the others train.
QUICK = {"CONTRIBUTING.md", *(f"packages/{name}/README.md" for name in ("core", "data", "lab"))}

each = pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(REPO)))

#: Runs the blocks. Python blocks share its globals, under their own line numbers, so that a traceback points into the
#: README; the names with underscores keep out of their way.
RUNNER = """
import json as _json, subprocess as _subprocess, sys as _sys
for _block in _json.load(open(_sys.argv[1], encoding="utf-8")):
    print(f"--- line {_block['line']} ({_block['language']})", flush=True)
    if _block["file"]:
        open(_block["file"], "w", encoding="utf-8").write(_block["code"])
    elif _block["language"] == "python":
        _code = "\\n" * _block["line"] + _block["code"]
        exec(compile(_code, _block["readme"], "exec"), globals())
    elif _block["code"]:
        _subprocess.run(["bash", "-euo", "pipefail", "-c", _block["code"]], check=True)
"""


@dataclass(frozen=True)
class Block:
    """One fenced block: `line` is that of its fence."""

    language: str
    options: str
    code: str
    line: int

    @property
    def lines(self):
        """The commands of a shell block: continued lines joined, comments and prompts gone."""
        joined = self.code.replace("\\\n", " ")
        stripped = (re.sub(r"^\$ ", "", line.strip()) for line in joined.splitlines())
        return [line for line in stripped if line and not line.startswith("#")]


def blocks(readme):
    if not readme.exists():
        pytest.fail(f"{readme.relative_to(REPO)} is missing")
    text = readme.read_text(encoding="utf-8")
    return [
        Block(found["language"], found["options"], found["code"], text.count("\n", 0, found.start()) + 1)
        for found in FENCE.finditer(text)
        if "no-run" not in found["options"]
    ]


def words(line):
    """The words of a command, without leading assignments of variables."""
    parts = shlex.split(line, comments=True)
    while parts and re.match(r"\w+=", parts[0]):
        parts = parts[1:]
    return parts


def is_run(line):
    """Whether a shell line is to be run; raise ValueError where nobody knows what it is."""
    first, *rest = words(line)
    if first in COMMANDS or (first in {"python", "python3"} and rest[:2] != ["-m", "pip"]):
        return True
    if first in {"make", "pip", "uv", "git", "cd", "python", "python3"}:
        return False
    raise ValueError(f"unknown command {first!r}: mark the fence `no-run` if it is only to be read")


def make_problem(target):
    """Return why `make target` is not a target, or None."""
    if target.startswith("test-") and target not in ("test-isolated", "test-full"):
        return None if target.removeprefix("test-").removeprefix("full-") in suites() else "no such suite of tests"
    if target.startswith("bench-"):
        module = REPO / "benchmarks" / target.removeprefix("bench-").replace("-", "_")
        return None if module.with_suffix(".py").exists() or module.is_dir() else "no such benchmark"
    env = {key: value for key, value in os.environ.items() if key not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    done = subprocess.run(["make", "-n", target], cwd=REPO, env=env, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else done.stderr.strip()


def install_problem(requirement):
    """Return why one of our packages cannot be installed as `requirement`, or None (others' are not judged)."""
    found = re.match(r"(?P<name>[A-Za-z0-9._/-]+)(?:\[(?P<extras>[^\]]*)\])?", requirement)
    known = {member.name: member for member in members()}
    known |= {f"{prefix}packages/{member.folder.name}": member for member in members() for prefix in ("", "./")}
    if not found or found["name"] not in known:
        return f"{requirement} does not exist" if requirement.startswith((".", "packages/")) else None
    missing = set(filter(None, (found["extras"] or "").split(","))) - {*known[found["name"]].extras}
    return f"{found['name']} has no extra {', '.join(sorted(missing))}" if missing else None


@each
def test_every_shell_line_is_known(readme):
    problems = []
    for block in blocks(readme):
        for line in block.lines if block.language in SHELLS else ():
            try:
                is_run(line)
            except ValueError as error:
                problems.append(f"{readme.name}, block at line {block.line}: {error}")
                continue
            first, *rest = words(line)
            plain = [word for word in rest if not word.startswith("-") and "=" not in word]
            if first == "make":
                found = [make_problem(target) for target in plain]
            elif "install" in plain:
                found = [install_problem(name) for name in plain[plain.index("install") + 1 :]]
            else:
                found = []
            problems += [f"{readme.name}, block at line {block.line}: {line}: {one}" for one in found if one]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    "readme",
    [
        pytest.param(
            path, id=str(path.relative_to(REPO)), marks=() if str(path.relative_to(REPO)) in QUICK else pytest.mark.slow
        )
        for path in READMES
    ],
)
def test_the_blocks_run_in_order(readme, tmp_path):
    runnable = []
    for block in blocks(readme):
        if block.language == "python":
            code = block.code
        elif block.language in SHELLS:
            code = "\n".join(line for line in block.lines if is_run(line))
        else:
            continue
        language = "python" if block.language == "python" else "bash"
        file = re.search(r"file=(\S+)", block.options)
        found = {"language": language, "code": code, "line": block.line, "readme": str(readme)}
        runnable.append({**found, "file": file[1] if file else ""})
    assert any(block["code"] for block in runnable), f"{readme.relative_to(REPO)} shows nothing that runs"
    work = tmp_path / "work"
    work.mkdir()
    listing = tmp_path / "blocks.json"
    listing.write_text(json.dumps(runnable), encoding="utf-8")
    runner = tmp_path / "runner.py"
    runner.write_text(RUNNER, encoding="utf-8")
    env = environment(1)
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    done = subprocess.run(
        [sys.executable, runner, listing], cwd=work, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@each
def test_links_lead_somewhere(readme):
    text = FENCE.sub("", readme.read_text(encoding="utf-8"))
    targets = re.findall(r"\]\(([^)\s]+)[^)]*\)", text) + re.findall(r"\b(?:src|href)=\"([^\"]+)\"", text)
    local = [target for target in targets if not re.match(r"[a-z]+:|#", target)]
    missing = [target for target in local if not (readme.parent / target.split("#")[0]).exists()]
    assert not missing, f"{readme.relative_to(REPO)} links to what does not exist: {', '.join(missing)}"
    if readme.parent != REPO:
        assert not local, f"{local[0]} is dead where a package's README is shown without the repository"


def test_the_readme_names_the_two_commands():
    lines = [line for block in blocks(REPO / "README.md") if block.language in SHELLS for line in block.lines]
    assert {"make demo", "make test"} <= {" ".join(words(line)) for line in lines}


def test_the_checker_sees_what_is_wrong():
    assert install_problem("paperloop[jax]") is None
    assert install_problem("packages/nowhere") == "packages/nowhere does not exist"
    assert install_problem("paperloop[jaxx]") == "paperloop has no extra jaxx"
    assert make_problem("demo") is None
    assert make_problem("demonstrate")
    assert make_problem("test-nothing")
    assert make_problem("test-full-core") is None
    assert is_run("JAX_PLATFORMS=cpu paperloop report runs/x")
    assert not is_run("make test")
    with pytest.raises(ValueError, match="unknown command 'curl'"):
        is_run("curl x")
