"""Saving and restoring JAX pytrees, through orbax. The only module that knows orbax.

    payload/
      tree.json    path, shape and dtype of every leaf, and the JAX settings that the numbers depend on
      arrays/      what orbax wrote

orbax loads a tree of another shape with an error that names no leaf, and casts another dtype silently; `tree.json` is
compared first, so that the message says which leaf differs and how.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from paperloop.errors import CheckpointError, UserError
from paperloop.files import write_json

__all__ = ["load_pytree", "save_pytree"]


def save_pytree(tree: Any, folder: Path) -> None:
    """Write a pytree of arrays (typed PRNG keys included) into the existing `folder`.

    Raises:
        UserError: orbax is not installed, or a leaf is no array.
    """
    import jax

    ocp = _orbax()
    leaves = _describe(tree)
    write_json(folder / "tree.json", {"jax": jax.__version__, "settings": _settings(), "leaves": leaves})
    if leaves:  # orbax refuses an empty tree
        ocp.save((folder / "arrays").absolute(), tree)


def load_pytree(folder: Path, like: Any) -> Any:
    """Read back what `save_pytree` wrote, in the structure and with the sharding of `like`.

    Args:
        folder: the folder given to `save_pytree`.
        like: a pytree with the same leaves: their shapes, dtypes and shardings are used, not their values.

    Raises:
        CheckpointError: a leaf is missing, unknown, or has another shape or dtype, or a JAX setting that changes the
            numbers differs; the message names it.
    """
    import jax

    ocp = _orbax()
    try:
        saved = json.loads((folder / "tree.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{folder / 'tree.json'} cannot be read ({error}).") from None
    for name, here in _settings().items():
        there = saved["settings"][name]
        if there != here:
            raise CheckpointError(
                f"The checkpoint in {folder} was made with jax_{name}={there} and this process has {here}, which "
                f"changes dtypes or random numbers: set jax_{name} to {there}."
            )
    _compare(saved["leaves"], _describe(like), folder)
    if not saved["leaves"]:
        return like
    # Without a template orbax turns named tuples into lists; with it, structure and sharding come back as given.
    template = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
    return jax.tree.map(_settle, ocp.load((folder / "arrays").absolute(), template), like)


def _orbax() -> Any:
    try:
        from orbax.checkpoint import v1
    except ImportError as error:
        raise UserError(f"Saving JAX states needs orbax ({error}): pip install 'paperloop[jax]'.") from None
    return v1


def _settle(loaded: Any, like: Any) -> Any:
    """Return `loaded` as free to move between devices as `like` is.

    orbax pins every array to its device. jit compiles anew for pinned arguments, so that each function called on a
    restored state would be compiled twice.
    """
    import jax
    import numpy as np

    if getattr(like, "committed", True):
        return loaded
    if jax.dtypes.issubdtype(loaded.dtype, jax.dtypes.prng_key):
        data = jax.numpy.asarray(np.asarray(jax.random.key_data(loaded)))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(loaded))
    return jax.numpy.asarray(np.asarray(loaded))


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


def _compare(saved: dict[str, list[Any]], here: dict[str, list[Any]], folder: Path) -> None:
    where = f"The checkpoint in {folder} does not fit this configuration"
    advice = "use the config.json that it was made with"
    for name, (shape, dtype) in here.items():
        if name not in saved:
            raise CheckpointError(f"{where}: it has no leaf {name}; {advice}.")
        if saved[name][0] != shape:
            raise CheckpointError(f"{where}: leaf {name} has shape {saved[name][0]}, not {shape}; {advice}.")
        if saved[name][1] != dtype:
            raise CheckpointError(f"{where}: leaf {name} has dtype {saved[name][1]}, not {dtype}; {advice}.")
    for name in saved:
        if name not in here:
            raise CheckpointError(f"{where}: it has a leaf {name} that is unknown here; {advice}.")
