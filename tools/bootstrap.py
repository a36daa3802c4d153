"""From a bare machine to a virtual environment in which everything of this workspace is installed.

    python3 tools/bootstrap.py --python 3.11 --venv .venv

It finds uv or installs it, makes the environment, hands over to `tools.lock` for the locked dependencies and the
packages themselves, adds a CPU build of PyTorch where one can be had without downloading gigabytes, and writes
`<venv>/.ready` last: an interrupted set-up is never taken for a finished one, and running it again repairs it.

`python3 tools/bootstrap.py --find 3.12` prints the path of that interpreter, or exits with 1 where there is none.

Standard library only, and no newer than Python 3.8: it runs before anything is installed.
"""

import argparse
import glob
import os
import re
import shutil
import subprocess
import sys

__all__ = ["find_python", "find_uv", "install_torch", "main"]

REPO = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PRIVATE_UV = os.path.join(REPO, ".cache", "uv")
OLDEST_UV = (0, 9)
TORCH = "torch>=2.11"


def say(text):
    print("setup: " + text, flush=True)


def uv_works(uv):
    """Whether `uv` is an executable of a version that the workspace supports."""
    try:
        done = subprocess.run([uv, "--version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    found = re.match(r"uv (\d+)\.(\d+)", done.stdout)
    return done.returncode == 0 and bool(found) and tuple(map(int, found.groups())) >= OLDEST_UV


def find_uv():
    """Return the path of uv, after installing it privately into .cache/uv where the machine has none.

    `pip install --target` touches no environment, so it also works where the system's Python is marked as externally
    managed. A Python without pip gets a throw-away virtual environment instead.
    """
    candidates = [shutil.which("uv")] + [os.path.join(PRIVATE_UV, folder, "uv") for folder in ("bin", "venv/bin")]
    for uv in candidates:
        if uv and uv_works(uv):
            return uv
    say(f"no uv {OLDEST_UV[0]}.{OLDEST_UV[1]} or newer on the PATH: installing it with pip into .cache/uv")
    shutil.rmtree(PRIVATE_UV, ignore_errors=True)
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
    venv = os.path.join(PRIVATE_UV, "venv")
    attempts = [
        [[sys.executable, *pip, "--target", PRIVATE_UV, "uv"]],
        [[sys.executable, "-m", "venv", venv], [os.path.join(venv, "bin", "python"), *pip, "uv"]],
    ]
    problem = ""
    for commands in attempts:
        for command in commands:
            try:
                done = subprocess.run(command, capture_output=True, text=True)
            except OSError as error:
                problem = str(error)
                break
            if done.returncode:
                problem = (done.stderr or done.stdout).strip()
                break
        for uv in candidates[1:]:
            if uv_works(uv):
                return uv
    raise SystemExit("setup: could not install uv with pip; install uv yourself and run this again.\n" + problem)


def find_python(version, uv=None):
    """Return an installed interpreter of `version` ("3.12"), or None. Downloads nothing.

    uv looks at the PATH, at its own interpreters and at the usual places. pyenv hides the versions that are not
    switched on behind shims that fail, so those are looked up where pyenv keeps them.
    """
    if uv:
        done = subprocess.run(
            [uv, "python", "find", "--no-project", "--no-python-downloads", "--system", version],
            capture_output=True,
            text=True,
        )
        if done.returncode == 0:
            return done.stdout.strip()
    found = [shutil.which("python" + version)]
    root = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    found += sorted(glob.glob(os.path.join(root, "versions", version + ".*", "bin", "python" + version)))[::-1]
    for python in filter(None, found):
        done = subprocess.run([python, "-c", "import sys; print(*sys.version_info[:2], sep='.')"], capture_output=True)
        if done.returncode == 0 and done.stdout.decode().strip() == version:
            return python
    return None


def python_version(python):
    """Return "3.11" for a working interpreter and None otherwise."""
    try:
        done = subprocess.run([python, "-c", "import sys; print(*sys.version_info[:2], sep='.')"], capture_output=True)
    except OSError:
        return None
    return done.stdout.decode().strip() if done.returncode == 0 else None


def make_venv(uv, venv, version):
    python = os.path.join(venv, "bin", "python")
    have = python_version(python)
    if have == version:
        return python
    if have or os.path.exists(venv):
        say(f"{os.path.relpath(venv, REPO)} is not a working Python {version} environment: making it anew")
    # Not found here: uv downloads that interpreter, or says why it cannot.
    interpreter = find_python(version, uv) or version
    subprocess.run([uv, "venv", "--quiet", "--no-project", "--clear", "--python", interpreter, venv], check=True)
    return python


def torch_version(python):
    code = "import importlib.metadata as m; print(m.version('torch'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def install_torch(uv, python):
    """Add a CPU build of PyTorch and return its version, or None where none can be had cheaply.

    It is not part of the locked dependencies: on Linux the index's own torch is a CUDA build of several GB. Two sources
    are tried. First, the folders or pages that PIP_FIND_LINKS or UV_FIND_LINKS name, if set: a local wheel costs
    seconds. Then uv's own list of PyTorch's CPU builds, without retries, so that a machine without that connection
    continues in a second. Neither can fall back to the CUDA build.
    """
    have = torch_version(python)
    if have:
        return have
    base = [uv, "pip", "install", "--quiet", "--no-config", "--python", python]
    links = (os.environ.get("UV_FIND_LINKS", "").replace(",", " ") + " " + os.environ.get("PIP_FIND_LINKS", "")).split()
    if links:
        finds = [part for link in links for part in ("--find-links", link)]
        subprocess.run([*base, "--no-index", *finds, "--no-deps", TORCH], capture_output=True)
        have = torch_version(python)
        if have and sys.platform == "linux" and not have.endswith("+cpu"):
            say(f"the torch {have} found there is no CPU build, so it is not used")
            subprocess.run([uv, "pip", "uninstall", "--quiet", "--python", python, "torch"], check=True)
        elif have:
            # The wheel is in place, so this only adds what it depends on; the exact version keeps it from changing.
            done = subprocess.run([*base, *finds, "torch==" + have])
            if done.returncode == 0:
                return have
            subprocess.run([uv, "pip", "uninstall", "--quiet", "--python", python, "torch"], check=True)
    # The numbers are seconds without a byte and tries; both only shorten the wait where there is no connection.
    env = dict(os.environ, UV_HTTP_TIMEOUT="20", UV_HTTP_RETRIES="0")
    backend = os.environ.get("UV_TORCH_BACKEND", "cpu")
    subprocess.run([*base, "--torch-backend", backend, TORCH], env=env, capture_output=True)
    return torch_version(python)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default="3.11", metavar="VERSION", help="such as 3.12 (default: 3.11)")
    parser.add_argument("--venv", default=".venv", help="where the environment goes (default: .venv)")
    parser.add_argument("--torch", default="cpu", choices=["cpu", "none"], help="none leaves PyTorch out")
    parser.add_argument("--find", metavar="VERSION", help="only print that interpreter's path")
    args = parser.parse_args(argv)
    if args.find:
        python = find_python(args.find, find_uv())
        if python:
            print(python)
        return 0 if python else 1
    if not re.match(r"^3\.\d+$", args.python):
        parser.error(f"PYTHON is a version such as 3.12; got {args.python!r}")

    uv = find_uv()
    venv = os.path.join(REPO, args.venv)
    ready = os.path.join(venv, ".ready")
    if os.path.exists(ready):
        os.remove(ready)
    python = make_venv(uv, venv, args.python)
    say(f"installing the locked dependencies into {args.venv}")
    done = subprocess.run([python, "-m", "tools.lock", "sync", "--uv", uv], cwd=REPO)
    if done.returncode:
        return done.returncode
    torch = install_torch(uv, python) if args.torch == "cpu" else torch_version(python)
    if torch:
        say(f"PyTorch {torch} is there")
    else:
        say("no CPU build of PyTorch within reach: tests that need torch will be SKIPPED; everything else works")
    with open(ready, "w") as file:
        file.write(f"torch {torch}\n")
    say(f"{args.venv} is ready: Python {args.python}, every package in editable form")
    return 0


if __name__ == "__main__":
    sys.exit(main())
