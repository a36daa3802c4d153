"""What JAX trainers share: pytrees saved and restored, and devices laid out.

    payload/
      tree.json    path, shape and dtype of every leaf, and the JAX settings that the numbers depend on
      leaves.npz   the leaves in the order of `tree.json`, named 0, 1, 2 ...

`tree.json` is compared before anything is read, so that a message says which leaf differs and how.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from paperloop.errors import CheckpointError, UserError, setting
from paperloop.files import write_json
from paperloop.loop.checkpoint import compare_leaves

__all__ = ["device_mesh", "load_pytree", "save_pytree"]


def save_pytree(tree: Any, folder: Path) -> None:
    """Write a pytree of arrays (typed PRNG keys included) into the existing `folder`.

    Arrays that are spread over the devices of this process are gathered.
    """
    import jax

    write_json(folder / "tree.json", {"jax": jax.__version__, "settings": _settings(), "leaves": _describe(tree)})
    leaves = jax.device_get([_key_data(leaf) for leaf in jax.tree.leaves(tree)])
    # NumPy writes its own dtypes only; bfloat16 and its kin go as the bytes that they are.
    plain = [leaf if leaf.dtype.isbuiltin == 1 else leaf.view(f"u{leaf.dtype.itemsize}") for leaf in leaves]
    np.savez(folder / "leaves.npz", **{str(index): leaf for index, leaf in enumerate(plain)})


def load_pytree(folder: Path, like: Any) -> Any:
    """Read back what `save_pytree` wrote, with the structure, shapes, dtypes and shardings of `like`.

    Raises:
        CheckpointError: a file cannot be read; a leaf is missing, unknown, or has another shape or dtype; or a JAX
            setting that changes the numbers differs. The message names it.
    """
    import jax

    try:
        saved = json.loads((folder / "tree.json").read_text())
        settings, described = dict(saved["settings"]), dict(saved["leaves"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{folder / 'tree.json'} cannot be read ({error}).") from None
    for name, here in _settings().items():
        if settings.get(name) != here:
            raise CheckpointError(
                f"The checkpoint in {folder} was made with jax_{name}={settings.get(name)} and this process has "
                f"{here}, which changes dtypes or random numbers: set jax_{name} to {settings.get(name)}."
            )
    compare_leaves(described, _describe(like), folder)
    leaves, structure = jax.tree.flatten(like)
    try:
        with np.load(folder / "leaves.npz") as file:
            loaded = {name: file[str(index)] for index, name in enumerate(described)}
    except Exception as error:  # zipfile and NumPy have many ways to say that a file is damaged
        raise CheckpointError(f"{folder / 'leaves.npz'} cannot be read ({type(error).__name__}: {error}).") from None
    ordered = [loaded[name] for name in _describe(like)]
    return jax.tree.unflatten(structure, [_place(value, leaf) for value, leaf in zip(ordered, leaves, strict=True)])


def device_mesh(devices: int, axis: str, **counts: int) -> Any:
    """Return a mesh of one axis over the first devices, or None for one device, which needs none.

    Args:
        devices: how many.
        axis: the name of the mesh's axis, such as "seed" or "env".
        counts: name of a setting -> its value; each is split over the devices.

    Raises:
        UserError: JAX sees fewer devices, or a count cannot be split into equal parts.
    """
    import jax

    available = jax.devices()
    if devices > len(available):
        raise UserError(
            f"{setting('devices')} is {devices}, but JAX sees {len(available)} {available[0].platform} device(s): "
            "lower it, or on a CPU start with XLA_FLAGS=--xla_force_host_platform_device_count=N."
        )
    for name, count in counts.items():
        if count % devices:
            raise UserError(
                f"{setting(name)} is {count}, which {setting('devices')} = {devices} does not divide: change one of "
                "them."
            )
    if devices == 1:
        return None
    return jax.make_mesh((devices,), (axis,), axis_types=(jax.sharding.AxisType.Auto,), devices=available[:devices])


def _key_data(leaf: Any) -> Any:
    import jax

    return jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def _place(value: np.ndarray, like: Any) -> Any:
    """Return `value` as an array of the dtype of `like`, where `like` is.

    An array that jit may move between devices stays one: jit compiles anew for arguments that are pinned to a device,
    so that each function called on a restored state would be compiled twice.
    """
    import jax

    key = jax.dtypes.issubdtype(like.dtype, jax.dtypes.prng_key)
    if not key and value.dtype != like.dtype:
        value = value.view(like.dtype)
    array = jax.numpy.asarray(value)
    if key:
        array = jax.random.wrap_key_data(array, impl=jax.random.key_impl(like))
    return jax.device_put(array, like.sharding) if getattr(like, "committed", True) else array


def _settings() -> dict[str, bool]:
    """The switches of JAX that change dtypes or random streams."""
    import jax

    return {name: bool(getattr(jax.config, f"jax_{name}")) for name in ("enable_x64", "threefry_partitionable")}


def _describe(tree: Any) -> dict[str, list[Any]]:
    """Path -> [shape, dtype] for every leaf."""
    import jax

    leaves = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path)
        if not isinstance(leaf, jax.Array):
            raise UserError(
                f"State leaf {name} is a {type(leaf).__name__}, and only JAX arrays are saved: wrap it in jnp.asarray."
            )
        leaves[name] = [list(leaf.shape), str(leaf.dtype)]
    return leaves
