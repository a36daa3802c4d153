"""The published tables: complete, and equal to the figures that their papers' readers quote."""

import numpy as np
import pytest

from minimax_ued.evaluation.cvar import ALPHAS
from minimax_ued.evaluation.evaluate import OOD_MAZES
from minimax_ued.levels.suite import TEST_MAZES
from minimax_ued.report.published import CVAR_SFL, OOD_25, OOD_60, PUBLISHED


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
