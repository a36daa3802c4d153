"""The scorecard and its report: numbers from numbers, without a student."""

import dataclasses
import json
import re
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.stats import trim_mean

from minimax_ued.evaluation.cvar import WinRates
from minimax_ued.evaluation.evaluate import OOD_MAZES
from minimax_ued.exhibits.history import read_history
from minimax_ued.levels.held_out import held_out_levels
from minimax_ued.report.build import print_scorecard, to_json, write_report
from minimax_ued.report.scorecard import Measured, Scorecard

L = 40
TASKS = ("held out", "held out, hard", *OOD_MAZES)


def history(seeds):
    rows = [
        {
            "step": step,
            "wall": 1.0,
            "split": "train",
            "level/n_walls": [float(step)] * seeds,
            "level/path_length": [2.0 * step] * seeds,
            "level/solvable": [1.0] * seeds,
            "progress/env_steps": 1000 * step,
        }
        for step in (1, 2, 3)
    ]
    return read_history(rows)


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("runs")

    def one(seeds, **more):
        solved = {task: rng.random(seeds) for task in TASKS}
        returns = {task: 0.9 * rates for task, rates in solved.items()}
        regrets = {task: 0.95 - returns[task] for task in TASKS}
        return Measured(solved, returns, regrets, **more)

    def rates(seeds):
        ranking, measured = rng.integers(0, 6, (2, seeds, L)) / 5
        return WinRates(ranking, measured, measured * 0.8, 64 - 40 * measured)

    budget = {"method": "dr", "trained_on": "13 x 13 mazes, 60 walls", "network": "lstm-64", "env_steps": 1_000_000}
    budget |= {"updates": 30, "cycles": 30, "student": 0}
    levels = jax.tree.map(lambda x: x[:L], held_out_levels("maze13"))
    return Scorecard(
        tasks=TASKS,
        mazes=OOD_MAZES,
        measured={
            "dr": one(3, win_rates=rates(3), run=folder / "dr", source="dr", budget=budget, history=history(3)),
            "paired, student 1": one(1, win_rates=rates(1), run=folder / "paired", source="paired", budget=budget),
            "random policy": one(3, control=True),
        },
        tail=SimpleNamespace(
            name="maze13",
            levels=levels,
            n_levels=L,
            described=f"{L} solvable levels",
            attempts=5,
            path_lengths=np.arange(L) + 1,
            min_actions=2 * np.arange(L) + 1,
            optimal_returns=np.full(L, 0.9),
        ),
        own=None,
        settings={"seed": 0, "episodes": 10},
        notes=("Something was left out.",),
    )


def test_aggregates_are_those_of_scipy(card):
    found = card.aggregates()
    assert list(found) == ["dr", "paired, student 1", "random policy"]
    for label, values in found.items():
        scores = np.stack([card.measured[label].solved[name] for name in OOD_MAZES], axis=1)
        np.testing.assert_allclose(values["iqm"].point, trim_mean(scores, 0.25, axis=None))
        np.testing.assert_allclose(values["mean"].point, scores.mean())
        np.testing.assert_allclose(values["optimality_gap"].point, 1 - scores.mean())
        low, high = values["iqm"].low, values["iqm"].high
        assert (low == high) if len(scores) == 1 else (low < values["iqm"].point < high)


def test_worst_levels_and_regret(card):
    found = card.tails()
    assert set(found) == {"dr", "paired, student 1"}
    measured = card.measured["dr"].win_rates.measured
    np.testing.assert_allclose(found["dr"][1.0].point, measured.mean())
    np.testing.assert_allclose(card.tail_regrets()["dr"].point, 0.9 - 0.8 * measured.mean())
    assert sum(one.n for one in card.path_bins()["dr"]) == L


def test_json_holds_every_number(card):
    found = json.loads(json.dumps(to_json(card), allow_nan=False))
    assert found["tasks"] == list(TASKS)
    assert found["controls"] == ["random policy"]
    assert np.shape(found["solved"]["dr"]) == (3, len(TASKS))
    assert found["intervals"]["regrets"]["dr"]["Crossing"][0] == pytest.approx(
        card.measured["dr"].regrets["Crossing"].mean()
    )
    assert list(found["worst_levels"]["cvar"]["dr"]) == [f"{100 * alpha:g}" for alpha in card.alphas]
    assert found["training_levels"]["learned"]["dr"]["walls"][1][0] == 3.0
    assert {"versions", "argv"} <= set(found["provenance"])


@pytest.mark.slow
def test_the_report_has_its_figures(card, tmp_path):
    files = write_report(card, tmp_path / "new")
    assert {file.name for file in files} == {
        *("evaluation.md", "evaluation.json", "evaluation.png", "cvar.png", "path-length.png", "complexity.png"),
        *("mazes.png", "levels-dr.png", "levels-paired-student-1.png"),
    }
    text = (tmp_path / "new" / "evaluation.md").read_text()
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert len(pictures) == 7
    for name in pictures:  # relative to the report
        with Image.open(tmp_path / "new" / name) as picture:
            assert min(picture.size) > 100
    for table in (line for line in text.split("\n\n") if line.startswith("|")):
        columns = {row.count("|") for row in table.splitlines()}
        assert len(columns) == 1, table
    assert "Something was left out." in text
    assert "An interval of one seed (paired, student 1)" in text
    assert "arXiv 2408.15099" in text
    row = next(line for line in text.splitlines() if line.startswith("| Labyrinth |"))
    ours = card.measured["dr"].solved["Labyrinth"].mean()
    assert row.split("|")[2].strip().startswith(f"{ours:.2f}")


def test_tables_on_the_screen(card, capsys):
    print_scorecard(card)
    shown = capsys.readouterr().out
    assert "optimality" in shown
    # 0.1 % of these few levels is less than one of them.
    assert "0.1 %" not in shown
    assert "20 %" in shown
    assert card.alphas[-1] == 1.0
    assert "Note: Something was left out." in shown


def test_the_name_of_a_run_cannot_steer_the_terminal(card, capsys):
    print_scorecard(dataclasses.replace(card, measured={"a\x1b[2J[/b]": card.measured["dr"]}))
    shown = capsys.readouterr().out
    assert "\x1b[2J" not in shown
    assert "\\x1b[2J[/b]" in shown
