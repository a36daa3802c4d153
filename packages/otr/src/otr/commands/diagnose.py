"""What `otr diagnose` does: a table, two figures, diagnosis.json."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from otr.config import OTRConfig
from otr.diagnosis.diagnose import Diagnosis, diagnose
from otr.diagnosis.figures import plan_figure, returns_figure
from otr.episodes.demonstrations import load_demonstrations
from otr.episodes.files import findings_of, noted_warnings, read_dataset
from otr.episodes.truth import ORIGINAL_REWARDS, known_truth
from otr.labels.facts import LabelFacts, read_facts
from otr.labels.store import SCHEMA
from otr.labels.time_outs import without_time_outs
from otr.settings.transport import OttConfig, Parity, SinkhornConfig
from paperloop.errors import UserError, note, printable, setting
from paperloop.files import write_json
from paperloop.settings import from_dict
from paperloop_data import EpisodeDataset
from paperloop_lab.plots import save_figure

__all__ = ["diagnose_file", "diagnosis_table"]


def diagnose_file(
    labelled: Path, *, truth: Path | None = None, demos: str | None = None, episode: int | None = None,
    out: Path | None = None, quiet: bool = False,
) -> Diagnosis:  # fmt: skip
    """Compare the labels of a file with its true rewards, print, and write figures.

    Args:
        labelled: what `otr label` wrote, or any dataset.
        truth: the same data with its true rewards; None for those that labelling kept.
        demos: the demonstrations, for the plan; needed only where they came from a file.
        episode: whose plan is drawn; None for the one with the median labelled return per step.
        out: folder for diagnosis.json, returns.png and plan.png; None writes nothing.
        quiet: print nothing.

    Raises:
        UserError: a file cannot be read, or the files do not fit together.
    """
    notes: list[str] = []
    with noted_warnings():
        data = _read(labelled, notes)
        rewards = None if truth is None else _truth(data, truth, notes)
    found = diagnose(data, rewards)
    rewards = known_truth(data) if rewards is None else rewards
    if found.labeller is None:
        notes.append(f"{labelled} has no labels of otr: the rewards in it are taken for labels.")
    if rewards is None:
        named = setting("truth")
        notes.append(
            f"The true rewards are not known, so the labels are compared with nothing: name them with {named}."
        )
    written = []
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{out} cannot be made ({error.strerror}): choose another folder.") from None
        if rewards is not None:
            written.append(save_figure(returns_figure(data, rewards), out / "returns.png"))
        plan = _plan(data, rewards, demos, episode, notes)
        if plan is not None:
            written.append(save_figure(plan_figure(plan[1], title=plan[0]), out / "plan.png"))
        written.append(out / "diagnosis.json")
        write_json(written[-1], {"file": labelled.name, **found.to_dict()})
    if not quiet:
        Console().print(diagnosis_table({found.labeller or labelled.name: found}))
        note((*findings_of(data), *found.findings, *notes), sys.stdout)
        for path in written:
            print(printable(str(path)))
    return found


def _read(path: Path, notes: list[str]) -> EpisodeDataset:
    """Read a file; where some of its episodes are not finite, without those, as labelling can leave them out too."""
    try:
        return read_dataset(path)
    except UserError:
        data = read_dataset(path, drop_nonfinite=True)
    notes.append(f"{path} holds episodes with NaN or infinity, which are left out.")
    return data


def _truth(data: EpisodeDataset, path: Path, notes: list[str]) -> np.ndarray:
    true = _read(path, notes)
    for what in ("num_steps", "episode_starts", "observations"):
        if not np.array_equal(getattr(true, what), getattr(data, what)):
            raise UserError(
                f"{path}: its {what.replace('_', ' ')} are not those of {data.where}: name the data that was labelled."
            )
    return true.rewards


def _plan(
    data: EpisodeDataset, truth: np.ndarray | None, demos: str | None, episode: int | None, notes: list[str]
) -> tuple[str, np.ndarray] | None:
    """(title, plan), or None with a note that says why."""
    facts = read_facts(data)
    if facts.labeller != "otr":
        if episode is not None or demos is not None:
            raise UserError(
                f"{data.where}: only transport has a plan: leave out {setting('episode')} and {setting('demos')}."
            )
        return None
    if episode is not None and not 0 <= episode < data.num_episodes:
        raise UserError(f"{data.where}: there is no episode {episode}; they are 0 to {data.num_episodes - 1}.")
    if facts.schema != SCHEMA:
        notes.append(
            f"The plan is not drawn: the labels were made with settings of schema {facts.schema or 'before 3'}, and "
            f"this version has {SCHEMA}: label the data again."
        )
        return None
    spec = demos or facts.demonstrations_by.get("spec", "")
    if demos is None and not spec.startswith("top:"):
        notes.append(f"The plan is not drawn: name the demonstrations ({spec or 'a file'}) with {setting('demos')}.")
        return None
    chosen = _demonstrations(data, truth, spec, facts)
    if facts.drop_time_outs:
        data, chosen = without_time_outs(data), without_time_outs(chosen)
    stated = facts.demonstration_lengths
    if stated and stated != chosen.lengths[: len(stated)].tolist():
        raise UserError(f"{chosen.where}: these are not the demonstrations that {data.where} was labelled by.")
    number = int(np.argsort(data.returns() / data.lengths, kind="stable")[data.num_episodes // 2])
    number = number if episode is None else episode
    config = from_dict(OTRConfig, facts.config, where=f"the settings in {data.where}")
    solver = config.solver  # another machine may lack the one that labelled; the plan is the same
    if isinstance(solver, OttConfig):
        solver = SinkhornConfig(epsilon=solver.epsilon, mode=Parity(iterations=solver.iterations))
    elif isinstance(solver, SinkhornConfig) and solver.backend == "numba":
        solver = dataclasses.replace(solver, backend="auto")
    config = dataclasses.replace(config, solver=solver)
    from otr.labellers.transport import FittedTransport

    of_episode = facts.episodes.demonstration
    demonstration = of_episode[number] if of_episode else 0
    plan = FittedTransport(config, chosen, data).plan(data, number, demonstration)
    return f"episode {number} onto demonstration {demonstration}", plan


def _demonstrations(data: EpisodeDataset, truth: np.ndarray | None, spec: str, facts: LabelFacts) -> EpisodeDataset:
    if not spec.startswith("top:"):
        return load_demonstrations(spec, data)
    if truth is None:
        raise UserError(
            f"{data.where}: {spec} chooses by the true rewards, which are not known: give {setting('truth')}."
        )
    extras = {**data.extras, ORIGINAL_REWARDS: truth}  # what --truth says, not what labelling kept
    true = data.replace(rewards=truth, extras=extras, provenance=data.provenance)
    true = without_time_outs(true) if facts.drop_time_outs else true
    by_distance = facts.demonstrations_by.get("score") == "antmaze"
    return load_demonstrations(spec, true, score="antmaze" if by_distance else "return")


def diagnosis_table(found: dict[str, Diagnosis]) -> Table:
    """Return a table with a column for each labeller; rows that are undefined for all are left out."""
    table = Table("rank correlation", *(escape(printable(name)) for name in found))
    columns = [_cells(one) for one in found.values()]
    for name in columns[0]:
        cells = [column[name] for column in columns]
        if any(cells):
            table.add_row(name, *(text or "-" for text in cells))
    return table


def _cells(d: Diagnosis) -> dict[str, str]:
    """Row -> text, empty where it is undefined."""

    def number(value: float, more: str = "") -> str:
        return "" if math.isnan(value) else f"{value:.3f}{more}"

    counts = " ".join(map(str, d.demonstrations[:12])) + (" ..." if len(d.demonstrations) > 12 else "")
    mean, largest = ("", "") if d.marginal_error is None else (f"{value:.2g}" for value in d.marginal_error)
    return {
        "episodes, steps": f"{d.episodes:,}, {d.steps:,}",
        "labelled with true return": number(d.by_episode),
        "  per step": number(d.mean_label),
        "  at equal length": number(d.equal_length, f" of {d.equal_length_episodes}"),
        "label with true reward": number(d.by_step),
        "length with true return": number(d.length_with_truth),
        "length with labelled": number(d.length_with_labels),
        "marginal error, mean": mean,
        "marginal error, largest": largest,
        "demonstration chosen": counts,
    }
