"""What `otr label` does: read, label in chunks, write, say what came out."""

from __future__ import annotations

import dataclasses
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
from otr.config import ORILConfig, OTRConfig
from otr.diagnosis.diagnose import Diagnosis, diagnose
from otr.episodes.demonstrations import Score, demonstrations_by, load_demonstrations
from otr.episodes.files import is_minari, noted_findings, noted_warnings, read_dataset
from otr.labels.labelling import ATTRIBUTE, label, label_key, with_facts
from otr.labels.output import check_output, finished, format_by_suffix, hold, rehearse, save_dataset, sweep
from otr.labels.time_outs import without_time_outs
from paperloop.cli import Device, start_jax
from paperloop.errors import UserError, printable, setting
from paperloop.signals import screened_interrupts
from paperloop_data import EpisodeDataset
from paperloop_data.io import dataset_path, format_of

__all__ = ["choose_device", "label_file"]

#: The readers' options that a file of demonstrations is read with too.
FOR_DEMOS = ("observation_keys", "action_keys", "drop_nonfinite", "max_episode_steps")


def choose_device(config: Any, device: Device) -> Any:
    """Bring solver and device together; jax is imported only where it will compute.

    Args:
        config: a labeller's configuration.
        device: where to compute.

    Returns:
        The configuration, its solver chosen where the device decides it.

    Raises:
        UserError: the device is not there, or the solver does not run on it.
    """
    import importlib.util

    backend = getattr(getattr(config, "solver", None), "backend", None)
    if device == "gpu" and backend not in (None, "auto", "jax", "ott"):
        raise UserError(
            f"{setting('device', 'gpu')}: the solver {backend!r} computes on the CPU; choose 'jax', or leave it out."
        )
    if backend == "auto" and device != "auto":
        compiled = device == "cpu" and importlib.util.find_spec("numba") is not None
        backend = "numba" if compiled else "jax"
        config = dataclasses.replace(config, solver=dataclasses.replace(config.solver, backend=backend))
    uses_jax = backend in ("jax", "ott") or isinstance(config, ORILConfig)
    if device == "gpu" and not uses_jax:
        raise UserError(f"{setting('device', 'gpu')}: {config.type} computes on the CPU; leave it out.")
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(cache) / "otr" / "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    if uses_jax:
        start_jax(device)
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
    demos, out, drop_time_outs, quiet = options.demos, options.out, options.drop_time_outs, options.quiet
    clock = [time.perf_counter()]
    wanted = options.format or format_by_suffix(out)
    score: Score = options.demo_score or ("antmaze" if options.domain == "antmaze" else "return")
    for_demos = {name: value for name, value in options.reading.items() if name in FOR_DEMOS and value}
    if not demos.startswith("top:") and is_minari(demos):
        for_demos.pop("max_episode_steps", None)
    with noted_warnings():
        data = read_dataset(options.data, **options.reading)
        chosen = wanted or format_of(options.data)
        check_output(data, dataset_path(options.data), out, chosen)
        ranked = without_time_outs(data) if drop_time_outs and demos.startswith("top:") else data
        demonstrations = load_demonstrations(demos, ranked, score=score, **for_demos)
    clock.append(time.perf_counter())
    facts = {
        "domain": options.domain, "demonstrations_by": demonstrations_by(demos, score),
        "drop_time_outs": drop_time_outs,
    }  # fmt: skip
    with hold(out) as folder:
        if os.path.lexists(out) and not options.overwrite:
            key = label_key(data, demonstrations, config, options.chunk_steps, drop_time_outs=drop_time_outs)
            found = finished(out, chosen, key, data, facts)
            if found is None:
                raise UserError(
                    f"{out} exists already: choose another {setting('out')}, or give {setting('overwrite')}."
                )
            sweep(out, folder)
            if not quiet:
                print(f"note: {printable(str(out))} is finished already, and stays as it is", file=sys.stderr)
                _show(found, diagnose(found))
                print(printable(str(out)))
            return found
        rehearse(data, folder, out, chosen)
        if not quiet:
            noted_findings(data)
            if not demos.startswith("top:"):
                noted_findings(demonstrations)
        before = _identity(out)
        store = options.cache or folder

        def stop() -> bool:
            if _identity(out) != before:
                return False  # the file is whole, and what is left takes no time
            if any(store.glob("*/chunk-*.labels")):
                os.write(2, b"\nnote: finished chunks are kept: the same command resumes from there\n")
            return True

        with screened_interrupts(stop):
            with noted_warnings():
                result = label(
                    data, demonstrations, config, drop_time_outs=drop_time_outs, store=store,
                    chunk_steps=options.chunk_steps, progress=not quiet,
                )  # fmt: skip
            dataset = with_facts(result.dataset, facts)
            clock.append(time.perf_counter())
            save_dataset(dataset, out, chosen, overwrite=options.overwrite, compress=options.compress)
            sweep(out, folder)
            clock.append(time.perf_counter())
            if not quiet:
                found_chunks = result.chunks - result.computed
                _show(dataset, diagnose(dataset), clock=clock, chunks=(result.computed, found_chunks))
                print(printable(str(out)))
            return dataset


def _identity(path: Path) -> tuple[int, int, int] | None:
    """What tells a file or folder from the one that atomically takes its place; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _show(
    data: EpisodeDataset,
    found: Diagnosis,
    *,
    clock: Sequence[float] = (),
    chunks: tuple[int, int] = (0, 0),
) -> None:
    """Print what came out.

    Args:
        data: labelled.
        found: its diagnosis.
        clock: the times at which reading, labelling and writing began, and the end.
        chunks: how many were (computed, found).
    """
    facts = data.attributes[ATTRIBUTE]
    table = Table(show_header=False)
    solver = ", ".join(facts[name] for name in ("labeller", "solver") if name in facts)
    config = facts["config"]
    solver = f"{solver}, {config['solver']['mode']}" if _has_mode(facts) else solver
    table.add_row("labeller", escape(printable(solver)))
    table.add_row("episodes, steps", f"{data.num_episodes:,}, {data.num_steps:,}")
    lengths = facts["demonstration_lengths"]
    demos = f"{len(lengths)} of {min(lengths)}" + (f" to {max(lengths)}" if len(set(lengths)) > 1 else "") + " steps"
    if 1 < len(found.demonstrations) <= 12:
        demos += f", chosen {' '.join(map(str, found.demonstrations))} times"
    table.add_row("demonstrations", demos)
    rewards = data.rewards
    table.add_row("labels", f"{rewards.min():.4g} to {rewards.max():.4g}, mean {rewards.mean():.4g}")
    if found.marginal_error is not None and facts.get("solver") != "exact":
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
    console = Console()
    console.print(table)
    for line in found.findings:
        console.print(printable(f"note: {line}"), markup=False, highlight=False, soft_wrap=True)


def _has_mode(facts: dict[str, Any]) -> bool:
    return facts["labeller"] == _name_of(OTRConfig) and facts.get("solver") != "exact"


def _name_of(kind: type) -> str:
    from otr.labellers.registry import LABELLERS

    return next(name for name, value in LABELLERS.items() if value is kind)
