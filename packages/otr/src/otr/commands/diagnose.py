"""What `otr diagnose` does: a table, two figures, diagnosis.json."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from otr.config import OTRConfig
from otr.diagnosis.diagnose import Diagnosis, diagnose, plan_figure, returns_figure
from otr.episodes.demonstrations import load_demonstrations
from otr.episodes.files import findings_of, noted_warnings, read_dataset
from otr.episodes.truth import ORIGINAL_REWARDS, true_rewards
from otr.labellers.registry import LABELLERS
from otr.labels.facts import read_facts
from otr.labels.labelling import ATTRIBUTE
from otr.labels.time_outs import without_time_outs
from paperloop.errors import UserError, printable, setting
from paperloop.files import write_json
from paperloop.settings import from_dict
from paperloop_data import EpisodeDataset
from paperloop_lab.plots import save_figure

__all__ = ["diagnose_file", "diagnosis_table", "known_truth"]


def diagnose_file(
    labelled: Path,
    *,
    truth: Path | None = None,
    demos: str | None = None,
    episode: int | None = None,
    out: Path | None = None,
    quiet: bool = False,
    **reading: Any,
) -> Diagnosis:
    """Compare the labels of a file with its true rewards, print, and write figures.

    Args:
        labelled: what `otr label` wrote, or any dataset.
        truth: the same data with its true rewards; None for those that labelling kept.
        demos: the demonstrations, for the plan; needed only where they came from a file.
        episode: whose plan is drawn; None for the one with the median labelled return per step.
        out: folder for diagnosis.json, returns.png and plan.png; None writes nothing.
        quiet: print nothing.
        reading: options of the readers.

    Raises:
        UserError: a file cannot be read, or the files do not fit together.
    """
    notes: list[str] = []
    with noted_warnings():
        data = _read(labelled, reading, notes)
        rewards = None if truth is None else _truth(data, truth, reading, notes)
    found = diagnose(data, rewards)
    if rewards is None:
        rewards = known_truth(data)
    if ATTRIBUTE not in data.attributes:
        notes.append(f"{labelled} has no labels of otr: the rewards in it are taken for labels.")
    if rewards is None:
        notes.append(
            "The true rewards are not known, so the labels are compared with nothing: name them with "
            + setting("truth")
            + "."
        )
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{out} cannot be made ({error.strerror}): choose another folder.") from None
        written = []
        if rewards is not None:
            written.append(save_figure(returns_figure(data, rewards), out / "returns.png"))
        plan = _plan(data, rewards, demos, episode, notes)
        if plan is not None:
            number, demonstration, matrix = plan
            title = f"episode {number} onto demonstration {demonstration}"
            written.append(save_figure(plan_figure(matrix, title=title), out / "plan.png"))
        write_json(out / "diagnosis.json", {"file": labelled.name, **found.to_dict()})
        written.append(out / "diagnosis.json")
    else:
        written = []
    if not quiet:
        console = Console()
        console.print(diagnosis_table({found.labeller or labelled.name: found}))
        for line in (*findings_of(data), *found.findings, *notes):
            console.print(printable(f"note: {line}"), markup=False, highlight=False, soft_wrap=True)
        for path in written:
            print(printable(str(path)))
    return found


def known_truth(data: EpisodeDataset) -> np.ndarray | None:
    """Return the rewards that labelling kept, unless they are all 0, as where a file had none."""
    truth = true_rewards(data) if ORIGINAL_REWARDS in data.extras else None
    return None if truth is None or not truth.any() else truth


def _read(path: Path, reading: dict[str, Any], notes: list[str]) -> EpisodeDataset:
    """Read a file; where some of its episodes are not finite, without those, as labelling can leave them out too."""
    try:
        return read_dataset(path, **reading)
    except UserError:
        data = read_dataset(path, **{**reading, "drop_nonfinite": True})
    notes.append(f"{path} holds episodes with NaN or infinity, which are left out.")
    return data


def _truth(data: EpisodeDataset, path: Path, reading: dict[str, Any], notes: list[str]) -> np.ndarray:
    true = _read(path, reading, notes)
    if true.num_steps != data.num_steps or not np.array_equal(true.episode_starts, data.episode_starts):
        raise UserError(
            f"{path}: it has {true.num_episodes} episodes and {true.num_steps} steps, and {data.where} "
            f"{data.num_episodes} and {data.num_steps}, or they end elsewhere: name the data that was labelled."
        )
    if not np.array_equal(true.observations, data.observations):
        row = int((true.observations != data.observations).reshape(data.num_steps, -1).any(axis=1).argmax())
        raise UserError(f"{path}: the observations of row {row} are not those of {data.where}: name the same data.")
    return true.rewards


def _plan(
    data: EpisodeDataset, truth: np.ndarray | None, demos: str | None, episode: int | None, notes: list[str]
) -> tuple[int, int, np.ndarray] | None:
    """(episode, demonstration, plan), or None with a note that says why."""
    facts = read_facts(data)
    if LABELLERS.get(facts.labeller or "") is not OTRConfig:
        if episode is not None or demos is not None:
            raise UserError(
                f"{data.where}: only transport has a plan: leave out {setting('episode')} and {setting('demos')}."
            )
        return None
    if episode is not None and not 0 <= episode < data.num_episodes:
        raise UserError(f"{data.where}: there is no episode {episode}; they are 0 to {data.num_episodes - 1}.")
    by = facts.demonstrations_by
    spec = demos or by.get("spec", "")
    if spec.startswith("top:"):
        if truth is None:
            raise UserError(
                f"{data.where}: {spec} chooses by the true rewards, which are not known: give {setting('truth')}."
            )
        known = np.asarray(truth)
        extras = {**data.extras, ORIGINAL_REWARDS: known}  # what --truth says, not what labelling kept
        true = data.replace(rewards=known, extras=extras, provenance=data.provenance)
        true = without_time_outs(true) if facts.drop_time_outs else true
        chosen = load_demonstrations(spec, true, score="antmaze" if by.get("score") == "antmaze" else "return")
    elif demos is None:
        name = f" ({spec})" if spec else ""
        notes.append(f"The plan is not drawn: name the demonstrations{name} with {setting('demos')}.")
        return None
    else:
        chosen = load_demonstrations(demos, data)
    if facts.drop_time_outs:
        data, chosen = without_time_outs(data), without_time_outs(chosen)
    stated = facts.demonstration_lengths
    if stated and stated != chosen.lengths[: len(stated)].tolist():
        raise UserError(f"{chosen.where}: these are not the demonstrations that {data.where} was labelled by.")
    number = _median_episode(data) if episode is None else episode
    config = from_dict(OTRConfig, facts.config, where=f"the settings in {data.where}")
    # Another machine may lack the solver that labelled; the plan is the same.
    if config.solver.backend in ("numba", "ott"):
        config = dataclasses.replace(config, solver=dataclasses.replace(config.solver, backend="auto"))
    from otr.labellers.transport import TransportLabeller

    of_episode = facts.episodes.demonstration
    demonstration = of_episode[number] if of_episode else 0
    return number, demonstration, TransportLabeller(config).fit(chosen, data).plan(data, number, demonstration)


def _median_episode(data: EpisodeDataset) -> int:
    mean = data.returns() / data.lengths
    return int(np.argsort(mean, kind="stable")[len(mean) // 2])


def diagnosis_table(found: dict[str, Diagnosis]) -> Table:
    """Return a table with a column for each labeller."""
    table = Table("rank correlation", *(escape(printable(name)) for name in found))
    rows = {
        "episodes, steps": lambda d: f"{d.episodes:,}, {d.steps:,}",
        "labelled with true return": lambda d: _number(d.by_episode),
        "  per step": lambda d: _number(d.mean_label),
        "  at equal length": lambda d: _equal(d),
        "label with true reward": lambda d: _number(d.by_step),
        "length with true return": lambda d: _number(d.length_with_truth),
        "length with labelled": lambda d: _number(d.length_with_labels),
        "marginal error, mean": lambda d: _error(d, 0),
        "marginal error, largest": lambda d: _error(d, 1),
        "demonstration chosen": lambda d: _counts(d.demonstrations),
    }
    for name, cell in rows.items():
        cells = [cell(one) for one in found.values()]
        if any(text != "-" for text in cells):
            table.add_row(name, *cells)
    return table


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _equal(d: Diagnosis) -> str:
    number = _number(d.equal_length)
    return number if number == "-" else f"{number} of {d.equal_length_episodes}"


def _error(d: Diagnosis, which: int) -> str:
    return "-" if d.marginal_error is None else f"{d.marginal_error[which]:.2g}"


def _counts(values: tuple[int, ...]) -> str:
    if not values:
        return "-"
    return " ".join(map(str, values[:12])) + (" ..." if len(values) > 12 else "")
