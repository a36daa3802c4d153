"""What `otr label` does: read, label in chunks, write, say what came out."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from otr.commands.settings import LabelOptions
from otr.config import ORILConfig
from otr.diagnosis.diagnose import Diagnosis, diagnose
from otr.episodes.demonstrations import demonstrations_by, load_demonstrations
from otr.episodes.files import noted_findings, noted_warnings, read_dataset
from otr.labels.facts import read_facts
from otr.labels.keys import label_key
from otr.labels.labelling import label, with_facts
from otr.labels.output import check_output, finished, hold, rehearse, save_dataset, sweep
from otr.labels.time_outs import without_time_outs
from otr.optimal_transport.sinkhorn import auto_backend
from otr.settings.transport import OttConfig, SinkhornConfig
from paperloop.cli import Device, start_jax
from paperloop.errors import UserError, note, printable, setting
from paperloop.signals import screened_interrupts
from paperloop_data import EpisodeDataset, dataset_path, is_minari

__all__ = ["choose_device", "label_file"]


def choose_device(config: Any, device: Device) -> Any:
    """Bring solver and device together; jax is imported only where it will compute.

    Args:
        config: a labeller's configuration.
        device: where to compute.

    Returns:
        The configuration, its solver chosen where the device decides it.

    Raises:
        UserError: the device is not there, or the labeller does not run on it.
    """
    solver = getattr(config, "solver", None)
    on_jax = isinstance(solver, OttConfig) or isinstance(config, ORILConfig)
    if isinstance(solver, SinkhornConfig):
        backend = solver.backend
        if backend == "auto" and device == "auto":
            backend = auto_backend()
        elif backend == "auto":
            backend = "numba" if device == "cpu" and importlib.util.find_spec("numba") is not None else "jax"
            config = dataclasses.replace(config, solver=dataclasses.replace(solver, backend=backend))
        on_jax = backend == "jax"
    if on_jax:
        start_jax(device)
    elif device == "gpu":
        raise UserError(f"{setting('device', 'gpu')}: this labeller computes on the CPU; leave it out, or choose jax.")
    return config


def label_file(options: LabelOptions, config: Any) -> EpisodeDataset:
    """Label a file and write the result; killed and called again, it resumes and the result has the same bytes.

    Args:
        options: what is labelled, by what, and where it goes. Where the output is there already, whole and made of the
            same data with the same settings, nothing is computed.
        config: a labeller's configuration, its solver chosen.

    Returns:
        The labelled dataset.

    Raises:
        UserError: whatever is wrong with what was given, before anything is written where that can be known; or
            another process is labelling for the output.
    """
    out, say = options.out, not options.quiet
    clock = [time.perf_counter()]
    with noted_warnings():
        data, demos = _read(options)
    clock.append(time.perf_counter())
    facts = {
        "demonstrations_by": demonstrations_by(options.demos, options.demo_score),
        "drop_time_outs": options.drop_time_outs,
    }
    how = {"chunk_steps": options.chunk_steps, "drop_time_outs": options.drop_time_outs}
    with hold(out) as folder:
        if os.path.lexists(out) and not options.overwrite:
            found = finished(out, label_key(data, demos, config, **how), data, facts)
            if found is None:
                raise UserError(
                    f"{out} exists already: choose another {setting('out')}, or give {setting('overwrite')}."
                )
            sweep(out, folder)
            if say:
                note([f"{out} is finished already, and stays as it is"])
                _show(found, diagnose(found), out)
            return found
        rehearse(data, folder, out)
        if say:
            noted_findings(data)
            if not options.demos.startswith("top:"):
                noted_findings(demos)
        store = options.cache or folder
        with screened_interrupts(_Stop(out, store)):
            with noted_warnings():
                result = label(data, demos, config, store=store, progress=say, **how)
            dataset = with_facts(result.dataset, facts)
            clock.append(time.perf_counter())
            save_dataset(dataset, out, overwrite=options.overwrite)
            sweep(out, folder)
            clock.append(time.perf_counter())
            if say:
                _show(dataset, diagnose(dataset), out, clock, (result.computed, result.chunks - result.computed))
            return dataset


def _read(options: LabelOptions) -> tuple[EpisodeDataset, EpisodeDataset]:
    """Data and demonstrations, once it is known that the output can be written."""
    data = read_dataset(options.data, **options.reading())
    check_output(data, dataset_path(options.data), options.out)
    best = options.demos.startswith("top:")
    for_demos = options.reading(demos=True)
    if not best and is_minari(options.demos):
        for_demos.pop("max_episode_steps", None)
    ranked = without_time_outs(data) if options.drop_time_outs and best else data
    return data, load_demonstrations(options.demos, ranked, score=options.demo_score, **for_demos)


class _Stop:
    """Asked at each Ctrl-C whether it ends the labelling: not once the output is whole, for what is left takes no time.

    Says which chunks are kept.
    """

    def __init__(self, out: Path, store: Path) -> None:
        self._out, self._store, self._before = out, store, _identity(out)

    def __call__(self) -> bool:
        if _identity(self._out) != self._before:
            return False
        if any(self._store.glob("*/chunk-*.labels")):
            os.write(2, b"\nnote: finished chunks are kept: the same command resumes from there\n")
        return True


def _identity(path: Path) -> tuple[int, int, int] | None:
    """What tells a file or folder from the one that atomically takes its place; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _show(
    data: EpisodeDataset, found: Diagnosis, out: Path, clock: Sequence[float] = (), chunks: tuple[int, int] = (0, 0)
) -> None:  # fmt: skip
    """Print what came out; `clock` has the times at which reading, labelling and writing began, and the end."""
    facts = read_facts(data)
    table = Table(show_header=False)
    mode = facts.config.get("solver", {}).get("mode", {}).get("type")
    table.add_row("labeller", escape(printable(", ".join(filter(None, (facts.labeller, facts.solver, mode))))))
    table.add_row("episodes, steps", f"{data.num_episodes:,}, {data.num_steps:,}")
    lengths = sorted(facts.demonstration_lengths)
    demos = f"{len(lengths)} of {' to '.join(map(str, dict.fromkeys((lengths[0], lengths[-1]))))} steps"
    if 1 < len(found.demonstrations) <= 12:
        demos += f", chosen {' '.join(map(str, found.demonstrations))} times"
    table.add_row("demonstrations", demos)
    rewards = data.rewards
    table.add_row("labels", f"{rewards.min():.4g} to {rewards.max():.4g}, mean {rewards.mean():.4g}")
    if found.marginal_error is not None and facts.solver != "exact":
        table.add_row("marginal error", "mean {:.2g}, largest {:.2g}".format(*found.marginal_error))
    pairs = {"by episode": found.by_episode, "by step": found.by_step, "of the length": found.length_with_truth}
    known = [f"{value:.3f} {name}" for name, value in pairs.items() if not math.isnan(value)]
    if known:
        table.add_row("rank correlation", ", ".join(known))
    if clock:
        seconds = [b - a for a, b in itertools.pairwise(clock)]
        table.add_row("seconds", "read {:.1f}, label {:.1f}, write {:.1f}".format(*seconds))
    if chunks[1]:
        table.add_row("chunks", "{} computed, {} found".format(*chunks))
    Console().print(table)
    note(found.findings, sys.stdout)
    print(printable(str(out)))
