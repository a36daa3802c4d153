"""From a dataset to models: the autoencoder is trained, then the prior on its codes, then each seed is exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hgap.config import Data
from hgap.envs.bodies import BODIES
from hgap.loading import Model, assemble
from hgap.trainer import AutoencoderTrainer, HeldOut, PriorTrainer, dataset
from paperloop import UserError, run
from paperloop.errors import note

__all__ = ["fit"]

#: Of the codes' perplexity; 1 is one code for everything.
COLLAPSED = 1.5


def fit(config: Data, out: Path | str, *, seed: int = 0, **run_arguments: Any) -> list[Model]:
    """Train, or continue what is in `out`, and return a model for each seed.

        models = fit(Data(path="motion.npz", model=PRESETS["tiny"]), "runs/cheetah")

    Args:
        config: data and model.
        out: gets autoencoder/ and prior/, which are run folders, and model-0.npz, model-1.npz ...
        seed: everything random follows from it.
        run_arguments: of `paperloop.run`.

    Raises:
        UserError: the data do not fit, or `out` holds another run.
    """
    out = Path(out)
    arguments: dict[str, Any] = {"log_every": 1, **run_arguments}
    first = AutoencoderTrainer(config)
    attributes = dataset(config.path).attributes
    env_id = config.model.env_id or attributes.get("env_id")
    slices = dict(BODIES[env_id].slices) if env_id in BODIES else {}
    width = max((stop for _, stop in slices.values()), default=first.model.state_size)
    if width != first.model.state_size:
        raise UserError(
            f"{config.path}: states have {first.model.state_size} numbers, and those of {env_id} {width}: give another "
            "env_id, or none."
        )
    held_out = HeldOut(first)
    encoded = run(
        first, out / "autoencoder", steps=first.steps, seed=seed, evaluators={"held_out": held_out}, **arguments
    )
    used = float(np.min(held_out(encoded, seed)["perplexity"]))
    if used < COLLAPSED:
        note([
            f"{out}: the codes have collapsed, their perplexity on held-out windows is {used:.2f}, and plans hardly "
            "differ: train longer, with a lower autoencoder.optimiser.lr, or with a quantizer of type fsq."
        ])  # fmt: skip
    second = PriorTrainer(config, encoded.learned.weights, first.data)
    known = run(
        second, out / "prior", steps=second.steps, seed=seed, evaluators={"held_out": HeldOut(second)},
        parent=out / "autoencoder", **arguments,
    )  # fmt: skip
    models = []
    for index in range(config.model.seeds):
        model = assemble(
            first, encoded, second, known, slices=slices, seed=index, env_id=env_id,
            control_step=float(attributes.get("control_step", 0.0)),
        )  # fmt: skip
        model.export(out / f"model-{index}.npz")
        models.append(model)
    return models
