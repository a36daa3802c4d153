"""The published tables: complete, and equal to the figures that their papers' readers quote."""

import json

import numpy as np
import pytest

from benchmarks.minimax_published import CVAR_SFL, OOD_25, OOD_60, PUBLISHED, compared, main
from minimax_ued.evaluation.cvar import ALPHAS
from minimax_ued.levels.suite import OOD_MAZES, TEST_MAZES


@pytest.mark.parametrize("table", PUBLISHED.values(), ids=PUBLISHED)
def test_every_row_has_a_rate_for_every_method(table):
    assert all(len(values) == len(table.columns) for values in table.rows.values())
    values = np.array(list(table.rows.values()))
    assert ((values >= 0) & (values <= 1)).all()
    assert all(text for text in (table.citation, table.origin, table.budget, table.differs))
    assert "arXiv" in table.citation
    assert "steps" in table.budget or "updates" in table.budget


@pytest.mark.parametrize("table", [OOD_25, OOD_60])
def test_means_of_the_rows_are_the_mean(table):
    assert set(table.rows) <= set(TEST_MAZES)
    means = np.array([[mean for mean, _ in row] for row in table.rows.values()]).mean(0)
    np.testing.assert_allclose(means, [point for point, _, _ in table.aggregates["mean"]], atol=1e-3)
    for intervals in table.aggregates.values():
        assert all(low <= point <= high for point, low, high in intervals)


def test_the_headline_figures():
    """Interquartile means over the twelve mazes: DR .685, robust PLR .798, ACCEL .985."""
    assert tuple(OOD_60.rows) == OOD_MAZES
    assert [point for point, _, _ in OOD_60.aggregates["iqm"]] == [0.685, 0.798, 0.985]
    assert [point for point, _, _ in OOD_60.aggregates["mean"]] == [0.62, 0.709, 0.875]
    assert OOD_60.column("ACCEL")["SixteenRooms"] == (1.0, 0.0)


def test_tails_grow_with_alpha():
    assert list(CVAR_SFL.rows) == [f"{100 * alpha:g}" for alpha in ALPHAS]
    means = np.array([[mean for mean, _ in row] for row in CVAR_SFL.rows.values()])
    assert (np.diff(means, axis=0) > 0).all()
    assert CVAR_SFL.column("DR")["100"][0] == 0.9926


def test_evaluations_stand_next_to_the_mazes_that_the_tables_were_made_on(tmp_path, capsys):
    solved = {
        "Labyrinth": [0.5, 0.4, 0.6],
        "Crossing": [0.1, 0.1, 0.1],
        "CrossingDCD": [0.3, 0.2, 0.4],
        "FourRooms": None,
    }
    found = {"runs": {"dr": {}}, "intervals": {"solved": {"dr": solved}}}
    found["worst_levels"] = {"cvar": {"dr": {"10": [0.25, 0.2, 0.3]}}}
    lines = compared(OOD_60, {"e": found}).splitlines()
    cells = {line.split()[0]: line.split()[1] for line in lines[3:]}
    assert (cells["Labyrinth"], cells["Crossing"]) == ("0.50", "0.30")
    assert "20,000 PPO updates" in lines[-1]
    file = tmp_path / "evaluation.json"
    file.write_text(json.dumps(found))
    assert main([str(file)]) == 0
    shown = capsys.readouterr().out
    assert "budgets differ" in shown
    for words in ("arXiv 2203.01302", "arXiv 2110.02439", "arXiv 2408.15099", "3e8 environment steps", "CC BY-NC"):
        assert words in shown
    assert next(line for line in shown.splitlines() if line.startswith("10 ")).split()[1] == "0.25"
