"""The grammar against exact facts, the tasks by hand, the edited strings' distributions."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from llm_probes.wrapped.pcfg import FAMILIES, RULES, Layout, answers, length_distribution, relate, windows
from paperloop import UserError


def letters_of(text):
    return np.array([["abc".index(c) for c in row] for row in text.split()])


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("symbol", "mean", "low", "high"),
    [("d", 2.5, 2, 3), ("g", 7.5, 6, 9), ("j", 15, 12, 18), ("k", 22.5, 18, 27), ("m", 48.75, 30, 72),
     ("n", 60, 48, 72), ("r", 127.5, 60, 216), ("q", 133.125, 78, 216), ("p", 157.5, 108, 216),
     ("s", 275.625, 138, 432)],
)  # fmt: skip
def test_lengths_are_exact(symbol, mean, low, high):
    found = length_distribution(symbol)
    assert found.sum() == pytest.approx(1)
    assert found @ np.arange(len(found)) == pytest.approx(mean)
    assert (np.flatnonzero(found)[0], len(found) - 1) == (low, high)


def test_the_start_symbol_has_the_published_spread():
    found, n = length_distribution(), np.arange(433)
    assert np.sqrt(found @ (n - 275.625) ** 2) == pytest.approx(41.7094, abs=1e-4)
    assert found[250:].sum() == pytest.approx(0.763605, abs=1e-6)
    assert len(RULES) == 16


def test_windows_have_the_letters_in_equal_shares():
    drawn = windows(300, 250, rng())
    assert drawn.shape == (300, 250)
    for letter in range(3):
        share = (drawn == letter).mean(1)
        assert abs(share.mean() - 1 / 3) < 4 * share.std() / np.sqrt(300) + 0.005
    assert (windows(3, 20, rng(1)) == windows(3, 20, rng(1))).all()
    with pytest.raises(UserError, match=r"a window of 500 letters .* have at most 432"):
        windows(1, 500, rng())


def test_answers_by_hand():
    rows = letters_of("abcaabca aaaaaaaa bcbcbcbc")
    ask = {"reach": 5, "nth": 2}
    assert answers(rows, "count", "a", **ask).tolist() == [3, 5, 0]
    assert answers(rows, "count_pair", "aa", **ask).tolist() == [1, 4, 0]
    assert answers(rows, "index", "a", **ask).tolist() == [3, 1, 9]
    assert answers(rows, "index_pair", "aa", reach=5, nth=1).tolist() == [4, 1, 9]
    assert answers(rows, "index_pair", "bc", **ask).tolist() == [6, 9, 3]
    assert answers(rows, "token", "", **ask).tolist() == [2, 0, 1]


def test_natural_counts_are_imbalanced_as_published():
    """The count of a in the last 40 takes 9 to 17 and its commonest value, 13, a third of the strings."""
    found = answers(windows(1500, 250, rng()), "count", "a", reach=40, nth=6)
    assert found.min() >= 8
    assert found.max() <= 18
    share = (found == 13).mean()
    assert abs(share - 0.338) < 4 * np.sqrt(0.338 * 0.662 / 1500)


def test_the_relation_is_in_the_strings_and_not_in_the_marginals():
    natural = windows(1200, 60, rng())
    counts = {}
    for share in (0.0, 0.6, 1.0):
        edited = relate(natural, share, reach=40, generator=rng(1))
        a, b = (answers(edited, "count", letter, reach=40, nth=6) for letter in "ab")
        assert abs((b == a + 1).mean() - share) <= 4 * np.sqrt(share * (1 - share) / 1200)
        assert (edited[:, :20] == natural[:, :20]).all()
        counts[share] = np.bincount(b, minlength=21) / 1200
        assert counts[share][0] == 0
    sampling = 20 * np.sqrt(2 * 0.05 / 1200 / np.pi)  # the total variation of two samples of one distribution
    assert 0.5 * np.abs(counts[0.0] - counts[1.0]).sum() < 1.5 * sampling
    assert relate(natural, None, reach=40, generator=rng()) is natural
    with pytest.raises(UserError, match=r"1\.5, which is outside"):
        relate(natural, 1.5, reach=40, generator=rng())
    with pytest.raises(UserError, match="in the last 4 letters there is no room"):
        relate(natural, 1.0, reach=4, generator=rng())


def test_sequences_have_the_papers_layout():
    layout = Layout(length=8, reach=5, nth=2)
    (row,) = layout.sequences(letters_of("abcaabca"), "count", "a").tolist()
    shown = [layout.names[token] for token in row]
    assert shown == ["SOS", "<count>", "a", "5", "SOT", *"abcaabca", "EOT", "ART", "3", "EOS"]
    assert len(row) == layout.positions
    example = layout.examples(letters_of("abcaabca"), "token", "")
    assert layout.names[example.targets[0]] == "c"
    assert layout.names[example.tokens[0, -1]] == "ART"
    assert len(set(layout.names)) == len(layout.names)
    mixed = layout.mixture(200, {"a": 0.9, "b": 0.1, "c": 0.0}, rng(), FAMILIES)
    asked = [layout.names[token] for token in mixed[:, 2]]
    assert {"null", "a", "aa"} <= set(asked) <= {"null", "a", "aa", "b", "bb"}
    with pytest.raises(UserError, match="is not a distribution"):
        layout.mixture(2, {"a": 0.5, "b": 0.4}, rng(), FAMILIES)


SMALL = {"length": 16, "reach": 8, "nth": 2, "steps": 3}


def make(config):
    from llm_probes.pcfg_trainer import PcfgTrainer

    return PcfgTrainer(config)


def test_models_on_the_grammar_go_through_the_commands(tmp_path, capsys):
    """Pretrained, fine-tuned with the relation, exported, and judged from the task file."""
    from llm_probes.cli import app

    size = ["--length", "16", "--reach", "8", "--nth", "2", "--device", "cpu", "--quiet"]
    before, after = tmp_path / "a", tmp_path / "b"
    pretrain = ["--phase.layers", "1", "--phase.width", "32", "--phase.batch", "4", "--steps", "2"]
    assert app.main(["pcfg", *size, *pretrain, "--out", str(before)]) == 0
    tune = ["--phase.type", "answer", "--phase.model", str(before / "model"), "--phase.batch", "4", "--steps", "2"]
    assert app.main(["pcfg", *size, *tune, "--out", str(after)]) == 0
    capsys.readouterr()
    folders = ["--before", str(before / "model"), "--after", str(after / "model")]
    task = ["--task", str(before / "task.jsonl"), "--steps", "2", "--sizes", "0", "1", "--start", "0"]
    assert app.main(["wrapped", *folders, *task]) in (0, 2)  # 2 where the untrained model is below the floor
    shown = capsys.readouterr()
    assert "the capability is" in shown.out or "there is nothing to recover" in shown.err
    assert app.main(["pcfg", *size[2:], "--length", "20", *tune, "--out", str(tmp_path / "c")]) == 2
    assert "was trained on other windows" in capsys.readouterr().err
    assert app.main(["pcfg", "--phase.prior", "0.5", "0.4", "0", "--out", str(tmp_path / "d")]) == 2
    assert "sum to 0.9" in capsys.readouterr().err


@pytest.mark.slow
def test_training_on_the_grammar_meets_the_contract(tmp_path):
    from llm_probes.config import PcfgConfig, Pretrain
    from paperloop.conformance import check_trainer

    config = PcfgConfig(phase=Pretrain(layers=1, width=32, batch=4), **SMALL)
    assert len(check_trainer(make, config, folder=tmp_path, steps=2, kills=1)) >= 5
