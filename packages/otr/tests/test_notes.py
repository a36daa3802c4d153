"""What commands say of data and labels that look wrong, and of files that say nonsense about themselves."""

from __future__ import annotations

import numpy as np
import pytest

from otr import (
    ConstantConfig,
    EuclideanCost,
    FeatureConfig,
    LinearSquash,
    NearestNeighbourConfig,
    OTRConfig,
    Parity,
    PWILConfig,
    SinkhornConfig,
    label,
    preset,
)  # fmt: skip
from otr.cli import main
from otr.diagnosis.diagnose import diagnose
from otr.episodes.demonstrations import best_episodes
from otr.labellers.rewards import vanished
from otr.labels.facts import read_facts
from paperloop.errors import UserError
from paperloop_data import EpisodeDataset

FAST = ["--labeller.solver.backend", "reference", "--labeller.solver.mode.iterations", "5"]


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


# Labels that vanished


def test_the_share_of_vanished_labels_in_numbers():
    rewards = np.array([5.0, 1e-3, 4e-6, 0.0], np.float32)  # of alpha 5: two are below a millionth of it
    assert vanished(rewards, OTRConfig()) == 0.5
    assert vanished(rewards / 5, NearestNeighbourConfig()) == 0.5
    assert vanished(rewards, PWILConfig()) == 0.5
    for config in (OTRConfig(squash=LinearSquash()), ConstantConfig(), preset("uds"), preset("oril")):
        assert vanished(rewards, config) is None  # there 0 is meant


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        (("--preset", "seabo-state"), "--labeller.features.scaling standard"),
        ((*FAST, "--labeller.cost.type", "euclidean"), "--labeller.features.scaling standard"),
        (("--preset", "minimum-distance", "--labeller.cost.type", "euclidean"), "--labeller.features.scaling standard"),
        (("--preset", "pwil", "--labeller.beta", "1e6"), "--labeller.beta"),
        ((*FAST, "--labeller.squash.beta", "1e9", "--labeller.features.scaling", "standard"), "--labeller.squash.beta"),
    ],
)
def test_vanished_labels_are_said_with_their_cure(small, tmp_path, capsys, options, cure):
    wide = small.replace(
        observations=small.observations * 1e4, final_observations=small.final_observations * 1e4
    ).save(tmp_path / "wide.npz")  # fmt: skip
    out = tmp_path / "out.npz"
    code, text, _ = run(capsys, "label", wide, "--demos", "top:1", "--out", out, *options)
    assert code == 0
    facts = EpisodeDataset.load(out).attributes["otr"]
    assert facts["vanished"] > 0.2
    for said in (text, run(capsys, "diagnose", out)[1]):
        assert f"{facts['vanished']:.0%} of the labels have vanished" in " ".join(said.split())
    assert cure in " ".join(text.split())
    if cure.endswith("standard"):  # and it does cure
        again = ("label", wide, "--demos", "top:1", "--out", out, "--overwrite", *options, *cure.split())
        assert run(capsys, *again)[0] == 0
        assert EpisodeDataset.load(out).attributes["otr"]["vanished"] < 0.01


def test_python_is_told_in_its_own_words(small):
    wide = small.replace(observations=small.observations * 1e4, final_observations=None)
    config = OTRConfig(cost=EuclideanCost(), solver=SinkhornConfig(backend="reference", mode=Parity(iterations=5)))
    found = diagnose(label(wide, wide.select([3]), config).dataset)
    assert found.vanished > 0.2
    assert any("features.scaling='standard'" in line for line in found.findings)
    fine = OTRConfig(solver=config.solver, features=FeatureConfig(scaling="standard"), cost=config.cost)
    assert diagnose(label(wide, wide.select([3]), fine).dataset).vanished < 0.01


# Data that looks wrong


@pytest.fixture
def maze(tmp_path):
    """AntMaze as it comes: six runs of 20 steps, whose terminal flag stays on for the last ten of each."""
    rng = np.random.default_rng(0)
    flags = np.tile(np.arange(20) >= 10, 6)
    ends = np.tile(np.arange(20) == 19, 6)
    path = tmp_path / "maze.npz"
    goals = np.repeat(rng.normal(size=(6, 2)), 20, axis=0)
    arrays = {
        "observations": np.cumsum(rng.normal(size=(120, 4)), axis=0), "actions": rng.normal(size=(120, 2)),
        "rewards": flags.astype(float), "terminals": flags, "timeouts": ends, "infos/goal": goals,
    }  # fmt: skip
    np.savez(path, **arrays)
    return path, arrays


def test_episodes_cut_by_a_flag_that_stays_on_are_said(maze, tmp_path, capsys):
    path, _ = maze
    out = tmp_path / "out.npz"
    code, _, err = run(capsys, "label", path, "--demos", "top:1", "--out", out, *FAST)
    assert code == 0
    assert "one terminal step right after another" in err
    assert "--episode-ends timeouts or --episode-ends goal" in err
    assert "one terminal step right after another" in " ".join(run(capsys, "diagnose", out)[1].split())
    for rule in ("timeouts", "goal"):
        more = ("--episode-ends", rule, "--overwrite")
        code, _, err = run(capsys, "label", path, "--demos", "top:1", "--out", out, *FAST, *more)
        assert "one terminal step" not in err
        assert EpisodeDataset.load(out).num_episodes == 6


@pytest.mark.parametrize("goals", ["one", "equal neighbours"])
def test_goals_that_cannot_tell_episodes_apart_are_refused(maze, tmp_path, capsys, goals):
    path, arrays = maze
    values = arrays["infos/goal"].copy()
    values[:] = values[0] if goals == "one" else values
    values[20:40] = values[0]
    np.savez(path, **{**arrays, "infos/goal": values})
    out = tmp_path / "out.npz"
    code, _, err = run(capsys, "label", path, "--demos", "top:1", "--out", out, "--episode-ends", "goal", *FAST)
    assert code == 2
    assert "--episode-ends" in err
    assert not out.exists()


def test_findings_of_the_demonstrations_are_said_too(small, maze, tmp_path, capsys):
    path, arrays = maze
    np.savez(tmp_path / "data.npz", **{**arrays, "terminals": arrays["timeouts"]})
    _, _, err = run(capsys, "label", tmp_path / "data.npz", "--demos", path, "--out", tmp_path / "out.npz", *FAST)
    assert "note: maze.npz: " in err
    assert "note: data.npz: " not in err
    quiet = run(capsys, "label", path, "--demos", "top:1", "--out", tmp_path / "quiet.npz", "--quiet", *FAST)
    assert quiet == (0, "", "")


def test_a_demonstration_of_one_step_is_said(small):
    found = diagnose(label(small, small.select([1]), OTRConfig(solver=SinkhornConfig(backend="reference"))).dataset)
    assert any("1 of 1 demonstrations have a single step" in line for line in found.findings)


# Files that say nonsense of themselves


@pytest.mark.parametrize(
    ("said", "where"),
    [
        (5, "otr: "),
        ([], "otr: "),
        ({"labeller": 3}, "otr.labeller"),
        ({"config": [1]}, "otr.config"),
        ({"episodes": 5}, "otr.episodes"),
        ({"episodes": {"demonstration": [-1] * 7}}, "otr.episodes.demonstration.0"),
        ({"episodes": {"demonstration": [0.5] * 7}}, "otr.episodes.demonstration.0"),
        ({"episodes": {"demonstration": [10**12] * 7}, "demonstration_lengths": [3]}, "more than 1 demonstrations"),
        ({"episodes": {"demonstration": [10**12] * 7}}, "more than 0 demonstrations"),
        ({"episodes": {"marginal_error": [1.0]}}, "1 entries for 7 episodes"),
        ({"demonstration_lengths": "many"}, "otr.demonstration_lengths"),
        ({"scale_factor": "1"}, "otr.scale_factor"),
        ({"vanished": 7}, "otr.vanished"),
        ({"demonstrations_by": {"spec": 5}}, "otr.demonstrations_by.spec"),
    ],
)
def test_what_a_file_says_of_its_labels_is_not_trusted(small, tmp_path, capsys, said, where):
    small.replace(attributes={"otr": said}).save(tmp_path / "odd.npz")
    code, out, err = run(capsys, "diagnose", tmp_path / "odd.npz", "--out", tmp_path / "d")
    assert (code, out) == (2, "")
    assert where in err
    assert "what it says of its labels is damaged" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("kept", [np.ones((112, 2)), np.full(112, np.nan), np.ones(112, "S3")])
@pytest.mark.parametrize("command", ["diagnose", "label"])
def test_true_rewards_that_are_none(small, tmp_path, capsys, kept, command):
    """An extra is whatever a file has under its name."""
    data = small.replace(extras={"infos/original_rewards": np.ones(112)})
    object.__setattr__(data, "extras", {"infos/original_rewards": kept})
    with pytest.raises(UserError, match=r"infos/original_rewards, of shape .* is not a finite number for each step"):
        diagnose(data) if command == "diagnose" else best_episodes(data, 1)
    if kept.dtype.kind == "f":
        small.replace(extras={"infos/original_rewards": kept}).save(tmp_path / "odd.npz")
        more = ("--demos", "top:1", "--out", tmp_path / "out.npz", *FAST) if command == "label" else ()
        code, _, err = run(capsys, command, tmp_path / "odd.npz", *more)
        assert code == 2
        assert "is not a finite number for each step" in err


def test_settings_of_another_version_are_no_plan(small, tmp_path, capsys):
    config = OTRConfig(solver=SinkhornConfig(backend="reference"))
    labelled = label(small, best_episodes(small, 1), config).dataset
    facts = {**labelled.attributes["otr"], "demonstrations_by": {"spec": "top:1"}, "config": {"cost": {"kind": 5}}}
    assert read_facts(labelled).labeller == "otr"
    labelled.replace(attributes={"otr": facts}).save(tmp_path / "odd.npz")
    code, _, err = run(capsys, "diagnose", tmp_path / "odd.npz", "--out", tmp_path / "d")
    assert code == 2
    assert "cost.kind" in err


def test_control_characters_in_names_are_shown_escaped(small, tmp_path, capsys):
    name = "a\x1b[31mb.npz"
    source = small.save(tmp_path / name)
    code, out, err = run(capsys, "label", source, "--demos", "top:1", "--out", tmp_path / f"new-{name}", *FAST)
    assert code == 0
    assert "\x1b" not in out + err
    assert r"new-a\x1b[31mb.npz" in out
    code, out, err = run(capsys, "label", source, "--demos", "top:9", "--out", tmp_path / "x.npz", *FAST)
    assert code == 2
    assert "\x1b" not in out + err
    code, out, err = run(capsys, "diagnose", source, "--out", tmp_path / "d\x1b[0m")
    assert code == 0
    assert "\x1b" not in out + err


def test_a_wrong_type_is_not_taken_by_bare_readers(small):
    with pytest.raises(UserError, match="damaged"):
        diagnose(small.replace(attributes={"otr": {"scale_guarded": "yes"}}))
