"""Curves pooled from run folders, and figures of which the drawn numbers are checked."""

import json
import subprocess
import sys

import numpy as np
import pytest

from paperloop.errors import UserError
from paperloop_lab import plots, stats


def write_run(folder, steps, values, *, name="solve_rate", split="mazes", seconds=2.0, per_step=32):
    """A run whose metric has the given values at the given steps."""
    folder.mkdir(parents=True)
    with (folder / "metrics.jsonl").open("w") as file:
        for step, value in zip(steps, values, strict=True):
            train = {"step": step, "wall": step * seconds, "split": "train", "progress/env_steps": step * per_step}
            row = {"step": step, "wall": step * seconds, "split": split, name: np.asarray(value).tolist()}
            file.write(json.dumps(train) + "\n" + json.dumps(row) + "\n")
    return folder


def test_seeds_of_an_axis_and_of_folders_are_pooled_on_common_points(tmp_path):
    a = write_run(tmp_path / "a", [0, 10, 20], [[0.0, 0.2], [0.5, 0.7], [1.0, 0.8]])
    b = write_run(tmp_path / "b", [5, 15, 25], [0.1, 0.3, 0.5])
    points, values = plots.pool_curves([a, b], "solve_rate", "mazes")
    np.testing.assert_array_equal(points, [5, 10, 15, 20])  # where all three seeds have values
    np.testing.assert_allclose(values[:, 0], [[0.25, 0.5, 0.75, 1.0], [0.45, 0.7, 0.75, 0.8], [0.1, 0.2, 0.3, 0.4]])


def test_axes_behind_the_seeds_are_tasks(tmp_path):
    a = write_run(tmp_path / "a", [0, 1], np.arange(12.0).reshape(2, 2, 3))
    _, values = plots.pool_curves([a], "solve_rate", "mazes")
    assert values.shape == (2, 3, 2)
    np.testing.assert_array_equal(values[1, 2], [5, 11])


def test_long_curves_are_averaged_in_bins(tmp_path):
    noise = np.random.default_rng(0).normal(size=(1_000, 1))
    a = write_run(tmp_path / "a", range(1_000), noise)
    points, values = plots.pool_curves([a], "solve_rate", "mazes", points=10)
    assert points.shape == (10,)
    np.testing.assert_allclose(values[0, 0], noise.reshape(10, 100).mean(axis=1), atol=0.02)
    assert points[0] == pytest.approx(49.95)


def test_rows_without_a_value_are_left_out_for_that_seed(tmp_path):
    a = write_run(tmp_path / "a", [0, 1, 2], [[np.nan, 0.0], [2.0, 1.0], [4.0, 2.0]])
    points, values = plots.pool_curves([a], "solve_rate", "mazes")
    np.testing.assert_array_equal(points, [1, 2])
    np.testing.assert_array_equal(values[:, 0], [[2, 4], [1, 2]])


@pytest.mark.parametrize(("x", "end"), [("step", 20), ("wall", 40), ("env_steps", 640), ("progress/env_steps", 640)])
def test_abscissae(tmp_path, x, end):
    a = write_run(tmp_path / "a", [0, 10, 20], [0.0, 0.5, 1.0])
    assert plots.pool_curves([a], "solve_rate", "mazes", x=x)[0][-1] == end


def test_curves_show_the_statistic_and_its_interval(tmp_path):
    curves = np.random.default_rng(0).random((4, 6))
    a = write_run(tmp_path / "a", range(4), curves)
    b = write_run(tmp_path / "b", range(4), curves[:, 0])
    pooled = {name: plots.pool_curves([run], "solve_rate", "mazes") for name, run in (("ACCEL", a), ("DR", b))}
    figure = plots.curves_figure(pooled, "solve_rate", "mazes", reps=500, seed=3)
    (axes,) = figure.axes
    expected = stats.curve_interval(curves.T, reps=500, seed=3)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), expected.point)
    np.testing.assert_allclose(axes.lines[1].get_ydata(), curves[:, 0])
    (band,) = axes.collections  # the single seed has none
    vertices = band.get_paths()[0].vertices
    assert {*np.round(expected.low, 9), *np.round(expected.high, 9)} <= {*np.round(vertices[:, 1], 9)}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "solve rate")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["ACCEL, n=6", "DR, n=1"]


def test_many_lines_are_told_apart():
    curves = {f"method {i}": (np.arange(2.0), np.full((1, 1, 2), i)) for i in range(9)}
    axes = plots.curves_figure(curves, "solve_rate", "mazes").axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [f"{label}, n=1" for label in curves]
    looks = {(line.get_color(), str(line.get_linestyle())) for line in axes.lines}
    assert len(looks) == 9


@pytest.mark.parametrize("text", ["$x_", "$a_$", "$$", "a_{b", r"\frac{", "x\x1b[31m", "50% $\\"])
def test_text_is_drawn_as_it_is(text, tmp_path):
    """As matplotlib reads the text of titles, labels and legends: no formula, and no character left out."""
    bars = plots.interval_bars({text: {text: stats.Interval(0.5, 0.4, 0.7)}}, xlabel=text, title=text)
    plots.save_figure(bars, tmp_path / "a.png")
    curves = plots.curves_figure({text: (np.arange(2.0), np.ones((2, 1, 2)))}, "solve_rate", text, x="step")
    plots.save_figure(curves, tmp_path / "b.png")
    shown = text.replace("\x1b", "\\x1b")
    (axes,) = bars.axes
    for drawn in (axes.title, axes.xaxis.label, axes.get_yticklabels()[0], *bars.texts):
        assert as_drawn(drawn) == shown
    assert as_drawn(curves.axes[0].get_legend().get_texts()[0]) == f"{shown}, n=2"


def as_drawn(text):
    """The characters that matplotlib draws; a formula would be drawn without its signs."""
    string, formula = text._preprocess_math(text.get_text())
    assert formula is False, "read as a formula"
    return string


def test_interval_bars_span_the_intervals():
    panel = {"A": stats.Interval(0.5, 0.4, 0.7), "B": stats.Interval(0.2, 0.1, 0.3)}
    figure = plots.interval_bars({"IQM": panel, "Mean": {"B": panel["B"]}}, xlabel="score", title="12 mazes")
    first, second = figure.axes
    assert [(p.get_x(), pytest.approx(p.get_x() + p.get_width())) for p in first.patches] == [(0.4, 0.7), (0.1, 0.3)]
    assert len(second.patches) == 1
    assert [text.get_text() for text in first.get_yticklabels()] == ["A", "B"]


def test_a_figure_is_saved_whole_or_not_at_all(tmp_path, monkeypatch):
    figure = plots.interval_bars({"IQM": {"A": stats.Interval(0.5, 0.4, 0.7)}})
    path = plots.save_figure(figure, tmp_path / "new" / "bars.png")
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    vector = path.with_suffix(".pdf").read_bytes()
    assert vector.startswith(b"%PDF")
    assert b"CreationDate" not in vector

    def fail(temporary, **_):
        temporary.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(UserError, match=r"bars\.png cannot be written \(No space left"):
        plots.save_figure(figure, path)
    assert path.read_bytes() == content
    assert sorted(p.name for p in path.parent.iterdir()) == ["bars.pdf", "bars.png"]


def test_importing_needs_no_matplotlib_and_drawing_no_pyplot():
    code = (
        "import sys; from paperloop_lab import plots, stats; assert 'matplotlib' not in sys.modules;"
        "plots.interval_bars({'IQM': {'A': stats.Interval(.5, .4, .7)}}); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_bad_input_is_one_clear_sentence(tmp_path):
    a = write_run(tmp_path / "a", [0, 1], [0.0, 1.0])
    late = write_run(tmp_path / "late", [5, 6], [0.0, 1.0])
    tasks = write_run(tmp_path / "tasks", [0, 1], [[[1.0, 2.0]], [[1.0, 2.0]]])
    nothing = write_run(tmp_path / "nothing", [0, 1], [np.nan, np.nan])
    for folders, metric, message in [
        ([a, late], "solve_rate", "no point in common"),
        ([a, tasks], "solve_rate", "different axes"),
        ([nothing], "solve_rate", "no finite value"),
        ([a], "solved_rate", f"no metric 'solved_rate' in split 'mazes' of {a}; did you mean \"solve_rate\""),
        ([tmp_path / "absent"], "solve_rate", "absent.*does not exist"),
    ]:
        with pytest.raises(UserError, match=message):
            plots.pool_curves(folders, metric, "mazes")
    with pytest.raises(UserError, match="no counter 'frames'"):
        plots.pool_curves([a], "solve_rate", "mazes", x="frames")
    with pytest.raises(UserError, match="nothing to draw"):
        plots.interval_bars({})
    with pytest.raises(UserError, match="nothing to draw"):
        plots.curves_figure({}, "solve_rate")


@pytest.mark.parametrize(
    ("value", "text"), [(0.84712, "0.847"), (130.4, "130"), (12.345, "12.3"), (0.0, "0.000"), (1.2e-5, "1.20e-05"),
                        (2.5e7, "2.50e+07"), (-0.0104, "-0.0104"), (float("nan"), "–")]
)  # fmt: skip
def test_numbers_have_three_significant_digits(value, text):
    assert plots.significant(value) == text
