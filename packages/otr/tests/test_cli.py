from __future__ import annotations

import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from otr import PRESETS
from otr.cli import app, main
from otr.episodes.truth import ORIGINAL_REWARDS
from otr.labels.store import ChunkStore
from otr.presets import PRESET_HELP
from paperloop.cli.testing import check_command_errors
from paperloop.conformance import check_help
from paperloop_data import EpisodeDataset, read_minari

#: Fast to start, and installed everywhere.
FAST = ["--labeller.solver.backend", "reference", "--labeller.solver.mode.iterations", "5"]


def run(capsys, *arguments):
    """(exit code, stdout, stderr) of `otr ...`."""
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def fails(capsys, *arguments):
    """The message of `otr ...`, which must end with 2 and print one line."""
    code, _, err = run(capsys, *arguments)
    assert code == 2, err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


@pytest.fixture
def file(small, tmp_path):
    return small.save(tmp_path / "data.npz")


def saved(small, tmp_path, kind):
    if kind == "npz":
        return small.save(tmp_path / "data.npz")
    pytest.importorskip("h5py", reason="extra data of paperloop")
    return small.save(tmp_path / ("data.hdf5" if kind == "d4rl" else "data-v0"))


# Labelling


@pytest.mark.parametrize(
    ("kind", "out", "head"),
    [
        ("npz", "labelled.npz", b"PK"),
        ("d4rl", "labelled.hdf5", b"\x89HDF"),
        ("minari", "labelled", None),
        ("npz", "labelled", None),
        ("npz", "labelled.h5", b"\x89HDF"),
        ("d4rl", "labelled.npz", b"PK"),
    ],
)
def test_formats(small, tmp_path, capsys, kind, out, head):
    source = saved(small, tmp_path, kind)
    code, text, err = run(capsys, "label", source, "--demos", "top:1", "--out", tmp_path / "new" / out, *FAST)
    assert (code, err) == (0, "")
    path = tmp_path / "new" / out
    if head is None:
        data = read_minari(path)
        assert json.loads((path / "data" / "metadata.json").read_text())["dataset_id"] == "labelled-v0"
    else:
        assert path.read_bytes().startswith(head)
        data = EpisodeDataset.load(path)
    np.testing.assert_array_equal(data.extras[ORIGINAL_REWARDS], small.rewards)
    np.testing.assert_array_equal(data.observations, small.observations)
    facts = data.attributes["otr"]
    assert facts["demonstrations_by"] == {"spec": "top:1", "score": "return"}
    assert facts["config"]["solver"]["mode"]["iterations"] == 5
    assert [step["action"] for step in data.provenance][-4:] == ["read", "label", "write", "read"]
    assert data.returns().max() - data.returns().min() == pytest.approx(1000, rel=1e-4)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [out]  # no chunks, no temporary files
    for word in ("otr, reference, parity", "7, 112", "1 of ", "marginal error", "by episode", "seconds"):
        assert word in text
    assert text.rstrip().endswith(out)


def test_minari_itself_reads_it(small, tmp_path, capsys):
    minari = pytest.importorskip("minari", reason="minari")
    source = saved(small, tmp_path, "minari")
    assert run(capsys, "label", source, "--demos", "top:1", "--out", tmp_path / "labelled-v0", *FAST)[0] == 0
    episodes = list(minari.MinariDataset(tmp_path / "labelled-v0" / "data").iterate_episodes())
    wanted = read_minari(tmp_path / "labelled-v0")
    np.testing.assert_array_equal(np.concatenate([e.rewards for e in episodes]), wanted.rewards)


def test_settings_reach_the_file(file, tmp_path, capsys):
    def facts(*options):
        out = tmp_path / "x.npz"
        assert run(capsys, "label", file, "--demos", "top:2", "--out", out, "--overwrite", "--quiet", *options)[0] == 0
        return EpisodeDataset.load(out).attributes["otr"]

    got = facts(*FAST, "--preset", "otr-antmaze", "--labeller.squash.alpha", "3", "--labeller.aggregate", "mean")
    assert (got["bias"], got["config"]["squash"]["beta"], got["config"]["squash"]["alpha"]) == (-2, 1, 3)
    assert got["config"]["aggregate"] == "mean"
    got = facts("--demo-score", "antmaze", "--preset", "seabo-antmaze")
    assert (got["labeller"], got["bias"], got["demonstrations_by"]["score"]) == ("seabo", -1, "antmaze")
    assert facts("--preset", "constant")["labeller"] == "constant"
    got = facts("--labeller.type", "minimum-distance")
    assert got["labeller"] == "minimum-distance"


def test_demonstrations_from_a_file_without_rewards(small, file, tmp_path, capsys):
    demo = small.episode(3)
    arrays = {"observations": demo.observations, "actions": demo.actions, "terminals": demo.terminated}
    np.savez(tmp_path / "demos.npz", **arrays, timeouts=demo.truncated)
    out = tmp_path / "x.npz"
    assert run(capsys, "label", file, "--demos", tmp_path / "demos.npz", "--out", out, *FAST)[0] == 0
    again = tmp_path / "y.npz"
    small.select([3]).save(tmp_path / "three.npz")
    assert run(capsys, "label", file, "--demos", tmp_path / "three.npz", "--out", again, *FAST)[0] == 0
    np.testing.assert_array_equal(EpisodeDataset.load(out).rewards, EpisodeDataset.load(again).rewards)
    assert EpisodeDataset.load(out).attributes["otr"]["demonstrations_by"] == {"spec": "demos.npz"}


@pytest.mark.parametrize("kind", ["npz", "hdf5"])
def test_demonstrations_of_observations_alone(small, file, tmp_path, capsys, kind):
    demos, three = tmp_path / f"demos.{kind}", small.select([3])
    arrays = {"observations": three.observations, "terminals": three.terminated, "timeouts": three.truncated}

    def write(**arrays):
        if kind == "npz":
            return np.savez(demos, **arrays)
        with pytest.importorskip("h5py", reason="extra data of paperloop").File(demos, "w") as to:
            for name, array in arrays.items():
                to[name] = array
        return None

    def rewards(source, *more):
        out = tmp_path / "x.npz"
        assert run(capsys, "label", file, "--demos", source, "--out", out, "--overwrite", "--quiet", *more)[0] == 0
        return EpisodeDataset.load(out).rewards

    whole = three.save(tmp_path / "three.npz")
    write(**arrays)
    np.testing.assert_array_equal(rewards(demos, *FAST), rewards(whole, *FAST))
    of_state = ("--preset", "seabo-state", "--labeller.features.missing-next", "repeat")  # divided by |a|, of the data
    bare = three.replace(final_observations=None).save(tmp_path / "bare.npz")
    np.testing.assert_array_equal(rewards(demos, *of_state), rewards(bare, *of_state))
    for name in ("seabo", "uds", "pwil"):
        assert "have no actions, which this labeller compares: give some that have" in fails(
            capsys, "label", file, "--demos", demos, "--out", tmp_path / "y.npz", "--preset", name
        )
    ends = {"observations": three.observations, "timeouts": three.terminated}
    write(**ends)
    np.testing.assert_array_equal(rewards(demos, *FAST), rewards(whole, *FAST))
    write(observations=three.observations)
    message = fails(capsys, "label", file, "--demos", demos, "--out", tmp_path / "y.npz", *FAST)
    assert "does not say where episodes end; add them, or pass the time limit" in message
    assert "--max-episode-steps 1000" in message
    np.testing.assert_array_equal(rewards(demos, "--max-episode-steps", "50", *FAST), rewards(whole, *FAST))


def test_demonstrations_in_a_minari_folder(small, file, tmp_path, capsys):
    folder = saved(small.select([3]), tmp_path, "minari")
    assert run(capsys, "label", file, "--demos", folder, "--out", tmp_path / "x.npz", *FAST)[0] == 0


def test_data_without_rewards(small, tmp_path, capsys):
    source = tmp_path / "blind.npz"
    np.savez(
        source, observations=small.observations, actions=small.actions, terminals=small.terminated,
        next_observations=small.observations,
    )  # fmt: skip
    message = fails(capsys, "label", source, "--demos", "top:1", "--out", tmp_path / "x.npz", *FAST)
    assert "chooses by the true rewards, and there are none in it: give a file of demonstrations" in message
    small.select([3]).save(tmp_path / "demos.npz")
    code, text, _ = run(
        capsys, "label", source, "--demos", tmp_path / "demos.npz", "--out", tmp_path / "x.npz", *FAST
    )  # fmt: skip
    assert code == 0
    assert "rank correlation" not in text


def test_it_goes_on_where_it_stopped(file, tmp_path, capsys, monkeypatch):
    import otr.commands.label as command

    whole, out = tmp_path / "whole.npz", tmp_path / "out.npz"
    arguments = ["label", file, "--demos", "top:1", *FAST, "--chunk-steps", "15", "--out"]
    assert run(capsys, *arguments, whole)[0] == 0

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command, "save_dataset", stop)
        assert run(capsys, *arguments, out)[0] == 130
    chunks = sorted((tmp_path / ".out.npz.labels").glob("*/chunk-*.labels"))
    assert len(chunks) == 4
    assert not out.exists()
    chunks[2].unlink()  # as if killed there
    code, text, _ = run(capsys, *arguments, out)
    assert code == 0
    assert "1 computed, 3 found" in text
    assert out.read_bytes() == whole.read_bytes()
    assert not (tmp_path / ".out.npz.labels").exists()


@pytest.fixture
def interruptible():
    """Ctrl-C as in a terminal, also where tests run in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_interrupts(file, tmp_path, capfd, monkeypatch):
    import otr.commands.label as command

    out = tmp_path / "out.npz"
    arguments = ["label", file, "--demos", "top:1", *FAST, "--chunk-steps", "15", "--out", out]
    save, diagnosed = ChunkStore.save, command.diagnose

    def stopping(self, number, *rest):
        save(self, number, *rest)
        if number == 1:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(ChunkStore, "save", stopping)
        code, _, err = run(capfd, *arguments)
    assert code == 130
    assert "finished chunks are kept: the same command resumes" in err
    assert not out.exists()

    def late(*of):
        signal.raise_signal(signal.SIGINT)
        return diagnosed(*of)

    with monkeypatch.context() as patch:
        patch.setattr(command, "diagnose", late)
        code, text, err = run(capfd, *arguments)
    assert (code, err) == (0, "")
    assert "2 computed, 2 found" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.npz", "out.npz"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_cache_stays_and_serves(file, tmp_path, capsys):
    arguments = ["label", file, "--demos", "top:1", *FAST, "--cache", tmp_path / "cache", "--out"]
    assert run(capsys, *arguments, tmp_path / "a.npz")[0] == 0
    text = run(capsys, *arguments, tmp_path / "b.npz")[1]
    assert "0 computed, 1 found" in text
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_warnings_are_notes(small, tmp_path, capsys):
    values = small.observations.copy()
    values[5] = 0
    source = small.replace(observations=values).save(tmp_path / "zero.npz")
    code, _, err = run(capsys, "label", source, "--demos", "top:1", "--out", tmp_path / "x.npz", *FAST)
    assert code == 0
    assert err.startswith("note: ")
    assert "1 vectors of the data in rows 0 to 111 are all zero, the first at row 5 (episode 0)" in err
    assert err.count("\n") == 1


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--demos": "top:0"}, "top:0 of 7 episodes; take 1 to 7"),
        ({"--demos": "top:8"}, "top:8 of 7 episodes; take 1 to 7"),
        ({"--demos": "top:best"}, "a file or top:K with a whole number K"),
        ({"--demos": "nowhere.npz"}, "There is no dataset at nowhere.npz; check the path."),
        ({"--preset": "otrr"}, 'there is no preset "otrr"; did you mean "otr"'),
        ({"--preset": "otr-antmase"}, 'there is no preset "otr-antmase"; did you mean "otr-antmaze"'),
        (
            {"--labeller.solver.backend": "magic"},
            "--labeller.solver.backend is magic; it must be one of 'auto', 'numba'",
        ),
        ({"--chunk-steps": "0"}, "--chunk-steps is 0; it must be at least 1"),
        ({"--max-episode-steps": "0"}, "--max-episode-steps is 0; it must be at least 1"),
        ({"--labeller.solver.epsilon": "0"}, "--labeller.solver.epsilon is 0; it must be above 0"),
        (
            {"--labeller.solver.type": "exact", "--labeller.solver.band": "3"},
            "--labeller.solver.band belongs to --labeller.solver.type sinkhorn, and exact is chosen",
        ),
        (
            {"--labeller.cost.type": "euclidean", "--labeller.cost.context": "3"},
            "--labeller.cost.context belongs to",
        ),
        (
            {"--labeller.type": "pwil", "--labeller.solver.epsilon": "1"},
            "--labeller.solver.epsilon belongs to --labeller.type otr, and pwil is chosen",
        ),
        ({"--labeller.solver.epsilo": "1"}, "did you mean --labeller.solver.epsilon?"),
        ({"--labeller.cost.type": "cosin"}, "cosin"),
        ({"--preset": "seabo", "--device": "gpu"}, "--device gpu: this labeller computes on the CPU"),
        ({"--device": "gpu", "--labeller.solver.backend": "reference"}, "this labeller computes on the CPU"),
        ({"--observation-keys": "position"}, "--observation-keys does not apply to files that are not Minari folders"),
    ],
)
def test_bad_options(file, tmp_path, capsys, change, message):
    options = {"--demos": "top:1", "--out": tmp_path / "x.npz", **change}
    arguments = [part for pair in options.items() for part in pair]
    assert message in fails(capsys, "label", file, *arguments)
    assert [p.name for p in tmp_path.iterdir()] == ["data.npz"]


def test_messages_name_options(small, tmp_path, capsys):
    """What the library calls by its name in Python, a user of the command line types otherwise."""

    def message(arrays, *more):
        np.savez(tmp_path / "d.npz", **arrays)
        return fails(capsys, "label", tmp_path / "d.npz", "--demos", "top:1", "--out", tmp_path / "x.npz", *more)

    arrays = {"observations": small.observations, "actions": small.actions, "rewards": small.rewards,
              "terminals": small.terminated}  # fmt: skip
    assert "pass the time limit, such as --max-episode-steps 1000." in message(arrays)
    assert "--episode-ends goal needs 'infos/goal'" in message(arrays, "--episode-ends", "goal")
    broken = small.observations.copy()
    broken[13] = np.nan
    arrays |= {"observations": broken, "timeouts": small.truncated}
    assert "or load it with --drop-nonfinite to leave such" in message(arrays)
    arrays |= {"observations": small.observations}
    said = message(arrays, "--preset", "seabo-state")
    assert "give --labeller.features.missing-next repeat, or a labeller that compares s or (s, a)" in said
    np.savez(tmp_path / "d.npz", **arrays)
    options = ["label", tmp_path / "d.npz", "--demos", tmp_path / "d.npz", "--out", tmp_path / "x.npz", *FAST]
    assert run(capsys, *options, "--drop-nonfinite", "--quiet") == (0, "", "")


def test_demonstrations_leave_out_what_is_not_finite(small, file, tmp_path, capsys):
    values = small.observations.copy()
    values[13] = np.nan
    arrays = {"observations": values, "actions": small.actions, "terminals": small.terminated}
    np.savez(tmp_path / "demos.npz", **arrays, timeouts=small.truncated)
    options = ["label", file, "--demos", tmp_path / "demos.npz", "--out", tmp_path / "x.npz", "--quiet", *FAST]
    assert "with --drop-nonfinite" in fails(capsys, *options)
    assert run(capsys, *options, "--drop-nonfinite")[0] == 0
    assert len(EpisodeDataset.load(tmp_path / "x.npz").attributes["otr"]["demonstration_lengths"]) == 6


def test_a_failure_leaves_nothing(small, file, tmp_path, capsys):
    small.replace(observations=np.ones((small.num_steps, 3)), final_observations=None).save(tmp_path / "other.npz")
    before = sorted(tmp_path.iterdir())
    arguments = ["label", file, "--demos", tmp_path / "other.npz", "--out", tmp_path / "new" / "x.npz"]
    assert "the same environment" in fails(capsys, *arguments, *FAST)
    assert "the same environment" in fails(capsys, *arguments, *FAST, "--cache", tmp_path / "cache")
    assert sorted(tmp_path.iterdir()) == before


def test_bad_outputs(small, file, tmp_path, capsys):
    def message(out, *more):
        return fails(capsys, "label", file, "--demos", "top:1", "--out", out, *FAST, *more)

    assert "the suffix '.csv' names no format" in message(tmp_path / "x.csv")
    assert "is the data itself" in message(file, "--overwrite")
    (tmp_path / "there.npz").write_bytes(b"precious")
    assert "exists already: choose another --out, or give --overwrite" in message(tmp_path / "there.npz")
    assert (tmp_path / "there.npz").read_bytes() == b"precious"
    assert "there.npz is not a folder" in message(tmp_path / "there.npz" / "x.npz")
    bare = small.replace(final_observations=None).save(tmp_path / "bare.npz")
    assert "Minari keeps the observation after each episode" in fails(
        capsys, "label", bare, "--demos", "top:1", "--out", tmp_path / "x", *FAST
    )
    assert "there are no stored next observations" in fails(
        capsys, "label", bare, "--demos", "top:1", "--out", tmp_path / "x.npz", "--preset", "seabo"
    )


def test_bad_data(small, file, tmp_path, capsys):
    def message(source, demos="top:1", *more):
        return fails(capsys, "label", source, "--demos", demos, "--out", tmp_path / "x.npz", *FAST, *more)

    arrays = {"observations": small.observations.copy(), "actions": small.actions, "rewards": small.rewards}
    arrays |= {"terminals": small.terminated, "timeouts": small.truncated}
    arrays["observations"][13, 2] = np.nan
    np.savez(tmp_path / "nan.npz", **arrays)
    assert "observations holds nan at" in message(tmp_path / "nan.npz")
    assert "row 13" in message(tmp_path / "nan.npz")
    assert run(
        capsys, "label", tmp_path / "nan.npz", "--demos", "top:1", "--out", tmp_path / "dropped.npz", *FAST,
        "--drop-nonfinite",
    )[0] == 0  # fmt: skip
    assert EpisodeDataset.load(tmp_path / "dropped.npz").num_episodes == 6
    np.savez(tmp_path / "narrow.npz", **{**arrays, "observations": small.observations[:, :3]})
    assert "give demonstrations of the same environment" in message(file, tmp_path / "narrow.npz")
    (tmp_path / "cut.npz").write_bytes(file.read_bytes()[:500])
    assert "cut.npz" in message(tmp_path / "cut.npz")
    (tmp_path / "data.pkl").write_bytes(b"\x80\x04.")
    assert "is a pickle, which can run code and is never loaded" in message(tmp_path / "data.pkl")
    assert not (tmp_path / "x.npz").exists()


def test_minari_refuses_options_of_flat_files(small, tmp_path, capsys):
    source = saved(small, tmp_path, "minari")
    message = fails(
        capsys, "label", source, "--demos", "top:1", "--out", tmp_path / "x.npz", "--episode-ends", "goal", *FAST
    )
    assert "--episode-ends does not apply to Minari folders" in message


# Diagnosing


@pytest.fixture
def labelled(file, tmp_path, capsys):
    out = tmp_path / "labelled.npz"
    assert run(capsys, "label", file, "--demos", "top:2", "--out", out, "--quiet", *FAST)[0] == 0
    return out


def test_diagnose(small, labelled, tmp_path, capsys):
    folder = tmp_path / "diagnosis"
    code, text, _ = run(capsys, "diagnose", labelled, "--out", folder)
    assert code == 0
    assert sorted(p.name for p in folder.iterdir()) == [
        "diagnosis.json",
        *(f"{n}.{k}" for n in ("plan", "returns") for k in ("pdf", "png")),
    ]
    found = json.loads((folder / "diagnosis.json").read_text())
    from scipy.stats import spearmanr

    returns = EpisodeDataset.load(labelled).returns()
    assert found["by_episode"] == pytest.approx(spearmanr(returns, small.returns()).statistic)
    assert sum(found["demonstrations"]) == 7
    assert f"{found['by_episode']:.3f}" in text
    assert "labelled with true return" in text
    assert run(capsys, "diagnose", labelled, "--episode", "3", "--out", folder)[0] == 0
    code, text, _ = run(capsys, "diagnose", labelled)  # a table only
    assert code == 0
    assert "png" not in text


def test_diagnose_with_truth_and_demonstrations_elsewhere(small, tmp_path, capsys):
    blind = small.replace(rewards=np.zeros(small.num_steps)).save(tmp_path / "blind.npz")
    demos, out = small.select([3]).save(tmp_path / "demos.npz"), tmp_path / "x.npz"
    assert run(capsys, "label", blind, "--demos", demos, "--out", out, "--quiet", *FAST)[0] == 0
    code, text, _ = run(capsys, "diagnose", out, "--out", tmp_path / "d")
    assert code == 0
    assert "name them with --truth" in text
    assert "name the demonstrations (demos.npz) with --demos" in text
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["diagnosis.json"]
    truth = small.save(tmp_path / "truth.npz")
    arguments = ["diagnose", out, "--truth", truth, "--demos", demos, "--out", tmp_path / "d", "--quiet"]
    assert run(capsys, *arguments) == (0, "", "")
    assert sorted(p.suffix for p in (tmp_path / "d").iterdir()) == [".json", ".pdf", ".pdf", ".png", ".png"]

    other = small.select([0, 1]).save(tmp_path / "other.npz")
    assert "name the data that was labelled" in fails(capsys, "diagnose", out, "--truth", other)
    moved = small.replace(observations=small.observations + 1).save(tmp_path / "moved.npz")
    assert "its observations are not those of" in fails(capsys, "diagnose", out, "--truth", moved)
    assert "not the demonstrations that" in fails(capsys, "diagnose", out, "--demos", other, "--out", tmp_path / "e")


def test_diagnose_refuses(small, labelled, file, tmp_path, capsys):
    folder = tmp_path / "d"
    assert "there is no episode 7; they are 0 to 6" in fails(
        capsys, "diagnose", labelled, "--episode", "7", "--out", folder
    )
    assert "only transport has a plan" in fails(capsys, "diagnose", file, "--episode", "0", "--out", folder)
    assert "cannot be made (File exists)" in fails(capsys, "diagnose", labelled, "--out", file)
    code, text, _ = run(capsys, "diagnose", file)  # any dataset: its labels are not compared with anything
    assert code == 0
    assert f"{file} has no labels of otr: the rewards in it are taken for labels" in text
    assert "compared with nothing: name them with --truth" in text


def test_diagnose_leaves_out_what_labelling_left_out(small, tmp_path, capsys):
    values = small.observations.copy()
    values[13] = np.nan
    arrays = {"observations": values, "actions": small.actions, "rewards": small.rewards}
    source, out = tmp_path / "nan.npz", tmp_path / "x.npz"
    np.savez(source, **arrays, terminals=small.terminated, timeouts=small.truncated)
    arguments = ["label", source, "--demos", "top:1", "--out", out, "--drop-nonfinite", *FAST]
    assert run(capsys, *arguments, "--quiet")[0] == 0
    code, text, _ = run(capsys, "diagnose", out, "--truth", source)
    assert code == 0
    assert f"{source} holds episodes with NaN or infinity, which are left out" in text.replace("\n", "")


def test_the_mean_of_demonstrations_chooses_none(file, tmp_path, capsys):
    arguments = ["label", file, "--demos", "top:2", *FAST, "--overwrite", "--out", tmp_path / "x.npz"]
    assert "chosen" in run(capsys, *arguments)[1]
    assert "chosen" not in run(capsys, *arguments, "--labeller.aggregate", "mean")[1]
    assert "chosen" not in run(capsys, "diagnose", tmp_path / "x.npz")[1]


# The program


def test_labellers_lists_every_preset(capsys):
    assert PRESET_HELP.keys() == PRESETS.keys()
    code, text, _ = run(capsys, "labellers")
    assert code == 0
    assert [line.split()[0] for line in text.splitlines()] == list(PRESETS)
    assert max(map(len, text.splitlines())) <= 80  # so that a terminal wraps none


def test_no_arguments_and_unknown_commands(capsys):
    code, _, err = run(capsys)
    assert code == 2
    assert "usage: otr" in err
    assert 'otr has no command "lable"; did you mean "label"' in fails(capsys, "lable")


@pytest.mark.parametrize("command", [(), ("label",), ("diagnose",), ("train",)])
def test_help_loads_no_jax(command):
    check_help("otr", *command)


def test_a_wrong_value_of_any_option_is_refused_in_the_words_typed():
    assert check_command_errors(app) > 300


def test_help_loads_nothing_slow():
    code = "import sys, otr.cli; print({'jax', 'numba', 'scipy', 'h5py', 'matplotlib', 'ott'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
