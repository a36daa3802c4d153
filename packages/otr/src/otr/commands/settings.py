"""What `otr label` takes. Imports no jax."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from otr.config import EndRule, LabellerConfig, OTRConfig
from otr.presets import PRESETS
from paperloop.cli import Device, Positional
from paperloop.settings import Count, settings

__all__ = ["PRESET_SETTINGS", "SCHEMA", "LabelOptions", "LabelSettings"]

#: Of saved settings.
SCHEMA = 3


@settings
class LabelSettings:
    """The settings of `otr label`.

    Attributes:
        labeller: how rewards are made
    """

    labeller: LabellerConfig = OTRConfig()


PRESET_SETTINGS = {name: LabelSettings(labeller=config) for name, config in PRESETS.items()}


@settings
class LabelOptions:
    """What `label` takes next to the settings of the labeller.

    Attributes:
        data: a D4RL HDF5 file, a Minari folder or the id of a local Minari dataset, or an npz file
        demos: the demonstrations: a file of the same formats, or top:K for the K best episodes of DATA
        out: the file to make; its suffix gives the format: .hdf5 (D4RL), .npz, or none for a Minari folder
        device: where to compute
        overwrite: replace OUT
        cache: keep finished chunks in this folder, for other runs (None: next to OUT, until OUT is written)
        chunk_steps: steps labelled at once, which a kill can cost
        demo_score: what top:K ranks by; antmaze: the return over the distance of the start from the origin
        drop_time_outs: compare without the steps that time out, as the authors' loader does: 999 of 1000 steps
        episode_ends: what ends an episode, in flat files; for AntMaze give goal or timeouts
        max_episode_steps: the time limit, for flat files that say nothing of time-outs
        observation_keys: parts of the observations to join, for Minari data made of parts
        action_keys: likewise for actions
        drop_nonfinite: leave out episodes that hold NaN or infinity
        quiet: no progress bar, no table, no findings
    """

    data: Positional[Path]
    demos: str
    out: Path
    device: Device = "auto"
    overwrite: bool = False
    cache: Path | None = None
    chunk_steps: Count = 50_000
    demo_score: Literal["return", "antmaze"] = "return"
    drop_time_outs: bool = False
    episode_ends: EndRule | None = None
    max_episode_steps: Count | None = None
    observation_keys: tuple[str, ...] = ()
    action_keys: tuple[str, ...] = ()
    drop_nonfinite: bool = False
    quiet: bool = False

    def reading(self, *, demos: bool = False) -> dict[str, Any]:
        """Return the readers' options that were given, for the data or for a file of demonstrations."""
        names = ("max_episode_steps", "observation_keys", "action_keys", "drop_nonfinite")
        names = names if demos else (*names, "episode_ends")
        return {name: getattr(self, name) for name in names if getattr(self, name)}
