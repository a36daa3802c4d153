"""A trained model in one file, and how it is read back."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hgap.config import TrainConfig
from hgap.data.windows import Scale
from hgap.files import read_arrays
from hgap.model.autoencoder import Autoencoder, Weights
from hgap.model.layers import draw_parameters
from hgap.model.prior import Prior
from hgap.trainer import AutoencoderTrainer, PriorTrainer, TrainState, fingerprint
from paperloop.errors import CheckpointError, UserError
from paperloop.files import write_atomically
from paperloop.settings import from_dict, to_dict

__all__ = ["Model", "assemble", "load"]

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained model of one seed: everything that planning needs.

    Attributes:
        config: how it was trained.
        slices: name -> (start, stop) within a state.
        autoencoder: the functions; `weights` are its parameters.
        prior: the module; `params` are its parameters.
        weights: of the autoencoder.
        params: of the prior.
        state_scale: of states.
        action_scale: of actions.
        control_step: seconds between actions; 0 where the data do not say.
        env_id: the body that the data are of, or None.
    """

    config: TrainConfig
    slices: dict[str, tuple[int, int]]
    autoencoder: Autoencoder
    prior: Prior
    weights: Weights
    params: Any
    state_scale: Scale
    action_scale: Scale
    control_step: float = 0.0
    env_id: str | None = None

    def _arrays(self) -> dict[str, np.ndarray]:
        tree = (self.weights, self.params, self.state_scale, self.action_scale)
        return {jax.tree_util.keystr(at): np.asarray(x) for at, x in jax.tree_util.tree_leaves_with_path(tree)}

    def export(self, path: Path | str) -> Path:
        """Write the model to one .npz file.

        Raises:
            UserError: the file cannot be written.
        """
        model, path = self.autoencoder, Path(path)
        about = {
            "format": FORMAT,
            "config": to_dict(self.config),
            "slices": self.slices,
            "sizes": [model.state_size, model.action_size],
            "control_step": self.control_step,
            "env_id": self.env_id,
            "codes_of": _digest(self.weights),
        }
        buffer = io.BytesIO()
        arrays: Any = self._arrays()
        np.savez(buffer, about=np.array(json.dumps(about)), **arrays)
        try:
            write_atomically(path, buffer.getvalue())
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror}): choose another place.") from None
        return path


def _digest(weights: Weights) -> str:
    return np.asarray(fingerprint(weights)).tobytes().hex()


def _empty(config: TrainConfig, state_size: int, action_size: int) -> tuple[Autoencoder, Prior]:
    model = Autoencoder(config.autoencoder, config.windows.steps, state_size, action_size)
    return model, Prior(config.prior.size, model.quantizer.vocabulary, model.tokens)


def assemble(
    autoencoder: AutoencoderTrainer, first: TrainState, prior: PriorTrainer, second: TrainState, *,
    slices: dict[str, tuple[int, int]], seed: int = 0, control_step: float = 0.0, env_id: str | None = None,
) -> Model:  # fmt: skip
    """Return the model of one seed of two trained states.

    Args:
        autoencoder: the trainer of `first`.
        first: a state of it.
        prior: the trainer of `second`.
        second: a state of it.
        slices: name -> (start, stop) within a state.
        seed: which of the seeds.
        control_step: seconds between actions.
        env_id: the body.

    Raises:
        CheckpointError: the prior learned the codes of another autoencoder.
        UserError: there is no such seed.
    """
    data, weights = autoencoder.data, first.learned.weights
    if not np.array_equal(second.bound, fingerprint((data.state_scale, data.action_scale, weights))):
        raise CheckpointError(
            "The prior learned the codes of another autoencoder, and its codes mean something else here: train a "
            "prior for this autoencoder."
        )
    if not 0 <= seed < len(first.updates):
        raise UserError(f"The model has the seeds 0 to {len(first.updates) - 1}, and not {seed}.")
    one = jax.tree.map(lambda x: x[seed], (weights, second.learned.weights))
    return Model(
        autoencoder.config.model, slices, autoencoder.model, prior.prior, *one, data.state_scale, data.action_scale,
        control_step, env_id,
    )  # fmt: skip


def load(path: Path | str, *, seed: int = 0) -> Model:
    """Return the model of a folder that `hgap train` wrote, or of an exported file.

    Args:
        path: the folder or the file.
        seed: which of the folder's models.

    Raises:
        UserError: it is neither, or training has not finished.
        CheckpointError: the file is damaged, or its prior belongs to another autoencoder.
    """
    path = Path(path)
    if path.is_dir():
        path = path / f"model-{seed}.npz"
        if not path.exists():
            raise UserError(
                f"There is no {path.name} in {path.parent}: `hgap train` writes one for each seed when it has finished."
            )
    about, arrays = _read(path)
    config = from_dict(TrainConfig, about["config"], where=str(path))
    model, prior = _empty(config, *about["sizes"])
    like = jax.eval_shape(lambda: _shapes(model, prior))
    places = [(jax.tree_util.keystr(at), leaf) for at, leaf in jax.tree_util.tree_leaves_with_path(like)]
    for name, leaf in places:
        if name not in arrays or arrays[name].shape != leaf.shape:
            found = list(arrays[name].shape) if name in arrays else "missing"
            raise CheckpointError(f"{path}: the array {name} should have shape {list(leaf.shape)} and is {found}.")
        if not np.isfinite(arrays[name]).all():
            raise CheckpointError(f"{path}: the array {name} has numbers that are not finite: train it anew.")
    leaves: list[Array] = [jnp.asarray(arrays[name], leaf.dtype) for name, leaf in places]
    weights, params, state_scale, action_scale = jax.tree.unflatten(jax.tree.structure(like), leaves)
    if _digest(weights) != about["codes_of"]:
        raise CheckpointError(
            f"{path}: the prior belongs to another autoencoder, whose codes mean something else: export both together."
        )
    slices = {name: (int(a), int(b)) for name, (a, b) in about["slices"].items()}
    return Model(
        config, slices, model, prior, weights, params, state_scale, action_scale, about["control_step"],
        about["env_id"],
    )  # fmt: skip


def _shapes(model: Autoencoder, prior: Prior) -> tuple[Weights, Any, Scale, Scale]:
    key = jax.random.key(0)
    codes, first = jnp.zeros((1, model.tokens), jnp.int32), jnp.zeros((1, model.state_size))

    def scale(size: int) -> Scale:
        return Scale(jnp.zeros(size), jnp.ones(size), jnp.ones(size, bool), jnp.ones(()))

    params = draw_parameters(prior, key, codes, first)
    return model.init((key, key, key)), params, scale(model.state_size), scale(model.action_size)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    arrays = read_arrays(path, "an exported model", CheckpointError)
    try:
        about = json.loads(str(arrays.pop("about")))
    except (ValueError, KeyError):
        raise CheckpointError(f"{path} is not an exported model.") from None
    found = about.get("format") if isinstance(about, dict) else None
    if found != FORMAT:
        raise CheckpointError(f"{path} has format {found}, and this version reads format {FORMAT}.")
    missing = [
        name for name in ("config", "slices", "sizes", "control_step", "env_id", "codes_of") if name not in about
    ]
    if missing or not (isinstance(about["sizes"], list) and len(about["sizes"]) == 2):
        raise CheckpointError(f"{path} is damaged: it does not say its {missing[0] if missing else 'sizes'}.")
    return about, arrays
