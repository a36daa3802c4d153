"""The committed lock is portable, and loses nothing by it."""

import re
import shutil
import subprocess

import pytest

from tools import lock
from tools.bootstrap import find_uv

# The addresses are put together so that no line of this file looks like one.
FULL = """\
version = 1

[[package]]
name = "idna"
version = "3.10"
source = { registry = "INDEX" }
dependencies = [
    { name = "numpy", version = "2.4.6", source = { registry = "INDEX" }, marker = "x < '3'" },
]
sdist = { url = "FILES/aa/bb/idna-3.10.tar.gz?x=1#y", hash = "sha256:12", size = 1 }
wheels = [
    { url = "FILES/aa/cc/idna-3.10-py3-none-any.whl", hash = "sha256:34", size = 2 },
]

[[package]]
name = "member"
source = { editable = "packages/member" }

[package.optional-dependencies]
test = [
    { name = "idna" },
]

[package.metadata]
requires-dist = [
    { name = "idna", marker = "extra == 'test'", specifier = ">=3" },
]
provides-extras = ["test"]

[package.metadata.requires-dev]
dev = [{ name = "idna" }]

[[package]]
name = "zipp"
""".replace("INDEX", "https:" + "//mirror.example/simple").replace("FILES", "https:" + "//files.example")

PORTABLE = """\
version = 1

[[package]]
name = "idna"
version = "3.10"
source = { registry = "pypi" }
dependencies = [
    { name = "numpy", version = "2.4.6", source = { registry = "pypi" }, marker = "x < '3'" },
]
sdist = { path = "idna-3.10.tar.gz", hash = "sha256:12", size = 1 }
wheels = [
    { path = "idna-3.10-py3-none-any.whl", hash = "sha256:34", size = 2 },
]

[[package]]
name = "member"
source = { editable = "packages/member" }

[package.optional-dependencies]
test = [
    { name = "idna" },
]

[[package]]
name = "zipp"
"""


def or_skip(error):
    """Skip where the index is out of reach; anything else is a failure."""
    if lock.OFFLINE.search(str(error)):
        pytest.skip("the package index is out of reach")
    raise error


def test_addresses_and_metadata_go_and_nothing_else_changes():
    assert lock.to_portable(FULL) == PORTABLE
    assert lock.to_portable(PORTABLE) == PORTABLE


def test_hashes_are_read_from_either_form():
    expected = {"idna-3.10.tar.gz": "sha256:12", "idna-3.10-py3-none-any.whl": "sha256:34"}
    assert lock.file_hashes(FULL) == lock.file_hashes(PORTABLE) == expected


def test_another_content_under_the_same_name_is_noticed():
    assert lock.changed_files(PORTABLE, FULL) == []
    assert lock.changed_files(PORTABLE, FULL.replace("sha256:34", "sha256:35")) == ["idna-3.10-py3-none-any.whl"]


def test_differences_are_named():
    assert lock.difference(PORTABLE, FULL) == ""
    assert lock.difference(PORTABLE, FULL.replace("3.10", "3.11")) == "drops idna 3.10; adds idna 3.11"


def test_the_committed_lock_is_portable():
    text = lock.LOCK.read_text(encoding="utf-8")
    assert "://" not in text
    assert lock.to_portable(text) == text
    assert len(lock.file_hashes(text)) > 100


def test_resolving_the_committed_lock_leaves_versions_and_hashes(monkeypatch, tmp_path):
    # An empty folder, so that no completed lock of an earlier set-up takes part.
    monkeypatch.setattr(lock, "STAGE", tmp_path / "stage")
    before = lock.LOCK.read_bytes()
    try:
        resolved = lock.resolve(find_uv())
    except SystemExit as error:
        or_skip(error)
    assert "://" in resolved, "uv did not complete the lock"
    assert lock.to_portable(resolved).encode() == before
    assert lock.LOCK.read_bytes() == before, "uv worked on the committed file"


def test_an_older_version_in_a_portable_lock_stays(tmp_path):
    """The control: were the portable lock ignored, the newest version would come."""
    project = tmp_path / "pyproject.toml"
    text = '[project]\nname = "consumer"\nversion = "0"\nrequires-python = ">=3.11"\ndependencies = ["idna{}"]\n'
    path = tmp_path / "uv.lock"

    def resolve(bound):
        project.write_text(text.format(bound), encoding="utf-8")
        command = [find_uv(), "lock", "--quiet", "--project", str(tmp_path)]
        done = subprocess.run(command, env=lock.clean_environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            or_skip(RuntimeError(done.stderr))
        return path.read_text(encoding="utf-8")

    old = lock.to_portable(resolve("==3.6"))
    path.write_text(old, encoding="utf-8")
    kept = resolve("")
    assert 'version = "3.6"' in kept
    assert lock.file_hashes(kept) == lock.file_hashes(old)
    path.unlink()
    assert 'version = "3.6"' not in resolve("")


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_every_documented_target_is_there():
    listing = subprocess.run(["make", "help"], cwd=lock.REPO, capture_output=True, text=True, check=True).stdout
    targets = set(re.findall(r"(?m)^  (\S+) +\S", listing))
    wanted = {"setup", "demo", "test", "test-full", "check", "test-isolated", "wheels", "bench-%", "lock", "clean"}
    assert wanted <= targets
