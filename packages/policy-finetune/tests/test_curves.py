"""Reading CORL's curves: the published table, a file made here, and files that must be refused."""

import io
import os
import pickle
import pickletools
import struct
from pathlib import Path

import numpy as np
import pytest

from paperloop.errors import UserError
from policy_finetune.measures import curves
from policy_finetune.measures.aggregate import summarise
from policy_finetune.measures.collapse import collapse_metrics
from policy_finetune.measures.curves import CORL_GROUPS, corl_markdown, corl_table, read_corl_curves

NAME = "results/bin/finetune_scores.pickle"


def published_file() -> Path:
    if given := os.environ.get("CORL_FINETUNE_SCORES"):
        return Path(given)
    for folder in Path(__file__).resolve().parents:
        found = folder / ".cache" / "peers" / "corl" / "src" / NAME
        if found.exists():
            return found
    pytest.skip("CORL's finetune_scores.pickle is not here: set CORL_FINETUNE_SCORES to its path")


def written(folder: Path, content, protocol: int = 4) -> Path:
    path = folder / "scores.pickle"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def small():
    """Two algorithms, ten tasks, two seeds; of unequal lengths, as the published file is."""
    tasks = [task for group in CORL_GROUPS.values() for task in group]
    content = {}
    for a, algorithm in enumerate(("IQL", "ReBRAC")):
        content[algorithm] = {}
        for t, task in enumerate(tasks):
            # the last common evaluation is the third: offline t and t + 2, online 10 a + t and 10 a + t + 4
            content[algorithm][task] = [
                (
                    [np.float64(0), np.float64(1), np.float64(t)],
                    [5.0, 6.0, np.float64(10 * a + t), 99.0],
                    np.float64(0.25),
                ),
                ([0.0, 1.0, t + 2.0, 77.0], [np.float64(5), 6, np.float32(10 * a + t + 4)], 0.75),
            ]
    return content


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_table_by_hand(tmp_path, protocol):
    table = corl_table(read_corl_curves(written(tmp_path, small(), protocol)))
    assert list(table)[:2] == ["antmaze-umaze-v2", "antmaze-umaze-diverse-v2"]
    assert [row for row in table if "average" in row] == ["antmaze average", "adroit average", "total average"]
    assert table["antmaze-umaze-v2"]["IQL"] == (1, 1, 2, 2, 0.5, 0.25)
    assert table["relocate-cloned-v1"]["ReBRAC"] == (10, 1, 21, 2, 0.5, 0.25)
    averages = table["antmaze average"]["ReBRAC"], table["adroit average"]["ReBRAC"], table["total average"]["ReBRAC"]
    assert [cell.offline for cell in averages] == [3.5, 8.5, 5.5]
    assert [cell.online for cell in averages] == [14.5, 19.5, 16.5]
    assert np.isnan(averages[0].online_sd)
    text = corl_markdown(table)
    assert "| antmaze-umaze-v2 | 1.00 ± 1.00 → 2.00 ± 2.00 | 1.00 ± 1.00 → 12.00 ± 2.00 |" in text
    assert "| total average | 5.50 → 6.50 | 5.50 → 16.50 |" in text
    assert "| total average | 0.50 | 0.50 |" in corl_markdown(table, "regret")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", "<i8"])
def test_arrays_in_every_protocol(tmp_path, protocol, dtype):
    grid = np.arange(6, dtype=dtype)
    content = {"A": {"t": [(grid, grid[::2], None), (list(grid), tuple(grid.tolist()), grid[1])]}}
    runs = read_corl_curves(written(tmp_path, content, protocol))["A"]["t"]
    assert runs[0].offline.tolist() == [0, 1, 2, 3, 4, 5]
    assert runs[0].online.tolist() == [0, 2, 4]
    assert np.isnan(runs[0].regret)
    assert runs[1].offline.tolist() == runs[1].online.tolist() == [0, 1, 2, 3, 4, 5]
    assert runs[1].regret == 1
    assert runs[0].offline.dtype == np.float64


def test_fortran_order_is_kept():
    wanted = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    read = curves._NumbersOnly(io.BytesIO(pickle.dumps(wanted, protocol=2))).load()
    assert read.value.tolist() == wanted.tolist()


class Malicious:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_runs_a_command_is_refused(tmp_path, protocol):
    mark = tmp_path / "ran"
    content = {"IQL": {"t": [(Malicious(os.system, f"touch {mark}"), [1.0], 0.0)]}}
    path = written(tmp_path, content, protocol)
    with pytest.raises(UserError, match=r"asks for (posix|nt)\.system"):
        read_corl_curves(path)
    assert not mark.exists()
    pickle.loads(path.read_bytes())  # the file is as bad as it claims
    assert mark.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (Malicious(eval, "1"), r"builtins\.eval"),
        (Malicious(getattr, "a", "b"), r"builtins\.getattr"),
        (Malicious(np.load, "x", None, True), r"numpy\.load"),
        (Path, r"pathlib.*\.Path"),
        (np.array([object()]), r"elements of type 'O8'"),
        (np.array(["a"]), r"elements of type '[<]?U1'"),
        ({"a": {1, 2}}, "has no tasks"),
        (np.zeros(1, dtype=[("x", float)]), "elements of type 'V8'"),
    ],
)
def test_other_globals_and_types_are_refused(tmp_path, content, words):
    with pytest.raises(UserError, match=words):
        read_corl_curves(written(tmp_path, content))


def stream(*parts: bytes) -> bytes:
    return b"\x80\x04" + b"".join(parts) + b"."


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + b"\x93"


SCALAR, DTYPE = name("numpy.core.multiarray", "scalar"), name("numpy", "dtype")
FLOAT = DTYPE + text("f8") + b"\x85R"  # dtype("f8")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        # set the state of what may be called: neither an attribute ...
        (stream(SCALAR, b"}", text("__call__"), b"K\x01sb"), "state of a function"),
        # ... nor, by a state of two, a slot
        (stream(SCALAR, b"N}", text("_make"), b"K\x01s\x86b"), "state of a function"),
        (stream(SCALAR, FLOAT, b"C\x04abcd", b"\x86R"), "another size"),
        (stream(SCALAR, text("f8"), b"C\x04abcd", b"\x86R"), "malformed"),
        (stream(DTYPE, text("O"), b"\x85R"), "elements of type 'O'"),
        (stream(DTYPE, b"K\x01\x85R"), "elements of type 1"),
        (stream(FLOAT, b"K\x03\x85b"), "malformed"),
        (stream(name("numpy", "ndarray"), b")Rb"), "not a readable pickle"),
        (stream(name("numpy", "ndarray"), b")R", b")b"), "array is malformed"),
        (stream(name("os", "system.__call__")), r"os\.system"),
        (stream(name("numpy.core.multiarray", "scalar.__init__")), r"scalar\.__init__"),
        (stream(b"\x82\x01"), "not a readable pickle|asks for"),  # an extension code
        (stream(text("x"), b"Q"), "outside of the file"),
        (stream(b"(", b"i" + b"os\nsystem\n"), r"os\.system"),
        (b"", "not a readable pickle"),
        (b"no pickle at all", "not a readable pickle"),
        (stream(b"K\x01"), "no learning curves"),
        (stream(b"r" + struct.pack("<I", 5)), "not a readable pickle"),
    ],
)
def test_hand_made_streams_are_refused(tmp_path, content, words):
    path = tmp_path / "x.pickle"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_corl_curves(path)
    # Whatever they tried, the reader still reads afterwards.
    assert read_corl_curves(written(tmp_path, {"A": {"t": [([1.0], [np.float64(2)], 0)]}}))["A"]["t"][0].online == [2]


def test_every_truncation_is_one_clear_error(tmp_path):
    whole = pickle.dumps({"A": {"t": [([np.float64(1), 2.0], np.arange(3.0), 0.5)]}}, protocol=4)
    path = tmp_path / "x.pickle"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"x\.pickle"):
            read_corl_curves(path)


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        {"A": 1},
        {1: {}},
        {"A": {"t": 1}},
        {"A": {"t": [1]}},
        {"A": {"t": [([1.0], [1.0])]}},
        {"A": {"t": [([], [1.0], 0)]}},
        {"A": {"t": [(["x"], [1.0], 0)]}},
        {"A": {"t": [([[1.0], [1.0, 2.0]], [1.0], 0)]}},
        {"A": {"t": [(np.zeros((2, 2)), [1.0], 0)]}},
        {"A": {"t": [([1.0], [1.0], "regret")]}},
    ],
)
def test_other_shapes_are_refused(tmp_path, content):
    with pytest.raises(UserError, match=r"scores\.pickle"):
        read_corl_curves(written(tmp_path, content))


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_corl_curves(tmp_path / "none.pickle")


def test_unknown_tasks_and_missing_cells(tmp_path):
    content = {"A": {"new-task": [([1.0], [2.0], 0)], "pen-cloned-v1": []}, "B": {"pen-cloned-v1": [([1.0], [3.0], 0)]}}
    table = corl_table(read_corl_curves(written(tmp_path, content)))
    assert {row: list(cells) for row, cells in table.items()} == {"pen-cloned-v1": ["B"], "new-task": ["A"]}
    assert corl_markdown(table).splitlines()[2] == "| pen-cloned-v1 | 1.00 ± 0.00 → 3.00 ± 0.00 |  |"
    with pytest.raises(UserError, match="what"):
        corl_markdown(table, "both")


# ------------------------------------------------------------------------------------------------ the published file

# CORL's README at commit eeeeef2: offline → online, and regret, of some tasks and the averages.
PUBLISHED = {
    "antmaze average": {
        "AWAC": (18.12, 16.46, 0.82),
        "CQL": (48.38, 95.58, 0.11),
        "IQL": (56.29, 78.50, 0.24),
        "SPOT": (52.88, 92.38, 0.15),
        "Cal-QL": (53.04, 97.33, 0.07),
        "ReBRAC": (80.00, 78.88, 0.11),
    },
    "adroit average": {
        "AWAC": (22.84, 21.76, 0.86),
        "CQL": (-0.72, 0.22, 0.99),
        "IQL": (21.69, 44.99, 0.71),
        "SPOT": (2.43, 11.81, 0.89),
        "Cal-QL": (-0.76, -0.79, 0.99),
        "ReBRAC": (20.33, 93.04, 0.33),
    },
    "antmaze-umaze-diverse-v2": {"AWAC": (56.00, 0.00, 0.88), "ReBRAC": (73.75, 98.00, 0.04)},
    "antmaze-large-play-v2": {"IQL": (38.50, 64.50, 0.34), "ReBRAC": (68.50, 31.50, 0.14)},
    "pen-cloned-v1": {"IQL": (84.19, 102.02, 0.37), "ReBRAC": (74.04, 138.15, 0.08)},
}
PUBLISHED_SD = {  # offline, online, regret
    ("antmaze-large-play-v2", "ReBRAC"): (6.18, 33.56, 0.05),
    ("pen-cloned-v1", "IQL"): (3.96, 20.75, 0.01),
}


def test_the_published_table_to_two_decimals():
    table = corl_table(read_corl_curves(published_file()))
    for row, cells in PUBLISHED.items():
        for algorithm, numbers in cells.items():
            cell = table[row][algorithm]
            # half a hundredth, and what is left where the printed half was rounded to the even digit
            assert (cell.offline, cell.online, cell.regret) == pytest.approx(numbers, abs=0.005 + 1e-9), (
                row,
                algorithm,
            )
    for (row, algorithm), numbers in PUBLISHED_SD.items():
        cell = table[row][algorithm]
        assert (cell.offline_sd, cell.online_sd, cell.regret_sd) == pytest.approx(numbers, abs=0.005 + 1e-9)


def markdown_rows(text: str) -> dict[str, dict[str, str]]:
    """Row -> column -> cell of the first table in a text; spaces around arrows are evened out, averages not bold."""
    lines = [[c.strip(" *") for c in line.strip().strip("|").split("|")] for line in text.splitlines() if "|" in line]
    (_, *columns), _, *rows = lines
    return {
        row[0]: {name: " → ".join(part.strip() for part in cell.split("→")) for name, cell in zip(columns, row[1:])}  # noqa: B905
        for row in rows
        if row[0]
    }


def test_every_cell_of_the_published_table():
    path = published_file()
    readme = path.parents[2] / "README.md"
    if path.parts[-3:-1] != ("results", "bin") or not readme.exists():
        pytest.skip("CORL's README.md, which has the published table, does not lie two folders above the curves")
    scores, regrets = readme.read_text(encoding="utf-8").split("### Offline-to-Online")[1].split("#### Regrets")
    table = corl_table(read_corl_curves(path))
    for text, what, cells in ((scores, "scores", 72), (regrets.split("## ")[0], "regret", 72)):
        published, ours = markdown_rows(text), markdown_rows(corl_markdown(table, what))
        compared = 0
        for row, columns in published.items():
            for algorithm, cell in columns.items():
                assert ours[row][algorithm] == cell, (what, row, algorithm)
                compared += 1
        assert compared == cells


def test_the_published_file_needs_two_globals_only():
    wanted = {"numpy.core.multiarray scalar", "numpy dtype"}
    strings, found = [], set()
    for opcode, argument, _ in pickletools.genops(published_file().read_bytes()):
        if opcode.name == "SHORT_BINUNICODE":
            strings.append(argument)
        elif opcode.name == "STACK_GLOBAL":
            found.add(" ".join(strings[-2:]))
    assert found == wanted


def test_collapse_is_visible_in_the_published_curves():
    published = read_corl_curves(published_file())
    runs = published["AWAC"]["antmaze-umaze-diverse-v2"]
    awac = summarise({"umaze": {str(i): run.finetuning() for i, run in enumerate(runs)}})
    assert awac.metrics["collapsed"].mean == 1  # 56 → 0, and never back
    assert awac.metrics["recovered"].mean == 0
    assert awac.metrics["relative_drop"].iqm.point == 1
    calql = published["Cal-QL"]["antmaze-umaze-v2"]
    steps = calql[0].finetuning().steps
    m = collapse_metrics(steps, np.stack([np.asarray(run.finetuning().scores) for run in calql]))
    assert not m.collapsed.any()
    assert m.recovered.all()
