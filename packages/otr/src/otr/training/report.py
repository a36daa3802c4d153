"""What `otr train` came to: arms with intervals over seeds, shares of the oracle, what the labels rank, figures.

The notes below the table are the point of the controls. Where a learner does no better on labels than on a constant
reward, the labels taught it nothing that lasting does not; where cloning is as good, no reward was needed at all.
"""

from __future__ import annotations

import functools
import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from otr.diagnosis.diagnose import Diagnosis, diagnose
from otr.episodes.truth import ORIGINAL_REWARDS
from otr.training.config import CLONING, SCHEMA, TrainConfig
from paperloop.errors import NonFiniteError, UserError, note, printable, setting
from paperloop.files import write_json
from paperloop.loop.folder import RunFolder
from paperloop.loop.metrics_file import curve, read_metrics
from paperloop.settings import load_config, read_json
from paperloop_data import EpisodeDataset
from paperloop_lab import plots, stats

__all__ = [
    "CONFIG_FILE", "ArmResult", "arms_notes", "listed", "read_arms", "report", "saved_training", "share_of_oracle",
]  # fmt: skip

#: The file in OUT that holds the configuration, the seed, and what the labels are made from.
CONFIG_FILE = "train.json"
CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class ArmResult:
    """One learner on one labelling, over S seeds and K evaluations.

    Attributes:
        learner: "bc", "bc10", "iql", ...
        labels: the labels it learned from or was ranked by; "" for bc, which reads no rewards, and "oracle" for bc10,
            whose episodes are ranked by true return.
        updates: (K,) int64, updates before each evaluation, 0 first.
        curve: (K, S) float64, means over episodes of the undiscounted return.
        score_curve: (K, S) the same as D4RL's normalised score, 100 for an expert; None where the task has no
            reference.
    """

    learner: str
    labels: str
    updates: np.ndarray
    curve: np.ndarray
    score_curve: np.ndarray | None = None

    @property
    def name(self) -> str:
        """Learner and labels."""
        return f"{self.learner} {self.labels}".strip()

    @property
    def returns(self) -> np.ndarray:
        """(S,) the returns of the last evaluation."""
        return self.curve[-1]

    @property
    def scores(self) -> np.ndarray | None:
        """(S,) the scores of the last evaluation, or None."""
        return None if self.score_curve is None else self.score_curve[-1]

    @property
    def values(self) -> np.ndarray:
        """(S,) what arms are compared by: scores, or returns where there are none."""
        return self.returns if self.scores is None else self.scores

    @functools.cached_property
    def interval(self) -> stats.Interval:
        """Mean over seeds of `values` and its 95 % bootstrap interval; with one seed that is a point."""
        return stats.stratified_bootstrap(self.values, "mean", reps=20_000, confidence=CONFIDENCE)


def saved_training(out: Path) -> tuple[TrainConfig, int]:
    """Return the configuration and the seed of a folder of `otr train`.

    Raises:
        UserError: it is not such a folder.
    """
    path = Path(out) / CONFIG_FILE
    if not path.exists():
        raise UserError(f"{out} is not a folder of otr train (no {CONFIG_FILE}): name the folder that it wrote.")
    config, seed = load_config(TrainConfig, path, SCHEMA), read_json(path).get("seed")
    if type(seed) is not int:
        raise UserError(f"{path} does not say which seed it began with: choose another {setting('out')}.")
    return config, seed


def read_arms(out: Path) -> list[ArmResult]:
    """Return the arms of a folder of `otr train` whose training is complete; a warning names learners that are not.

    Raises:
        UserError: it is not such a folder, or nothing in it is complete.
    """
    arms, left_out = _arms(Path(out))
    for text in left_out:
        warnings.warn(f"{out}: {text}", UserWarning, stacklevel=2)
    return arms


def _arms(out: Path) -> tuple[list[ArmResult], list[str]]:
    """The arms of the programs that are complete, and a sentence on each of the others."""
    config, _ = saved_training(out)
    arms, said = [], []
    programs = dict.fromkeys("bc" if name in CLONING else name for name in config.learners)
    for name in sorted(programs, key=lambda name: name != "bc"):
        record = RunFolder(out / name).record() or {}
        if record.get("status") != "complete":
            diverged = str(record.get("error", "")).startswith(NonFiniteError.__name__)
            what = (
                "diverged, and is left out" if diverged else "is not complete: call otr train again, which resumes it"
            )
            said.append(f"{name} {what}.")
            continue
        rows = read_metrics(out / name)
        returns = curve(rows, "return", "evaluation")
        scored = any("score" in row for row in rows if row["split"] == "evaluation")
        scores = curve(rows, "score", "evaluation").values if scored else None
        agents = np.array(record["agents"])
        for label in dict.fromkeys(record["agents"]):
            learner, _, labels = label.partition(" ")
            mine = np.flatnonzero(agents == label)
            arms.append(
                ArmResult(
                    learner, labels, returns.steps.astype(np.int64) * config.dispatch, returns.values[:, mine],
                    None if scores is None else scores[:, mine],
                )
            )  # fmt: skip
    if not arms:
        raise UserError(f"{out} holds no complete training: call otr train again, which resumes it.")
    return arms, said


def report(out: Path, *, quiet: bool = False) -> dict[str, Any]:
    """Write OUT/report.json and OUT/plots, show the table, and return what report.json holds.

    Raises:
        UserError: see `read_arms`.
    """
    out = Path(out)
    arms, left_out = _arms(out)
    config, _ = saved_training(out)
    files = {name: out / "data" / f"{name}.hdf5" for name in config.used_labels}
    found = {  # files that were removed to save space are left out
        name: diagnose(EpisodeDataset.load(file, extras=[ORIGINAL_REWARDS]))
        for name, file in files.items()
        if file.exists()
    }
    notes = [*arms_notes(arms), *left_out]
    measure = "return" if arms[0].scores is None else "score"
    document = {
        "config": read_json(out / CONFIG_FILE), "measure": measure, "confidence": CONFIDENCE,
        "arms": [_row(arm, arms) for arm in arms],
        "labels": {name: one.to_dict() for name, one in found.items()}, "notes": notes,
    }  # fmt: skip
    write_json(out / "report.json", document)
    paths = _draw(out / "plots", arms, measure)
    if not quiet:
        Console().print(_table(arms, found, measure))
        note(notes, sys.stdout)
        for path in paths:
            print(printable(str(path)))
    return read_json(out / "report.json")


def share_of_oracle(arm: ArmResult, arms: Sequence[ArmResult]) -> float | None:
    """Return the mean of an arm over that of the same learner on the true rewards.

    None for bc and bc10, which learn from no labels; where there is no such arm; and where its mean is not above 0, so
    that a share would mean nothing.
    """
    oracle = next((a for a in arms if (a.learner, a.labels) == (arm.learner, "oracle")), None)
    if oracle is None or arm.learner in ("bc", "bc10"):
        return None
    mean = float(oracle.values.mean())
    return float(arm.values.mean()) / mean if mean > 0 else None


def arms_notes(arms: Sequence[ArmResult]) -> list[str]:
    """Return what a reader of the table must not overlook, one sentence each.

    Two arms are told apart where their intervals do not overlap. With one seed nothing can be told apart. First comes
    whether labels can be ranked at all: not where a learner does no better on the true rewards than on a constant.
    """
    if len(arms[0].returns) < 2:
        return ["There is one seed, so there are no intervals, and no arm can be told from another."]
    first, said = [], []
    for learner in dict.fromkeys(arm.learner for arm in arms):
        mine = {arm.labels: arm.interval for arm in arms if arm.learner == learner}
        oracle, constant = mine.get("oracle"), mine.get("constant")
        made = {name: one for name, one in mine.items() if name not in ("", "oracle", "constant")}
        if constant is not None:
            if oracle is not None and oracle.low <= constant.high:
                first.append(
                    f"{learner}: the oracle is not above the constant reward, so this dataset and this budget cannot "
                    "rank labels."
                )
            if names := [name for name, one in made.items() if one.low <= constant.high]:
                said.append(f"{learner}: not above the constant reward: {listed(names)}.")
        for other in (arm for arm in arms if arm.learner in ("bc", "bc10") and learner not in CLONING):
            if names := [name for name, one in made.items() if one.low <= other.interval.high]:
                what = "reads no rewards" if other.learner == "bc" else "is told the true returns"
                said.append(f"{learner}: not above {other.learner}, which {what}: {listed(names)}.")
    return first + said


def listed(names: Sequence[str]) -> str:
    """Return "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _row(arm: ArmResult, arms: Sequence[ArmResult]) -> dict[str, Any]:
    point, low, high = arm.interval
    return {
        "learner": arm.learner, "labels": arm.labels, "returns": arm.returns.tolist(),
        "scores": None if arm.scores is None else arm.scores.tolist(), "mean": point, "low": low, "high": high,
        "share_of_oracle": share_of_oracle(arm, arms), "updates": arm.updates.tolist(), "curve": arm.curve.tolist(),
    }  # fmt: skip


def _table(arms: Sequence[ArmResult], found: Mapping[str, Diagnosis], measure: str) -> Table:
    seeds = len(arms[0].returns)
    facts = [f"last evaluation; {CONFIDENCE:.0%} bootstrap intervals over {seeds} seeds" if seeds > 1 else "one seed"]
    facts += ["score: 0 for a random policy, 100 for the expert"] if measure == "score" else []
    facts += ["ranks: rank correlation of labelled with true return"]
    if any(arm.learner == "bc10" for arm in arms):
        facts.append("bc10 reads no labels: its episodes are the best by true return")
    table = Table("learner", "labels", measure, "95 %", "of the oracle", "ranks", caption="; ".join(facts))
    for i, arm in enumerate(arms):
        (point, low, high), share = arm.interval, share_of_oracle(arm, arms)
        rank = found[arm.labels].by_episode if arm.labels in found and arm.learner != "bc10" else math.nan
        digits = 0 if max(abs(low), abs(high)) >= 1000 else 1
        table.add_row(
            arm.learner, escape(printable(arm.labels)) or "-", f"{point:.{digits}f}",
            f"{low:.{digits}f} to {high:.{digits}f}" if seeds > 1 else "-",
            "-" if share is None else f"{share:.2f}", "-" if math.isnan(rank) else f"{rank:.3f}",
            end_section=i + 1 < len(arms) and arms[i + 1].learner != arm.learner,
        )  # fmt: skip
    return table


def _draw(folder: Path, arms: Sequence[ArmResult], measure: str) -> list[Path]:
    """Draw all arms' intervals, and each learner's curves next to those of cloning."""
    panel = {arm.name: arm.interval for arm in arms}
    bars = plots.interval_bars({f"mean, {CONFIDENCE:.0%} interval": panel}, xlabel=measure)
    paths = [plots.save_figure(bars, folder / "arms.png")]
    for learner in dict.fromkeys(arm.learner for arm in arms if arm.learner not in CLONING):
        curves = {}
        for arm in arms:
            if arm.learner in (learner, "bc", "bc10"):
                values = arm.curve if arm.score_curve is None else arm.score_curve
                curves[arm.name] = arm.updates, values.T[:, None]
        figure = plots.curves_figure(
            curves, measure, "evaluation", x="updates", statistic="mean", confidence=CONFIDENCE
        )  # fmt: skip
        paths.append(plots.save_figure(figure, folder / f"{learner}.png"))
    return paths
