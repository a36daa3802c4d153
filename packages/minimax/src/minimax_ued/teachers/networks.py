"""Teacher networks: what builds levels step by step, seeing the whole map.

A teacher has the methods of a student (`minimax_ued.nets.students`) over another observation: the map so far, the step,
and a vector of noise (Dennis et al. 2020, arXiv 2012.02096). Its actions name cells.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax import Array

from minimax_ued.config import TeacherConfig
from minimax_ued.nets.edited_maps import edited_map_product
from minimax_ued.nets.encoders import MapEncoder
from minimax_ued.nets.heads import Head
from minimax_ued.nets.products import product
from minimax_ued.nets.recurrent.cores import make_core
from minimax_ued.nets.students import ActorCritic, Student, StudentOutput
from paperloop.errors import UserError

__all__ = ["EditedMapTeacher", "make_teacher"]


class EditedMapTeacher(ActorCritic):
    """An LSTM teacher whose sequences are maps of which each differs from the one before in one cell at most.

    Where the CPU computes, a sequence takes its largest product from the changes alone
    (`minimax_ued.nets.edited_maps`). The result is the same up to rounding, and NaN for maps that differ in more.
    """

    def __call__(self, carry: Any, observations: Any, resets: Array) -> tuple[Any, StudentOutput]:
        """Take a sequence of steps, `[T, B, ...]`."""

        def dense() -> Array:
            return product(self.encoder(observations), weights.input_kernel)

        def from_changes() -> Array:
            cells = weights.input_kernel.shape[0] - extras.shape[-1]
            of_map = edited_map_product(
                observations.image, self.encoder.kernel, self.encoder.bias, weights.input_kernel[:cells]
            )
            return of_map + product(extras, weights.input_kernel[cells:])

        weights, extras = self.core.weights, self.encoder.extras(observations)
        projected = jax.lax.platform_dependent(cpu=from_changes, default=dense) + weights.bias
        carry, hiddens = self.core.from_projected(carry, projected, resets)
        return carry, self._judge(hiddens)


def make_teacher(
    config: TeacherConfig, *, num_actions: int, num_steps: int, observation: Any, one_cell: bool = False
) -> Student:
    """Return the teacher of Jiang et al. 2023 (minimax) that `config` describes.

    On 13x13 mazes with 60 walls it has 22,502,038 parameters with the default configuration, and 1,819,670 with
    `core=S5Config()` and 32 filters. Nearly all arithmetic of the default is one product, of the encoded map (169 cells
    of 128 filters) and the core's input kernel; a sequence takes it once for all steps.

    Args:
        config: architecture and sizes.
        num_actions: A.
        num_steps: steps of an episode; `observation.time` counts from 0 to `num_steps` - 1, and the time of a finished
            level, `num_steps`, is taken as the last.
        observation: an example, or its `jax.ShapeDtypeStruct`s, without leading axes: `image [H+2, W+2, C]`,
            `time []` and `noise [n]`, where n may be 0.
        one_cell: of the maps in a sequence, each differs from the one before in one cell at most, and a sequence is a
            single episode.

    Raises:
        UserError: for observations of another form.
    """
    shapes = {name: np.shape(getattr(observation, name, 0)) for name in ("image", "time", "noise")}
    image, noise = shapes["image"], shapes["noise"]
    if len(image) != 3 or min(image[:2]) < 3 or shapes["time"] != () or len(noise) != 1:
        raise UserError(
            f"make_teacher got an observation with shapes {shapes}, but takes an image [H+2, W+2, C], a time [] and a "
            "noise [n]: those of a LevelEditor."
        )
    cells = (image[0] - 2) * (image[1] - 2)
    inputs = cells * config.conv_filters + config.time_embedding + noise[0]
    module = EditedMapTeacher if one_cell and config.core.type == "lstm" else ActorCritic
    return module(
        encoder=MapEncoder(config.conv_filters, image[-1], num_steps, config.time_embedding),
        core=make_core(config.core, inputs),
        policy=Head(config.head_width, num_actions, 0.01),
        critic=Head(config.head_width, 1),
    )
