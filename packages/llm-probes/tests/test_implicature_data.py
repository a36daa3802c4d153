"""The data set's format, the paper's counts, the human baseline."""

import hashlib
from collections import Counter

import numpy as np
import pytest

from llm_probes.implicature.examples import COLUMNS, Example, join_types, label_of, read_examples, rows_of
from llm_probes.implicature.human import Block, cohen_kappa, human_baseline, read_block
from llm_probes.implicature.shots import draw_shots, random_labels
from paperloop import UserError

HEADER = "Context utterance,Response utterance,Implicature\n"


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Yes.", "yes"),
        ("Yes. But it does not arrive on time.", "yes"),
        ("No", "no"),
        ("'No, thanks", "no"),
        ("Oh yes", None),
        ("Not yet", "no"),
        ("maybe", None),
        ("", None),
    ],
)
def test_labels_by_the_papers_rule(text, label):
    assert label_of(text) == label


def test_quotes_newlines_and_a_byte_order_mark(tmp_path):
    path = write(tmp_path / "a.csv", HEADER + '"Is it\nfar?\n",You need shoes ,Yes.\n', "utf-8-sig")
    assert read_examples(path) == ([Example("Is it\nfar?", "You need shoes ", "yes")], 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", r"lacks the columns \['Context utterance'"),
        (HEADER.replace(",", ";") + "a;b;Yes\n", "separated by semicolons"),
        (HEADER + "a,b\n", "line 2: the row does not have 3 fields"),
        (HEADER + "a,b,Yes\na, ,No\n", "line 3: the response is empty"),
        (HEADER + "a,b,Yes\na,b,Perhaps\na,b,Hm\n", "2 of the labels are neither yes nor no, the first at line 3"),
        (HEADER, "holds no labelled example"),
    ],
)
def test_bad_files_are_named(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_examples(write(tmp_path / "bad.csv", text))


def test_a_missing_file_and_another_encoding(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_examples(tmp_path / "no.csv")
    with pytest.raises(UserError, match="is not UTF-8"):
        read_examples(write(tmp_path / "l.csv", HEADER + "caf\xe9,b,Yes\n", "latin-1"))


def test_unlabelled_rows_are_counted_when_left_out(tmp_path):
    path = write(tmp_path / "a.csv", HEADER + "a,b,Yes\nc,d,Perhaps\n")
    examples, dropped = read_examples(path, drop_unlabelled=True)
    assert (len(examples), dropped) == (1, 1)


def test_types_are_joined_by_utterance_and_decided_by_the_response(tmp_path):
    rows = "Is it?,Sky,Yes,Idiom,No\nIs it?,Sea,Yes,Generalised,No\nAre you,x,No,Hyperbole,No\n"
    path = write(tmp_path / "t.csv", "Utterance,Response,Implicature,Type,Factual knowledge\n" + rows)
    examples = [Example(*pair, "yes") for pair in (("Is it?", "Sky"), ("Are you\r", "other"), ("Who", "x"))]
    assert join_types(examples, path) == ["Idiom", "Hyperbole", "Other"]


def test_the_papers_draws():
    """Recorded from the original's generator: the first three test examples."""
    assert draw_shots(3, 118, 1).tolist() == [[100], [75], [60]]
    assert draw_shots(3, 118, 5).tolist() == [[73, 59, 31, 36, 96], [92, 58, 74, 105, 71], [79, 95, 32, 107, 63]]
    assert draw_shots(600, 118, 5)[:3].tolist() == draw_shots(3, 118, 5).tolist()
    assert draw_shots(4, 118, 0).shape == (4, 0)


def test_a_development_set_smaller_than_the_shots_is_refused():
    with pytest.raises(UserError, match="5 worked examples cannot be drawn from a development set of 3"):
        draw_shots(1, 3, 5)


def test_random_labels_are_fair_coins():
    shots = [Example("u", "r", "yes")] * 4000
    share = np.mean([shot.label == "yes" for shot in random_labels(shots, np.random.default_rng(0))])
    assert abs(share - 0.5) < 3 * 0.5 / np.sqrt(4000)


def test_kappa_of_a_table_by_hand():
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: observed 0.7, expected 0.5 * 0.6 + 0.5 * 0.4 = 0.5, kappa 0.4
    a = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
    b = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    assert cohen_kappa(a, b) == pytest.approx(0.4)
    assert cohen_kappa(np.zeros(3), np.zeros(3)) == 1.0


def test_a_baseline_by_hand():
    block = Block(np.array([0, 0, 1, 1]), np.array([[0, 0, 1, 1], [0, 0, 0, 1]]))
    other = Block(np.array([1, 1]), np.array([[1, 0], [0, 0]]))
    baseline = human_baseline([block, other])
    assert baseline.blocks == (87.5, 25.0)
    assert (baseline.mean, baseline.best, baseline.worst) == (56.25, 75.0, 37.5)
    assert baseline.items.tolist() == [1, 1, 0.5, 1, 0.5, 0]


def test_a_vote_that_is_missing_is_named(tmp_path):
    head = 'Utterance,Response,Ground truth,Annotator 1,Annotator 2,Question,136,"0,91"\n'
    path = write(tmp_path / "b.csv", head + "a,b,No,No,Yes,q,,\na,b,No,No,,q,,\n")
    with pytest.raises(UserError, match="line 3: the vote of Annotator 2 is ''"):
        read_block(path)
    with pytest.raises(UserError, match="has 1 columns named"):
        read_block(write(tmp_path / "c.csv", "Utterance,Response,Ground truth,Annotator 1\na,b,No,No\n"))


def test_the_published_files(shared):
    folder = shared / "implicature"
    expected = {"test": (600, 320, 25, "b5a6c284818f012b"), "dev": (118, 52, 5, "3851c4ba6ad60724")}
    for name, (rows, yes, several_lines, digest) in expected.items():
        path = folder / f"{name}_conversational_implicatures.csv"
        assert hashlib.sha256(path.read_bytes()).hexdigest().startswith(digest)
        examples, dropped = read_examples(path)
        counts = Counter(example.label for example in examples)
        assert (len(examples), counts["yes"], counts["no"], dropped) == (rows, yes, rows - yes, 0)
        assert len(set(examples)) == rows
        spoken = [list(row.values())[:2] for _, row in rows_of(path, COLUMNS)]
        assert sum(any("\n" in text for text in texts) for texts in spoken) == several_lines


def test_the_published_human_baseline(shared):
    blocks = [read_block(shared / "implicature" / "human_eval" / f"block_{i}.csv") for i in (1, 2, 3, 4)]
    human = human_baseline(blocks)
    assert human.mean == pytest.approx(86.2333, abs=1e-4)
    assert human.blocks == pytest.approx((89.0667, 85.4667, 85.2, 85.2), abs=1e-4)
    assert (human.best, human.best_std) == pytest.approx((89.8333, 2.18), abs=5e-3)
    assert (human.worst, human.worst_std) == pytest.approx((83.5, 1.52), abs=5e-3)
    assert human.kappas == pytest.approx((0.738, 0.640, 0.780, 0.707), abs=5e-4)


def test_the_published_types(shared):
    """The human percentages by type are those of the paper with its join, answer for answer."""
    folder = shared / "implicature"
    examples, _ = read_examples(folder / "test_conversational_implicatures.csv")
    types = join_types(examples, folder / "type_labels.csv", published=True)
    human = human_baseline([read_block(folder / "human_eval" / f"block_{i}.csv") for i in (1, 2, 3, 4)])
    right = human.items * 5
    found = {kind: (round(sum(right[np.array(types) == kind])), 5 * types.count(kind)) for kind in set(types)}
    assert found.pop("Hyperbole")[1] == 5
    assert found == {
        "Generalised": (212, 230), "Particularised": (366, 440), "Idiom": (204, 220), "World knowledge": (107, 115),
        "Rhetorical question": (51, 55), "Other": (1642, 1935),
    }  # fmt: skip


def test_types_by_utterance_and_response(shared):
    folder = shared / "implicature"
    examples, _ = read_examples(folder / "test_conversational_implicatures.csv")
    ours, theirs = (join_types(examples, folder / "type_labels.csv", published=p) for p in (False, True))
    assert Counter(ours) == {
        "Particularised": 95, "Generalised": 50, "Idiom": 44, "World knowledge": 22, "Rhetorical question": 15,
        "Hyperbole": 2, "Other": 372,
    }  # fmt: skip
    differ = {i: (a, b) for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b and b != "Other"}
    assert differ == {108: ("Idiom", "World knowledge"), 134: ("Generalised", "Idiom")}
