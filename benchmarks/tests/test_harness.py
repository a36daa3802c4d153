"""The harness itself: turns, ratios, absent and dying contestants, what a result may hold."""

import json
import re
import sys

import pytest

from benchmarks import harness
from benchmarks.harness import ChildProcess, Comparison, InProcess, alternate

#: A contestant that speaks the protocol and does `work` units, chatting on standard output as libraries do.
CHILD = """
import sys
sys.path.insert(0, "benchmarks/peers")
from serve import serve
def setup():
    print("a library's greeting")
    def trial():
        print("more chatter")
        return {"work": int(sys.argv[1])}
    return {"parameters": 3}, trial
serve(setup)
"""
SILENT = {"log": lambda text: None}


def child(name, work, **options):
    return ChildProcess(name, ["-c", CHILD, str(work)], **options)


def test_children_take_turns_and_their_chatter_does_not_break_the_conversation():
    comparison, check = alternate([child("a", 7), child("b", 5)], 3, lambda c: {"seen": sorted(c.trials)}, **SILENT)
    assert [[t["work"] for t in comparison.trials[n]] for n in "ab"] == [[7] * 3, [5] * 3]
    assert comparison.info["a"]["parameters"] == 3
    assert check == {"seen": ["a", "b"]}


def test_every_round_asks_each_contestant_once_in_order():
    order = []

    def contestant(name):
        return InProcess(name, lambda: ({}, lambda: order.append(name) or {"work": 1}))

    alternate([contestant("a"), contestant("b")], 3, **SILENT)
    assert "".join(order) == "ababab"


def test_a_ratio_is_taken_round_by_round():
    def rows(*seconds):
        return [{"work": 10, "wall_s": s, "cpu_s": 2 * s} for s in seconds]

    comparison = Comparison({}, {"ours": rows(1, 2, 5), "peer": rows(3, 4, 50)}, {})
    ratio = comparison.ratio("ours", "peer")
    assert (ratio.median, ratio.low, ratio.high) == pytest.approx((3, 2, 10))
    assert comparison.rate("ours") == pytest.approx(5)
    assert comparison.rate("ours", "cpu_s") == pytest.approx(2.5)
    assert comparison.fastest(["peer", "ours", "absent"]) == "ours"
    assert comparison.fastest(["absent"]) is None


def test_an_absent_peer_is_skipped_with_the_reason_and_the_others_play(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "PEERS", harness.ROOT / ".cache" / "no-such-folder")
    comparison, _ = alternate([child("a", 1), child("peer", 1, peer="peer")], 1, **SILENT)
    assert list(comparison.trials) == ["a"]
    assert "peer is not installed" in comparison.skipped["peer"]
    assert "peers.md" in comparison.skipped["peer"]


def test_a_peer_that_cannot_start_is_skipped_with_its_last_words(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "PEERS", tmp_path)
    python = tmp_path / "peer" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    dying = ChildProcess("broken", ["-c", "raise SystemExit('no such thing as maze')"], peer="peer")
    comparison, _ = alternate([dying, child("a", 1)], 1, **SILENT)
    assert list(comparison.trials) == ["a"]
    assert "no such thing as maze" in comparison.skipped["broken"]


def test_an_arm_of_ours_that_cannot_start_is_an_error():
    dying = ChildProcess("broken", ["-c", "raise SystemExit('no such number of updates')"])
    with pytest.raises(harness.ContestantError, match="broken died at its start: no such number of updates"):
        alternate([child("a", 1), dying], 1, **SILENT)


def test_a_contestant_that_dies_on_the_way_is_an_error():
    code = "import sys; print('{\"ready\": true, \"setup_wall_s\": 0}', flush=True); input(); sys.exit('out of luck')"
    with pytest.raises(harness.ContestantError, match=r"broken died at its trial: out of luck"):
        alternate([ChildProcess("broken", ["-c", code])], 1, **SILENT)


@pytest.mark.skipif(not hasattr(__import__("os"), "sched_setaffinity"), reason="pinning needs Linux")
def test_a_contestant_is_pinned_with_its_thread_pools():
    code = CHILD.replace(
        '{"parameters": 3}',
        '{"cores": sorted(__import__("os").sched_getaffinity(0)), '
        '"threads": __import__("os").environ["OMP_NUM_THREADS"]}',
    )
    core = min(__import__("os").sched_getaffinity(0))
    comparison, _ = alternate([ChildProcess("a", ["-c", code, "1"], cores=[core])], 1, **SILENT)
    assert comparison.info["a"]["cores"] == [core]
    assert comparison.info["a"]["threads"] == "1"


def test_a_result_is_replaced_whole_and_names_neither_path_nor_host(tmp_path):
    import socket

    given = [
        "--rounds",
        "3",
        "--out",
        "/scratch/bench/",
        f"--data={tmp_path}/a.hdf5",
        "~/b",
        "c/d",
        "--lr=1/3",
        "C:\\e\\f",
    ]
    origin = harness.record("benchmarks.example", given)
    expected = "python -m benchmarks.example --rounds 3 --out bench --data=a.hdf5 b c/d --lr=1/3 f"
    assert origin["command"] == expected
    path = harness.write_result("example", {**origin, "ratio": harness.Ratio(2.0, 1.0, 3.0)}, tmp_path)
    text = path.read_text()
    assert json.loads(text)["ratio"] == {"median": 2.0, "low": 1.0, "high": 3.0}
    assert str(harness.ROOT) not in text
    assert sys.prefix not in text
    assert f'"{socket.gethostname()}"' not in text
    with pytest.raises(TypeError):
        harness.write_result("example", {"bad": object()}, tmp_path)
    assert path.read_text() == text


ABSOLUTE = re.compile(r"(?<![\w./)\]])(?:/[\w.-]+|~/|[A-Za-z]:\\)")


def strings(value):
    """Every string of a JSON document, keys included."""
    if isinstance(value, dict):
        return [text for key, below in value.items() for text in (key, *strings(below))]
    if isinstance(value, list):
        return [text for below in value for text in strings(below)]
    return [value] if isinstance(value, str) else []


def test_what_an_absolute_path_is():
    for text in ("/scratch/bench", "--out /a/x", "--out=/b/u", "at ~/x", "'/data/y'", "C:\\x", "(/opt/z)"):
        assert ABSOLUTE.search(text), text
    for text in ("steps/s", "runs/x", "https://arxiv.org/abs/1", "1 / 3", "(a + b)/c", "../x", "~3"):
        assert not ABSOLUTE.search(text), text


@pytest.mark.parametrize("path", sorted(harness.RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_no_result_names_a_place_on_the_machine_that_made_it(path):
    found = [text for text in strings(json.loads(path.read_text())) if ABSOLUTE.search(text)]
    assert found == []


def test_level_statistics_against_levels_that_can_be_counted_by_hand():
    import numpy as np

    from benchmarks.peers.serve import level_statistics

    walls = np.zeros((3, 3, 3), bool)
    walls[1, :, 1] = True  # a full wall between start and goal
    walls[2, :2, 1] = True  # round its lower end: down 2, right 2, up 2
    agents, goals = np.array([[0, 0]] * 3), np.array([[2, 0]] * 3)
    got = level_statistics(walls, agents, goals)
    assert got["walls_mean"] == pytest.approx(5 / 3)
    assert got["solvable"] == pytest.approx(2 / 3)
    assert got["path_mean"] == pytest.approx((2 + 6) / 2)
