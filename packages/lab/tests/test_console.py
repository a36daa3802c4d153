"""Tables that fit: what is folded, and what never is."""

import pytest

from paperloop_lab.console import show

HEADINGS = ["arm", "agents", "start", "min/start", "recovered", "area", "final"]
ROWS = [
    ["td3c ε=0.0001 symmetric", "12 of 18", "1500.3", "0.19", "50000 steps", "1234.5", "3456.7"],
    ["td3", "18", "-1.0", "-0.07", "not", "9.0", "10.0"],
]


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
            rows[-1][0] += cells[0]
    return rows


@pytest.mark.parametrize("width", [40, 80, 120])
def test_names_fold_and_numbers_stay_whole(monkeypatch, capsys, width):
    monkeypatch.setenv("COLUMNS", str(width))
    show(HEADINGS, ROWS, title="a title [b]", caption="medians")
    text = capsys.readouterr().out
    assert [row[1:] for row in words(text)] == [row[1:] for row in ROWS]
    assert words(text)[0][0].replace(" ", "") == "td3cε=0.0001symmetric"
    assert "[b]" in text  # no markup
    assert "medians" in text
    if width == 120:
        assert "a title [b]" in text
        assert words(text) == ROWS


def test_control_characters_in_cells_are_shown_escaped(capsys):
    show(("agent", "return\x1b[0m"), [("a\x1b[31mb", "1.0")], title="t\x07")
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\\x1b" in text
