"""Every package has the same rooms, and the workspace has the expected packages."""

import re
import subprocess
import sys

import pytest

from tools.bootstrap import find_uv
from tools.check import EXPECTED, member_problems
from tools.workspace import REPO, members

each = pytest.mark.parametrize("member", members(), ids=lambda member: member.folder.name)

#: No module may load one of these on import; a command's --help would wait for it.
HEAVY = ("jax", "jaxlib", "flax", "optax", "torch", "safetensors", "tensorflow")


def test_the_members_are_the_expected_ones():
    assert {member.folder.name: member.name for member in members()} == EXPECTED
    assert member_problems(find_uv()) == []


@each
def test_a_package_is_a_folder_that_stands_alone(member):
    for name in ("README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "tests"):
        assert (member.folder / name).exists(), f"{member.folder.name} lacks {name}"
    source = member.folder / "src" / member.module
    assert [path.name for path in source.parent.iterdir() if path.is_dir() and path.suffix != ".egg-info"] == [
        member.module
    ]
    assert (source / "__init__.py").is_file()
    assert (source / "py.typed").is_file()
    assert (member.folder / "LICENSE").read_bytes() == (REPO / "LICENSE").read_bytes()


@each
def test_the_metadata_is_complete(member):
    project = member.project
    assert project["readme"] == "README.md"
    assert project["license"] == "Apache-2.0"
    assert project["license-files"] == ["LICENSE"]
    assert project["requires-python"] == ">=3.11"
    assert len(project["description"]) > 40
    assert "Typing :: Typed" in project["classifiers"]
    assert "test" in member.extras
    # One command, named like the distribution, in the module that --help can import quickly; the lab's is `paperloop`.
    command = {"paperloop": None, "paperloop-data": None, "paperloop-lab": "paperloop"}.get(member.name, member.name)
    assert member.scripts == ({command: f"{member.module}.cli:main"} if command else {})


@each
def test_dependencies_on_members_have_bounds(member):
    """A wheel carries no bound that is not written here, and uv does not check it between members."""
    names = {other.name: other for other in members()}
    lists = [member.project["dependencies"], *member.project["optional-dependencies"].values()]
    for requirement in (text for texts in lists for text in texts):
        name = re.match(r"[A-Za-z0-9-]+", requirement)[0]
        if name in names and name != member.name:
            major, minor = names[name].project["version"].split(".")[:2]
            assert f">={major}.{minor}" in requirement, requirement
            assert f"<{major}.{int(minor) + 1}" in requirement, requirement


@each
def test_the_changelog_has_this_version(member):
    text = (member.folder / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"(?m)^## {re.escape(member.project['version'])}\b", text)


@each
def test_the_readme_opens_with_the_name_and_the_installation(member):
    text = (member.folder / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {member.name}\n")
    install = rf"pip install [^\n]*(\./packages/{member.folder.name}|\b{re.escape(member.name)})(?![\w-])"
    assert re.search(install, text), "say how to install it, from a clone or by its name"


def test_importing_the_core_loads_neither_jax_nor_torch():
    """Not even one of its modules does so, the back ends' included: they import inside functions."""
    code = f"""
import importlib, pkgutil, sys
import paperloop
def fail(name):
    raise SystemExit(f"a module of paperloop cannot be imported: {{name}}")
for module in pkgutil.walk_packages(paperloop.__path__, "paperloop.", onerror=fail):
    importlib.import_module(module.name)
    found = [name for name in {HEAVY!r} if name in sys.modules]
    if found:
        raise SystemExit(f"importing {{module.name}} loads {{', '.join(found)}}")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@each
def test_configuration_and_command_line_load_neither_jax_nor_torch(member):
    code = f"""
import importlib.util, sys
for name in ("{member.module}.config", "{member.module}.cli"):
    if importlib.util.find_spec(name):
        importlib.import_module(name)
found = [name for name in {HEAVY!r} if name in sys.modules]
if found:
    raise SystemExit(f"loads {{', '.join(found)}}")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
