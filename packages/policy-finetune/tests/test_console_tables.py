"""Tables that fit: what is folded, what is left out, and what never is."""

import io

import pytest
from rich.console import Console

from policy_finetune.report.tables import fitted, show

HEADINGS = ["arm", "agents", "start", "min/start", "recovered after", "area", "final"]
ROWS = [
    ["td3c ε=0.0001 symmetric", "12 of 18", "1500.3", "0.19", "50000 steps", "1234.5", "3456.7"],
    ["td3", "18", "-1.0", "-0.07", "not", "9.0", "10.0"],
]


def printed(width, **options):
    stream = io.StringIO()
    Console(file=stream, width=width, markup=False).print(fitted(HEADINGS, ROWS, width, **options))
    return stream.getvalue()


def words(text):
    """The cells of each row of the body; names that were folded over several lines are put together."""
    rows = []
    for line in text.splitlines():
        if not line.startswith("│"):
            continue
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        if any(cells[1:]):
            rows.append(cells)
        else:
            rows[-1][0] += " " + cells[0]
    return rows


def test_a_wide_console_shows_everything_on_one_line_each():
    text = printed(120, drop=("area", "start"))
    assert words(text) == ROWS
    assert "left out" not in text


def test_names_fold_before_anything_is_left_out():
    text = printed(80, drop=("area", "start"))
    assert words(text) == ROWS
    assert "left out" not in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(("width", "left"), [(80, []), (79, ["area"]), (71, ["area"]), (70, ["area", "start"])])
def test_columns_are_left_out_in_order_and_the_caption_says_so(width, left):
    text = printed(width, drop=("area", "start"), caption="medians")
    kept = [i for i, heading in enumerate(HEADINGS) if heading not in left]
    assert words(text) == [[row[i] for i in kept] for row in ROWS]
    said = f"medians; left out at this width: {', '.join(left)}" if left else "medians"
    assert " ".join(text.splitlines()[-1].split()) == said
    assert max(map(len, text.splitlines())) <= width


def test_numbers_stay_whole_on_a_console_that_is_too_narrow(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    show(HEADINGS, ROWS, drop=("area", "start"))
    kept = [i for i, heading in enumerate(HEADINGS) if heading not in ("area", "start")]
    assert words(capsys.readouterr().out) == [[row[i] for i in kept] for row in ROWS]


def test_several_columns_of_names(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    names = [["hopper/medium-replay[old]", *row] for row in ROWS]
    show(["dataset", *HEADINGS], names, labels=2, drop=("recovered after", "area"), title="a title [b]")
    text = capsys.readouterr().out
    assert "a title [b]" in text
    assert "[old]" in text  # no markup
    assert "3456.7" in text
    assert "left out at this width: recovered after, area" in text


def test_control_characters_in_cells_are_shown_escaped():
    table = fitted(("agent", "return"), [("a\x1b[31mb", "1.0")], 80, title="t\x07")
    assert next(iter(table.columns[0].cells)) == "a\\x1b[31mb"
    assert table.title == "t\\x07"
