"""What `otr train` came to: arms with intervals over seeds, shares of the oracle, what the labels rank, one figure.

The notes below the table are the point of the controls. Where a learner does no better on labels than on a constant
reward, the labels taught it nothing that lasting does not; where cloning is as good, no reward was needed at all.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from otr.diagnosis.diagnose import Diagnosis, diagnose
from otr.episodes.truth import ORIGINAL_REWARDS
from otr.training.config import CLONING, SCHEMA, TrainConfig
from paperloop.errors import NonFiniteError, UserError, printable, setting
from paperloop.files import write_json
from paperloop.loop.folder import RunFolder
from paperloop.loop.metrics_file import curve, read_metrics
from paperloop.settings import load_config, read_json
from paperloop_data import EpisodeDataset
from paperloop_lab import plots, stats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "CONFIG_FILE",
    "ArmResult",
    "arms_figure",
    "arms_notes",
    "listed",
    "read_arms",
    "report",
    "saved_training",
    "share_of_oracle",
]

#: The file in OUT that holds the configuration, the seed, and what the labels are made from.
CONFIG_FILE = "train.json"
SPLIT = "evaluation"
CONFIDENCE = 0.95
#: (dash, colour) of the labels' curves: all colours, then all of them dashed.
_STYLES = tuple(itertools.product(("-", "--", "-."), plots.COLOURS))


@dataclass(frozen=True, eq=False)
class ArmResult:
    """One learner on one labelling, over S seeds and K evaluations.

    Attributes:
        learner: "bc", "bc10", "iql", ...
        labels: the labels it learned from or was ranked by; "" for bc, which reads no rewards, and "oracle" for bc10,
            whose episodes are ranked by true return.
        returns: (S,) float64, the last evaluation: mean over episodes of the undiscounted return.
        scores: (S,) the same as D4RL's normalised score, 100 for an expert; None where the task has no reference.
        updates: (K,) int64, updates before each evaluation, 0 first.
        curve: (K, S) float64, the returns of all evaluations.
        score_curve: (K, S) the scores of all evaluations; None where there are none.
    """

    learner: str
    labels: str
    returns: np.ndarray
    scores: np.ndarray | None
    updates: np.ndarray
    curve: np.ndarray
    score_curve: np.ndarray | None = None

    @property
    def name(self) -> str:
        """Learner and labels."""
        return f"{self.learner} {self.labels}".strip()

    @property
    def values(self) -> np.ndarray:
        """(S,) what arms are compared by: scores, or returns where there are none."""
        return self.returns if self.scores is None else self.scores

    @property
    def interval(self) -> stats.Interval:
        """Mean over seeds of `values` and its 95 % bootstrap interval; with one seed that is a point."""
        return _interval(self.values)


def _interval(values: np.ndarray) -> stats.Interval:
    return stats.stratified_bootstrap(values, "mean", reps=20_000, confidence=CONFIDENCE)


def saved_training(out: Path) -> tuple[TrainConfig, int]:
    """Return the configuration and the seed of a folder of `otr train`.

    Raises:
        UserError: it is not such a folder.
    """
    out = Path(out)
    config, seed = _config(out), read_json(out / CONFIG_FILE).get("seed")
    if type(seed) is not int:
        raise UserError(f"{out / CONFIG_FILE} does not say which seed it began with: choose another {setting('out')}.")
    return config, seed


def read_arms(out: Path) -> list[ArmResult]:
    """Return the arms of a folder of `otr train` whose training is complete; a warning names learners that are not.

    Raises:
        UserError: it is not such a folder, or nothing in it is complete.
    """
    arms = _complete_arms(Path(out))
    for text in _unfinished(Path(out), _config(Path(out))):
        warnings.warn(f"{out}: {text}", UserWarning, stacklevel=2)
    return arms


def _complete_arms(out: Path) -> list[ArmResult]:
    config = _config(out)
    arms = []
    for folder in _run_folders(out, config):
        record = RunFolder(folder).record()
        if record is None or record["status"] != "complete":
            continue
        agents = read_json(folder / "config.json")["config"]["agents"]
        rows = read_metrics(folder)
        returns = curve(rows, "return", SPLIT)
        scored = any("score" in row for row in rows if row["split"] == SPLIT)
        scores = curve(rows, "score", SPLIT).values if scored else None
        labels = [agent["label"] for agent in agents]
        for label in dict.fromkeys(labels):
            mine = [i for i, other in enumerate(labels) if other == label]
            learner, _, named = label.partition(" ")
            arms.append(
                ArmResult(
                    learner, named, returns.values[-1, mine], None if scores is None else scores[-1, mine],
                    returns.steps.astype(np.int64) * config.dispatch, returns.values[:, mine],
                    None if scores is None else scores[:, mine],
                )
            )  # fmt: skip
    if not arms:
        raise UserError(f"{out} holds no complete training: call otr train again, which resumes it.")
    return arms


def report(out: Path, *, quiet: bool = False) -> dict[str, Any]:
    """Write OUT/report.json and OUT/plots/arms.png, and show the table.

    Args:
        out: the folder.
        quiet: show nothing.

    Returns:
        What report.json holds.

    Raises:
        UserError: see `read_arms`.
    """
    out = Path(out)
    config, arms = _config(out), _complete_arms(out)
    found = _diagnoses(out, config)
    notes = [*arms_notes(arms), *_unfinished(out, config)]
    document = {
        "config": read_json(out / CONFIG_FILE),
        "measure": "return" if arms[0].scores is None else "score",
        "confidence": CONFIDENCE,
        "arms": [_row(arm, arms) for arm in arms],
        "labels": {name: one.to_dict() for name, one in found.items()},
        "notes": notes,
    }
    write_json(out / "report.json", document)
    path = plots.save_figure(arms_figure(arms), out / "plots" / "arms.png")
    if not quiet:
        console = Console()
        console.print(_table(arms, found, _random(out, config, arms)))
        for note in notes:
            console.print(printable(f"note: {note}"), markup=False, highlight=False, soft_wrap=True)
        print(printable(str(path)))
    return read_json(out / "report.json")


def share_of_oracle(arm: ArmResult, arms: Sequence[ArmResult]) -> float | None:
    """Return the mean of an arm over that of the same learner on the true rewards.

    None for bc and bc10, which learn from no labels; where there is no such arm; and where its mean is not above 0, so
    that a share would mean nothing.
    """
    oracle = next((a for a in arms if (a.learner, a.labels) == (arm.learner, "oracle")), None)
    if oracle is None or not TrainConfig.reads_labels(arm.learner):
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
    spread = {arm.name: arm.interval for arm in arms}
    said, first = [], []
    for learner in dict.fromkeys(arm.learner for arm in arms):
        mine = {arm.labels: spread[arm.name] for arm in arms if arm.learner == learner}
        made = {name: one for name, one in mine.items() if name not in ("", "oracle", "constant")}
        oracle, constant = mine.get("oracle"), mine.get("constant")
        if oracle is not None and constant is not None and oracle.low <= constant.high:
            how = "is below" if oracle.high < constant.low else "cannot be told from"
            first.append(
                f"{learner}: the oracle {how} the constant reward, so this dataset and this budget cannot rank labels."
            )
        if constant is not None:
            equal = [name for name, one in made.items() if one.low <= constant.high and constant.low <= one.high]
            worse = [name for name, one in made.items() if one.high < constant.low]
            if equal:
                said.append(
                    f"{learner}: {listed(equal)} cannot be told from the constant reward: the intervals overlap."
                )
            if worse:
                said.append(f"{learner}: {listed(worse)} {_verb(worse)} below the constant reward.")
        if learner in CLONING:
            continue
        for other in (arm for arm in arms if arm.learner in ("bc", "bc10")):
            not_above = [name for name, one in made.items() if one.low <= spread[other.name].high]
            if not_above:
                what = "reads no rewards" if other.learner == "bc" else "is told the true returns"
                said.append(
                    f"{learner}: {listed(not_above)} {_verb(not_above)} not above {other.learner}, which {what}: the "
                    "intervals overlap or lie below."
                )
    return first + said


def listed(names: Sequence[str]) -> str:
    """Return "a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _verb(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


# --------------------------------------------------------------------------------------------------------- reading


def _config(out: Path) -> TrainConfig:
    path = out / CONFIG_FILE
    if not path.exists():
        raise UserError(f"{out} is not a folder of otr train (no {CONFIG_FILE}): name the folder that it wrote.")
    return load_config(TrainConfig, path, SCHEMA)


def _run_folders(out: Path, config: TrainConfig) -> list[Path]:
    names = ["bc" if name in CLONING else name for name in config.learners]
    return [out / name for name in sorted(dict.fromkeys(names), key=lambda name: name != "bc")]


def _unfinished(out: Path, config: TrainConfig) -> list[str]:
    missing, diverged = [], []
    for folder in _run_folders(out, config):
        record = RunFolder(folder).record()
        if record is None or record["status"] != "complete":
            failed = record is not None and str(record.get("error", "")).startswith(NonFiniteError.__name__)
            (diverged if failed else missing).append(folder.name)
    said = [f"{listed(diverged)} diverged, and {_verb(diverged)} left out."] if diverged else []
    if missing:
        said.append(f"{listed(missing)} {_verb(missing)} not complete: call otr train again, which resumes it.")
    return said


def _diagnoses(out: Path, config: TrainConfig) -> dict[str, Diagnosis]:
    """What each labelled file is worth by itself; files that were removed to save space are left out."""
    found = {}
    for name in config.used_labels:
        path = out / "data" / f"{name}.hdf5"
        if path.exists():
            found[name] = diagnose(EpisodeDataset.load(path, extras=[ORIGINAL_REWARDS]))
    return found


def _random(out: Path, config: TrainConfig, arms: Sequence[ArmResult]) -> str:
    """What a random policy comes to, in the measure of the table; "" where that is not known."""
    if arms[0].scores is not None:
        return "score: 0 for a random policy, 100 for the expert"
    with contextlib.suppress(ModuleNotFoundError, UserError, KeyError, TypeError):  # config.json may be anything
        from policy_finetune.envs.references import random_return

        folder = next(f for f in _run_folders(out, config) if (f / "config.json").exists())
        return f"a random policy: {random_return(read_json(folder / 'config.json')['config']['env_id']):.4g}"
    return ""


# --------------------------------------------------------------------------------------------------------- showing


def _row(arm: ArmResult, arms: Sequence[ArmResult]) -> dict[str, Any]:
    interval = arm.interval
    return {
        "learner": arm.learner,
        "labels": arm.labels,
        "returns": arm.returns.tolist(),
        "scores": None if arm.scores is None else arm.scores.tolist(),
        "mean": interval.point,
        "low": interval.low,
        "high": interval.high,
        "share_of_oracle": share_of_oracle(arm, arms),
        "updates": arm.updates.tolist(),
        "curve": arm.curve.tolist(),
    }


def _table(arms: Sequence[ArmResult], found: Mapping[str, Diagnosis], random: str) -> Table:
    seeds = len(arms[0].returns)
    scored = arms[0].scores is not None
    measure = "score" if scored else "return"
    text = f"last evaluation; {CONFIDENCE:.0%} bootstrap intervals over {seeds} seeds" if seeds > 1 else "one seed"
    facts = [text, random, "ranks: rank correlation of labelled with true return"]
    if any(arm.learner == "bc10" for arm in arms):
        facts.append("bc10 reads no labels: its episodes are the best by true return")
    caption = "; ".join(filter(None, facts))
    table = Table("learner", "labels", measure, "95 %", "of the oracle", "ranks", caption=caption)
    for i, arm in enumerate(arms):
        interval, share = arm.interval, share_of_oracle(arm, arms)
        rank = found[arm.labels].by_episode if arm.labels in found and arm.learner != "bc10" else math.nan
        digits = 0 if max(abs(interval.low), abs(interval.high)) >= 1000 else 1
        table.add_row(
            arm.learner, escape(printable(arm.labels)) or "-", f"{interval.point:.{digits}f}",
            f"{interval.low:.{digits}f} to {interval.high:.{digits}f}" if seeds > 1 else "-",
            "-" if share is None else f"{share:.2f}", "-" if math.isnan(rank) else f"{rank:.3f}",
            end_section=i + 1 < len(arms) and arms[i + 1].learner != arm.learner,
        )  # fmt: skip
    return table


def arms_figure(arms: Sequence[ArmResult]) -> Figure:
    """Draw every arm's mean and interval with its seeds, and next to it the learning curves of each learner.

    All panels show the normalised score where every arm has one, else the return; those of learners on one scale.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    learners = [name for name in dict.fromkeys(arm.learner for arm in arms) if name not in ("bc", "bc10")]
    labels = list(dict.fromkeys(arm.labels for arm in arms if arm.learner in learners))
    styles = {name: {"color": colour, "ls": dash} for name, (dash, colour) in zip(labels, _STYLES, strict=False)}
    colours = {name: style["color"] for name, style in styles.items()}
    height = max(3.2, 1.1 + 0.27 * len(arms))
    figure = Figure(figsize=(4.2 + 3.6 * len(learners), height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = np.atleast_1d(figure.subplots(1, 1 + len(learners), width_ratios=[1.15] + [1.0] * len(learners)))
    scored = all(arm.scores is not None and arm.score_curve is not None for arm in arms)
    measure = "normalised score" if scored else "return"
    _draw_intervals(panels[0], arms, colours, scored=scored)
    for axes, learner in zip(panels[1:], learners, strict=True):
        for arm in (arm for arm in arms if arm.learner == learner):
            values = arm.score_curve if scored and arm.score_curve is not None else arm.curve
            band = stats.curve_interval(values.T, "mean", confidence=CONFIDENCE)
            axes.plot(arm.updates, band.point, **styles[arm.labels], lw=1.8, label=arm.labels, zorder=3)
            if arm.curve.shape[1] > 1:
                axes.fill_between(arm.updates, band.low, band.high, color=colours[arm.labels], alpha=0.15, lw=0)
        for arm, dash in zip((arm for arm in arms if arm.learner in ("bc", "bc10")), (":", "--"), strict=False):
            mean = (arm.values if scored else arm.returns).mean()
            axes.axhline(mean, color="#777777", ls=dash, lw=1.2, label=arm.learner, zorder=2)
        axes.set_title(learner, fontsize=10)
        axes.set_xlabel("updates", fontsize=9)
        axes.set_ylabel(measure, fontsize=9)
    limits = [axes.get_ylim() for axes in panels[1:]]
    for axes in panels[1:]:
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    for axes in panels:
        axes.grid(visible=True, color=plots.GRID, lw=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    if learners:
        named = dict(zip(*reversed(panels[1].get_legend_handles_labels()), strict=True))
        figure.legend(
            named.values(), named.keys(), loc="outside lower center", ncols=len(named), fontsize=8, frameon=False
        )
    return figure


def _draw_intervals(axes: Axes, arms: Sequence[ArmResult], colours: Mapping[str, str], *, scored: bool) -> None:
    for row, arm in enumerate(arms):
        values = arm.values if scored else arm.returns
        interval = _interval(values)
        colour = "#777777" if arm.learner in ("bc", "bc10") else colours[arm.labels]
        axes.barh(row, interval.high - interval.low, 0.6, left=interval.low, color=colour, alpha=0.4, lw=0, zorder=2)
        axes.vlines(interval.point, row - 0.36, row + 0.36, color=colour, lw=2.2, zorder=3)
        axes.plot(values, np.full(len(values), row), "o", ms=2.6, color="#222222", alpha=0.7, zorder=4)
    axes.set_yticks(range(len(arms)), [arm.learner if arm.learner == "bc10" else arm.name for arm in arms])
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.use_sticky_edges = False  # the start of a bar is not the origin
    axes.margins(x=0.06)
    axes.set_xlabel("normalised score" if scored else "return", fontsize=9)
    several = len(arms[0].returns) > 1
    axes.set_title(f"mean, {CONFIDENCE:.0%} interval, seeds" if several else "one seed", fontsize=10)
