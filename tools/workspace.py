"""What the workspace consists of, read from the packages' own pyproject files."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

__all__ = ["REPO", "SERVICE_EXTRAS", "Member", "members"]

REPO = Path(__file__).resolve().parent.parent

#: Extras that no development environment gets: an accelerator's libraries, a cluster, other people's web services, and
#: what is under the GPL.
SERVICE_EXTRAS = frozenset({"atari", "cuda", "peft", "ray", "sentence-transformers", "trl", "wandb"})


@dataclass(frozen=True)
class Member:
    """One package: its folder and what its pyproject.toml says."""

    folder: Path

    @cached_property
    def document(self) -> dict[str, Any]:
        """The whole pyproject.toml."""
        return tomllib.loads((self.folder / "pyproject.toml").read_text(encoding="utf-8"))

    @property
    def project(self) -> dict[str, Any]:
        """The [project] table."""
        return self.document["project"]

    @property
    def modules_of_extras(self) -> list[str]:
        """Modules that cannot be imported without an extra: [tool.workspace] modules-of-extras."""
        return self.document.get("tool", {}).get("workspace", {}).get("modules-of-extras", [])

    @property
    def name(self) -> str:
        """The distribution's name."""
        return self.project["name"]

    @property
    def module(self) -> str:
        """The import name: the distribution's, with `-` as `_`."""
        return self.name.replace("-", "_")

    @property
    def scripts(self) -> dict[str, str]:
        """Command -> "module:function"."""
        return self.project.get("scripts", {})

    @property
    def extras(self) -> list[str]:
        """Names of the optional parts."""
        return sorted(self.project.get("optional-dependencies", {}))


def members() -> list[Member]:
    """Return every package, the core first and the others by folder."""
    folders = [path.parent for path in (REPO / "packages").glob("*/pyproject.toml")]
    return [Member(folder) for folder in sorted(folders, key=lambda path: (path.name != "core", path.name))]
