"""`make test-isolated` and `make check` see the faults that the shared environment hides."""

import sys
import zipfile

import pytest

from tools import isolated
from tools.bootstrap import find_uv
from tools.isolated import Failure, Wheel
from tools.lock import OFFLINE
from tools.workspace import members


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    return isolated.build(find_uv(), tmp_path_factory.mktemp("wheels") / "dist")


def rewrite(wheel, folder, change):
    """Copy a wheel into `folder`, with `change(name, data)` applied to each file; None drops it."""
    target = folder / wheel.path.name
    with zipfile.ZipFile(wheel.path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return Wheel(wheel.member, target)


def test_the_wheels_are_in_order(wheels):
    assert set(wheels) == {member.name for member in members()}
    assert isolated.name_problems(wheels) == []


def test_names_that_clash_or_are_missing_are_seen(wheels, tmp_path):
    bad = rewrite(wheels["paperloop"], tmp_path, lambda name, data: None if name == "paperloop/py.typed" else data)
    with zipfile.ZipFile(bad.path, "a") as archive:
        archive.writestr("Minimax_UED/__init__.py", "")
        archive.writestr("cmd.py", "")
    problems = " | ".join(isolated.name_problems({**wheels, "paperloop": bad}))
    assert "paperloop installs ['Minimax_UED', 'cmd', 'paperloop'], not only paperloop" in problems
    assert "both install minimax_ued" in problems
    assert "cmd, which hides a module of the standard library" in problems
    assert "paperloop's wheel lacks paperloop/py.typed" in problems


@pytest.mark.parametrize("bound", [">=5", ">=0.1,<0.1"])
def test_an_impossible_bound_between_members_is_seen(wheels, tmp_path, bound):
    core = wheels["paperloop"]
    (tmp_path / core.path.name).write_bytes(core.path.read_bytes())

    def spoil(name, data):
        if not name.endswith("/METADATA"):
            return data
        head, _, body = data.decode().partition("\n\n")
        lines = [line for line in head.splitlines() if not line.startswith("Requires-Dist")]
        return ("\n".join([*lines, f"Requires-Dist: paperloop{bound}"]) + "\n\n" + body).encode()

    bad = rewrite(wheels["minimax-ued"], tmp_path, spoil)
    with pytest.raises(Failure) as caught:
        isolated.check_bounds(find_uv(), bad, {**wheels, "minimax-ued": bad}, tmp_path)
    if OFFLINE.search(str(caught.value)):
        pytest.skip("the package index is out of reach")
    assert "No solution found" in str(caught.value)
    assert "paperloop" in str(caught.value)


def test_an_undeclared_import_is_seen(wheels, tmp_path):
    """In an environment that holds the wheel and nothing else; the running one has the undeclared package."""
    pytest.importorskip("h5py")

    def strip(name, data):
        if name == "paperloop/__init__.py":
            return b'"""Nothing but a planted fault in a module that no test need load."""\n'
        if name == "paperloop/seeds.py":
            return b"import h5py\n"
        return None if name.startswith("paperloop/") else data

    bad = rewrite(wheels["paperloop"], tmp_path, strip)
    uv = find_uv()
    isolated.run([uv, "venv", "--quiet", "--no-project", "--python", sys.executable, tmp_path / "venv"])
    python = tmp_path / "venv" / "bin" / "python"
    isolated.run([uv, "pip", "install", "--quiet", "--python", python, "--no-deps", bad.path])
    with pytest.raises(Failure, match="No module named 'h5py'"):
        isolated.check_imports(python, "paperloop", tmp_path, isolated.outside_environment())
