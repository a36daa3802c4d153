"""Curves of what a run trained on, from rows of metrics."""

import numpy as np
import pytest

from minimax_ued.exhibits.history import KEPT_SPLIT, complexity_figure, read_history
from paperloop.errors import UserError


def train_row(step, walls, path, solvable, learn=1.0):
    return {
        "step": step,
        "wall": float(step),
        "split": "train",
        "level/n_walls": walls,
        "level/path_length": path,
        "level/solvable": solvable,
        "learn": [learn] * len(walls),
        "progress/env_steps": 100 * step,
    }


def kept_row(step, walls, kept):
    n = len(walls)
    row = {"step": step, "wall": float(step), "split": KEPT_SPLIT, "n_walls": walls, "kept": kept}
    return row | {"path_length": [4.0] * n, "solvable": [0.5] * n}


ROWS = [
    kept_row(0, [0.0, 0.0], [0.0, 0.0]),  # nothing is kept yet
    train_row(1, [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], learn=0.0),  # nothing was learned from yet
    train_row(2, [0.0, 2.0], [1.5, 2.0], [1.0, 0.5]),
    train_row(3, [4.0, 6.0], [3.0, 3.0], [1.0, 0.75]),
    kept_row(3, [10.0, 12.0], [7.0, 9.0]),
]


def test_rows_become_curves():
    learned, kept = read_history(ROWS)
    np.testing.assert_array_equal(learned["walls"].env_steps, [200, 300])
    np.testing.assert_array_equal(learned["walls"].values, [[0, 4], [2, 6]])
    # Of the solvable levels: the mean that is logged counts the others as 0.
    np.testing.assert_allclose(learned["path_length"].values, [[1.5, 3], [4, 4]])
    np.testing.assert_allclose(learned["solvable"].values, [[1, 1], [0.5, 0.75]])
    np.testing.assert_array_equal(kept["walls"].env_steps, [300])
    np.testing.assert_array_equal(kept["walls"].values, [[10], [12]])
    np.testing.assert_allclose(kept["path_length"].values, 8)
    first, last = learned["walls"].change
    assert (first.point, last.point) == (1.0, 5.0)
    assert (last.low, last.high) == (4.0, 6.0)


def test_a_run_that_keeps_nothing_has_one_row_of_figures():
    history = read_history([row for row in ROWS if row["split"] == "train"])
    assert history.kept == {}
    assert len(complexity_figure({"dr": history}).axes) == 3
    figure = complexity_figure({"dr": history, "accel": read_history(ROWS)})
    assert len(figure.axes) == 6
    walls = figure.axes[0]
    assert [line.get_label() for line in walls.lines] == ["dr", "accel"]
    np.testing.assert_array_equal(walls.lines[1].get_ydata(), [1, 5])
    assert walls.get_title(loc="left") == "walls"
    # One colour a run, in all panels.
    assert walls.lines[1].get_color() == figure.axes[3].lines[0].get_color() != walls.lines[0].get_color()


def test_a_run_without_mazes():
    rows = [{"step": 1, "wall": 1.0, "split": "train", "return": [0.5], "progress/env_steps": 100}]
    with pytest.raises(UserError, match="no metrics of the levels of mazes"):
        read_history(rows)
