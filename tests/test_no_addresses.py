"""No file of the repository names a package index's address or a path of somebody's machine."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tools.workspace import REPO

#: An index, or a file on one. The scheme is split so that these lines do not find themselves.
ADDRESS = re.compile(
    r"https?:" + r"//[^\s\"'<>)]*(?:/simple\b|/packages/[0-9a-f]{2}/|/whl\b|\.whl\b|\.tar\.gz\b|\.tgz\b)"
)
#: A home folder.
HOME = re.compile(r"(?<![\w.~-])/(?:roo" + r"t|home/[\w.-]+|Users/[\w.-]+)/")


def files():
    """Every tracked file, and every new one that git would take."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=REPO, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [REPO / name for name in listed.decode().split("\0") if name and (REPO / name).is_file()]


def own_paths():
    """Where this checkout, the home folder and the local wheels are."""
    found = {str(REPO), str(Path.home())}
    found |= {part for part in os.environ.get("PIP_FIND_LINKS", "").split() if part.startswith("/")}
    return [path.rstrip("/") + "/" for path in found if path.count("/") > 1 or path == str(Path.home())]


def test_the_patterns_find_what_they_should():
    host = "https:" + "//mirror.example"
    for bad in ("/simple/jax", "/packages/1f/1d/absl.py", "/a/x-1.0-py3-none-any.whl", "/x-1.tar.gz", "/whl/cpu"):
        assert ADDRESS.search(host + bad), bad
    for good in ("https://arxiv.org/abs/2010.03934", "https://github.com/a/b"):
        assert not ADDRESS.search(good), good
    assert HOME.search("see /home" + "/someone/x")
    assert not HOME.search("see ~/x and a/home/b/c")


def test_no_address_of_an_index_and_no_path_of_a_machine():
    found = []
    own = own_paths()
    for path in files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if ADDRESS.search(line) or HOME.search(line) or any(part in line for part in own):
                found.append(f"{path.relative_to(REPO)}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)
