"""What `otr label` takes: its options, and the presets of a domain with a line of help each. Imports no jax."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from otr.config import Backend, EndRule, LabellerConfig, OTRConfig
from otr.presets import DOMAINS, PRESETS, Domain
from paperloop.cli import Device, Positional
from paperloop.errors import UserError, setting
from paperloop.settings import Count, CountOrZero, settings

__all__ = ["PRESET_HELP", "LabelOptions", "LabelSettings", "settings_class", "settings_presets", "with_solver"]

PRESET_HELP: Mapping[str, str] = {
    "otr": "optimal transport as published, of states (Luo et al. 2023)",
    "otr-state-action": "the same on states with actions",
    "otr-converged": "the same, iterated until the plan has its marginals",
    "otr-exact": "without entropy: assignment, or POT's network simplex",
    "temporal-ot": "within a band of time, contextual costs (Fu et al. 2024)",
    "seabo": "nearest demonstration step, of (s, a, s') (Lyu et al. 2024)",
    "seabo-state": "the same of (s, s')",
    "minimum-distance": "OTR's cost to the nearest step (Dong et al. 2025)",
    "segment-matching": "the same, in the same part of the demonstration (same paper)",
    "pwil": "a greedy coupling in the order of time (Dadashi et al. 2021)",
    "pwil-state": "the same on states",
    "oril": "a discriminator, trained first: slower (Zolna et al. 2020)",
    "uds": "the demonstrations' true rewards, else zero (Yu et al. 2022)",
    "constant": "the control: 1 for every step",
    "oracle": "the ceiling: the true rewards, scaled as the labels are",
}


class LabelSettings(Protocol):
    """The settings of `otr label`, see `settings_class`."""

    @property
    def labeller(self) -> LabellerConfig:
        """How rewards are made."""
        ...


def settings_class(domain: str) -> type:
    """Return the settings of `otr label`, with the domain's OTR as default."""

    @settings
    class LabelSettings:
        """The settings of `otr label`.

        Attributes:
            labeller: how rewards are made
        """

        labeller: LabellerConfig = _of(PRESETS["otr"], domain)

    return LabelSettings


def settings_presets(domain: str, kind: type) -> dict[str, LabelSettings]:
    """Return name -> settings of the presets of a domain, of the class that the command line is made of."""
    return {name: kind(labeller=_of(configs, domain)) for name, configs in PRESETS.items()}


def _of(configs: Mapping[str, LabellerConfig], domain: str) -> LabellerConfig:
    return configs[domain if domain in DOMAINS else DOMAINS[0]]  # a wrong name is refused where options are read


def with_solver(config: LabellerConfig, backend: str | None, threads: int | None) -> LabellerConfig:
    """Return the configuration with another solver or number of threads; None changes nothing.

    Raises:
        UserError: the labeller has no such choice, or the value is not allowed.
    """
    changes: dict[str, Any] = {}
    if isinstance(config, OTRConfig):
        if backend is not None:
            changes["backend"] = backend
        if threads is not None:
            changes["threads"] = threads
        return dataclasses.replace(config, solver=dataclasses.replace(config.solver, **changes)) if changes else config
    if backend is not None:
        raise UserError(
            f"{setting('backend')} chooses the transport solver, and {config.type} solves no transport: leave it out."
        )
    if threads is None:
        return config
    if "workers" not in {field.name for field in dataclasses.fields(config)}:
        raise UserError(f"{setting('threads')} has no effect on {config.type}: leave it out.")
    return dataclasses.replace(config, workers=threads)


@settings
class LabelOptions:
    """What `label` takes next to the settings of the labeller.

    Attributes:
        data: a D4RL HDF5 file, a Minari folder or the id of a local Minari dataset, or an npz file
        demos: the demonstrations: a file of the same formats, or top:K for the K best episodes of DATA
        out: the file to make; its suffix gives the format: .hdf5 (D4RL), .npz, or none for that of DATA
        domain: whose published settings a preset stands for
        backend: the solver (None: numba, or jax on a GPU); short for --labeller.solver.backend
        threads: threads of the solver or search tree (None or 0: as many as the process may use)
        device: where to compute
        format: the format of OUT, overriding its suffix
        overwrite: replace OUT
        compress: gzip the arrays of HDF5 and Minari
        cache: keep finished chunks in this folder, for other runs (None: next to OUT, until OUT is written)
        chunk_steps: steps labelled at once, which a kill can cost
        demo_score: what top:K ranks by (None: the domain's)
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
    domain: Domain = "locomotion"
    backend: Backend | None = None
    threads: CountOrZero | None = None
    device: Device = "auto"
    format: Literal["d4rl", "minari", "npz"] | None = None
    overwrite: bool = False
    compress: bool = False
    cache: Path | None = None
    chunk_steps: Count = 50_000
    demo_score: Literal["return", "antmaze"] | None = None
    drop_time_outs: bool = False
    episode_ends: EndRule | None = None
    max_episode_steps: Count | None = None
    observation_keys: tuple[str, ...] = ()
    action_keys: tuple[str, ...] = ()
    drop_nonfinite: bool = False
    quiet: bool = False

    @property
    def reading(self) -> dict[str, Any]:
        """Return the readers' options that were given."""
        names = ("episode_ends", "max_episode_steps", "observation_keys", "action_keys", "drop_nonfinite")
        return {name: getattr(self, name) or None for name in names}
