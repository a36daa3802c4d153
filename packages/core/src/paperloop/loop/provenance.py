"""Where a result comes from: command, versions, devices and commit. Never the environment, which can hold secrets."""

from __future__ import annotations

import contextlib
import datetime
import functools
import importlib.metadata
import os
import platform
import socket
import subprocess
import sys
from typing import Any

__all__ = ["provenance", "utc_now"]

#: Distributions whose version can change a result; the versions of the absent ones are left out.
WATCHED = ("paperloop", "numpy", "scipy", "jax", "jaxlib", "flax", "optax", "torch", "safetensors")


def utc_now() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def provenance(*distributions: str) -> dict[str, Any]:
    """Return a JSON-ready record of the running process, with the versions of further distributions."""
    return {
        "argv": sys.argv,
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "versions": _versions(*WATCHED, *distributions),
        "devices": _devices(),
        "git": _git(),
    }


def _versions(*names: str) -> dict[str, str]:
    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _devices() -> list[str]:
    """The devices of the array libraries that this process has already imported."""
    devices = []
    if "jax" in sys.modules:
        import jax

        devices += [f"jax {d.platform} {d.device_kind}" for d in jax.devices()]
    if "torch" in sys.modules:
        import torch

        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        devices += [f"torch cuda {name}" for name in names] or ["torch cpu"]
    return devices


def _git() -> dict[str, Any] | None:
    """The commit of the folder that the command was given in, and whether it was changed since; None outside git."""
    ask = functools.partial(subprocess.run, capture_output=True, text=True, timeout=10)
    try:
        commit, status = ask(["git", "rev-parse", "HEAD"]), ask(["git", "status", "--porcelain"])
    except (OSError, subprocess.TimeoutExpired):
        return None
    if commit.returncode:
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}
