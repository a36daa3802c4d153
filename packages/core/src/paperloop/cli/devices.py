"""Where a command computes: JAX's or torch's device, chosen before first use."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
from pathlib import Path
from typing import Any, Literal

from paperloop.errors import UserError, running_command, setting

__all__ = ["Device", "select_device", "start_jax"]

Device = Literal["auto", "cpu", "gpu"]


def select_device(device: Device, backend: Literal["jax", "torch"]) -> str:
    """Make `device` the one that computes, before the first use of the back end; "auto" is the GPU where there is one.

    For JAX the choice holds for the process, and "cpu", "gpu" or "tpu" is returned; for torch nothing is set, and the
    device to pass on is returned: "cpu", "cuda" or "mps".

    Raises:
        UserError: the back end is not installed, there is no GPU, or JAX already computes elsewhere.
    """
    # By name, so that a package of one back end does not come to depend on the other through this module.
    module: Any = _import(backend)
    if backend == "torch":
        return _torch_device(device, module)
    if device == "cpu":
        module.config.update("jax_platforms", "cpu")  # the GPU is not even opened, so its memory stays free
    try:
        found = module.default_backend()
    except (RuntimeError, AssertionError) as error:  # JAX_PLATFORMS names something that is not there
        platforms = os.environ.get("JAX_PLATFORMS", "")
        reason = (str(error).splitlines() or [f"the platform {platforms} of JAX_PLATFORMS has no plugin installed"])[0]
        raise UserError(f"JAX finds no device: {reason}") from None
    if device == "gpu" and found != "gpu":
        raise UserError(
            f"{setting('device', 'gpu')}: JAX finds no GPU and would use the {found}: pip install '{_with_cuda()}', "
            f"and check nvidia-smi and JAX_PLATFORMS, or choose {setting('device', 'cpu')}."
        )
    if device == "cpu" and found != "cpu":
        raise UserError(
            f"{setting('device', 'cpu')}: JAX already computes on the {found} in this process; choose before first use."
        )
    return found


def start_jax(device: Device, devices: int = 1) -> str:
    """Make `device` the one that JAX computes on, and keep compiled programs for the next command.

    They go into the user's cache folder, unless JAX is told another one, so that the same command starts in seconds.
    With `devices` above 1, a CPU is made so many virtual devices. Returns and raises as `select_device` does.
    """
    config: Any = _import("jax").config  # defines its attributes at run time
    if config.jax_compilation_cache_dir is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        config.update("jax_compilation_cache_dir", str(cache / "paperloop" / "jax"))
        config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    if devices > 1:
        config.update("jax_num_cpu_devices", devices)
    return select_device(device, "jax")


def _import(backend: str) -> Any:
    try:
        return importlib.import_module(backend)
    except ImportError as error:
        raise UserError(f"{backend} cannot be imported ({error}): pip install 'paperloop[{backend}]'.") from None


def _with_cuda() -> str:
    """What to install for JAX on a GPU: the extra `cuda` of the package whose command runs, where it has one."""
    words = running_command.get()
    name = words.distribution if words is not None else ""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        if name and "cuda" in (importlib.metadata.metadata(name).get_all("Provides-Extra") or []):
            return f"{name}[cuda]"
    return "jax[cuda13]"


def _torch_device(device: Device, torch: Any) -> str:
    if device == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if device == "auto":
        return "cpu"
    if torch.backends.mps.is_available():
        return "mps"
    raise UserError(
        f"{setting('device', 'gpu')}: torch finds no GPU: install a CUDA build of torch and check nvidia-smi, or "
        f"choose {setting('device', 'cpu')}."
    )
