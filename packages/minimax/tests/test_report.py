"""The report of an evaluation: numbers from numbers, without a student."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from scipy.stats import trim_mean

from minimax_ued.evaluation.cvar import ALPHAS
from minimax_ued.evaluation.measure import Evaluation, Measured
from minimax_ued.evaluation.report import print_evaluation, to_json, write_evaluation
from minimax_ued.levels.suite import OOD_MAZES

TASKS = ("held out", "held out, hard", *OOD_MAZES)
FACTS = {
    **{"folder": "runs/dr", "method": "dr", "trained_on": "13 x 13 mazes, 60 walls", "network": "lstm-64"},
    **{"env_steps": 1_000_000, "updates": 30, "seeds": 3, "student": 0},
}


@pytest.fixture(scope="module")
def found():
    rng = np.random.default_rng(0)

    def one(seeds, facts):
        solved = {task: rng.random(seeds) for task in TASKS}
        returns = {task: 0.9 * rates for task, rates in solved.items()}
        regrets = {task: 0.95 - returns[task] for task in TASKS}
        return Measured(solved, returns, regrets, {a: rng.random(seeds) for a in ALPHAS[1:]} if facts else {}, facts)

    measured = {"dr": one(3, FACTS), "paired, student 1": one(1, FACTS), "random policy": one(3, {})}
    settings = {"seed": 0, "episodes": 10, "cvar_attempts": 5}
    return Evaluation(TASKS, OOD_MAZES, measured, "40 levels of maze13", settings, ("Something was left out.",))


def test_aggregates_are_those_of_scipy(found):
    aggregates = found.aggregates()
    assert list(aggregates) == ["dr", "paired, student 1", "random policy"]
    for label, values in aggregates.items():
        scores = np.stack([found.measured[label].solved[name] for name in OOD_MAZES], axis=1)
        np.testing.assert_allclose(values["iqm"].point, trim_mean(scores, 0.25, axis=None))
        np.testing.assert_allclose(values["mean"].point, scores.mean())
        np.testing.assert_allclose(values["optimality_gap"].point, 1 - scores.mean())
        low, high = values["iqm"].low, values["iqm"].high
        assert (low == high) if len(scores) == 1 else (low < values["iqm"].point < high)


def test_json_holds_every_number(found):
    plain = json.loads(json.dumps(to_json(found), allow_nan=False))
    assert plain["tasks"] == list(TASKS)
    assert plain["controls"] == ["random policy"]
    assert plain["solved"]["dr"] == {task: values.tolist() for task, values in found.measured["dr"].solved.items()}
    regret = found.measured["dr"].regrets["Crossing"].mean()
    assert plain["intervals"]["regrets"]["dr"]["Crossing"][0] == pytest.approx(regret)
    assert list(plain["worst_levels"]["cvar"]) == ["dr", "paired, student 1"]
    assert list(plain["worst_levels"]["cvar"]["dr"]) == ["1", "2", "5", "10", "20", "100"]
    assert {"versions", "argv"} <= set(plain["provenance"])


def test_the_report_has_its_figure(found, tmp_path):
    files = write_evaluation(found, tmp_path / "new")
    assert [file.name for file in files] == ["evaluation.md", "evaluation.json", "evaluation.png"]
    with Image.open(files[2]) as picture:
        assert min(picture.size) > 100
    text = files[0].read_text()
    for table in (part for part in text.split("\n\n") if part.startswith("|")):
        assert len({row.count("|") for row in table.splitlines()}) == 1, table
    assert "Something was left out." in text
    assert "arXiv 2408.15099" in text
    row = next(line for line in text.splitlines() if line.startswith("| Labyrinth |"))
    assert row.split("|")[2].strip().startswith(f"{found.measured['dr'].solved['Labyrinth'].mean():.2f}")
    assert "| worst | dr | paired, student 1 |" in text


def test_tables_on_the_screen_cannot_steer_the_terminal(found, capsys):
    print_evaluation(dataclasses.replace(found, measured={"a\x1b[2J[/b]": found.measured["dr"]}))
    shown, said = capsys.readouterr()
    assert "\x1b[2J" not in shown
    assert "\\x1b[2J[/b]" in shown
    assert "optimality" in shown
    assert "20 %" in shown
    assert "note: Something was left out." in said
