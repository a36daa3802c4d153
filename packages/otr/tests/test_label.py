from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from otr import (
    Labels,
    NearestNeighbourConfig,
    OracleConfig,
    OTRConfig,
    RangeScale,
    RegisteredCost,
    SinkhornConfig,
    UDSConfig,
    label,
)  # fmt: skip
from otr.episodes.truth import ORIGINAL_REWARDS
from otr.labels.keys import label_key
from otr.labels.store import ChunkStore
from paperloop.errors import UserError
from paperloop_data import EpisodeDataset

CONFIG = OTRConfig(solver=SinkhornConfig(backend="reference"))


def test_result(small):
    demos = small.select([3])
    result = label(small, demos, CONFIG)
    data = result.dataset
    np.testing.assert_array_equal(data.extras[ORIGINAL_REWARDS], small.rewards)
    for name in ("observations", "actions", "terminated", "episode_starts"):
        np.testing.assert_array_equal(getattr(data, name), getattr(small, name))
    np.testing.assert_allclose(data.returns().max() - data.returns().min(), 1000, rtol=1e-4)
    facts = data.attributes["otr"]
    assert facts["labeller"] == "otr"
    assert facts["config"]["solver"]["epsilon"] == 0.01
    assert facts["episodes"]["demonstration"] == [0] * 7
    assert data.provenance[-1]["action"] == "label"
    assert result.labels.episodes["iterations"].tolist() == [100] * 7
    again = label(data, demos, NearestNeighbourConfig()).dataset
    np.testing.assert_array_equal(again.extras[ORIGINAL_REWARDS], small.rewards)  # the first ones stay


@pytest.mark.parametrize("name", ["labelled.npz", "labelled.hdf5", "labelled"])
def test_files_load_back(small, tmp_path, name):
    if name != "labelled.npz":
        pytest.importorskip("h5py", reason="extra data of paperloop")
    data = label(small, small.select([3]), CONFIG).dataset
    options = {"dataset_id": "tests/labelled-v0"} if name == "labelled" else {}
    data.save(tmp_path / name, **options)
    back = EpisodeDataset.load(tmp_path / name)
    np.testing.assert_array_equal(back.rewards, data.rewards)
    np.testing.assert_array_equal(back.extras[ORIGINAL_REWARDS], small.rewards)
    assert json.loads(json.dumps(back.attributes["otr"])) == json.loads(json.dumps(data.attributes["otr"]))


def test_one_step_episodes_and_single_episode(small):
    single = small.select([1])
    result = label(single, small.select([3]), OTRConfig(scale=RangeScale(bias=-2), solver=CONFIG.solver))
    assert result.scale == (1.0, -2.0, True)  # one episode: nothing to scale by
    fragments = small.select([1] * 50 + [0])  # as AntMaze cuts near its goal
    assert np.isfinite(label(fragments, small.select([3]), CONFIG).dataset.rewards).all()


def test_a_demonstration_in_the_data_scores_high(small):
    rewards = label(small, small.select([3]), CONFIG).labels.rewards
    assert rewards[small.episode_of_row == 3].mean() > 4.9


# Chunks, resuming, cache


def test_chunks_do_not_matter(small, tmp_path):
    wanted = label(small, small.select([3]), CONFIG)
    assert wanted.chunks == 1
    got = label(small, small.select([3]), CONFIG, chunk_steps=15, store=tmp_path)
    assert got.chunks == got.computed == 4
    np.testing.assert_array_equal(got.dataset.rewards, wanted.dataset.rewards)


def test_stopped_and_started_again_gives_the_same_bytes(small, tmp_path, monkeypatch):
    demos = small.select([3])

    class Stop(Exception):
        pass

    save = ChunkStore.save

    def stop(self, number, *rest):
        save(self, number, *rest)
        if number == 1:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(ChunkStore, "save", stop)
        with pytest.raises(Stop):
            label(small, demos, CONFIG, chunk_steps=15, store=tmp_path / "store")
    resumed = label(small, demos, CONFIG, chunk_steps=15, store=tmp_path / "store")
    assert (resumed.computed, resumed.chunks) == (2, 4)
    whole = label(small, demos, CONFIG, chunk_steps=15, store=tmp_path / "other")
    resumed.dataset.save(tmp_path / "resumed.npz")
    whole.dataset.save(tmp_path / "whole.npz")
    assert (tmp_path / "resumed.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    cached = label(small, demos, CONFIG, chunk_steps=15, store=tmp_path / "store")
    assert cached.computed == 0
    assert cached.fitted is None
    cached.dataset.save(tmp_path / "cached.npz")
    assert (tmp_path / "cached.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_key_depends_on_what_labels_depend_on(small):
    demos = small.select([3])
    base = label_key(small, demos, CONFIG)
    assert base == label_key(small, demos, CONFIG)
    assert base == label_key(small.replace(rewards=small.rewards + 1), demos, CONFIG)  # not looked at
    values = small.observations.copy()
    values[0, 0] += 1e-3
    others = [
        label_key(small.replace(observations=values), demos, CONFIG),
        label_key(small, small.select([2]), CONFIG),
        label_key(small, demos, OTRConfig(solver=SinkhornConfig(backend="reference", epsilon=0.02))),
        label_key(small, demos, CONFIG, chunk_steps=10),
        label_key(small, demos, NearestNeighbourConfig()),
    ]
    assert len({base, *others}) == 6


def test_the_key_of_the_oracle_depends_on_the_true_rewards(small):
    demos, more = small.select([3]), small.rewards + 1
    base = label_key(small, demos, OracleConfig())
    assert base != label_key(small.replace(rewards=more), demos, OracleConfig())
    labelled = small.replace(rewards=more, extras={ORIGINAL_REWARDS: small.rewards})
    assert base == label_key(labelled, demos, OracleConfig())


def test_the_key_of_uds_depends_on_the_demonstrations_true_rewards(small):
    demos = small.select([3])
    base, more = label_key(small, demos, UDSConfig()), demos.replace(rewards=demos.rewards + 1)
    assert base != label_key(small, more, UDSConfig())
    assert base == label_key(small, more.replace(extras={ORIGINAL_REWARDS: demos.rewards}), UDSConfig())


SCRIPT = """
import os, signal, sys
from pathlib import Path
from otr import OTRConfig, SinkhornConfig, label
from otr.labels.store import ChunkStore
from paperloop_data import EpisodeDataset

data = EpisodeDataset.load(sys.argv[1])
save = ChunkStore.save
def kill(self, number, *rest):
    save(self, number, *rest)
    if number + 1 == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
ChunkStore.save = kill
result = label(data, data.select([3]), OTRConfig(solver=SinkhornConfig(backend="reference")),
               chunk_steps=15, store=Path(sys.argv[2]))
result.dataset.save(sys.argv[3])
print(result.computed)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this platform has no SIGKILL")
def test_killed_and_started_again_gives_the_same_bytes(small, tmp_path):
    small.save(tmp_path / "data.npz")

    def run(store: str, out: str, kill_at: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", SCRIPT, *map(str, (tmp_path / "data.npz", tmp_path / store, tmp_path / out))]
        return subprocess.run([*command, str(kill_at)], capture_output=True, text=True)

    assert run("store", "killed.npz", 3).returncode == -signal.SIGKILL
    assert not Path(tmp_path / "killed.npz").exists()
    assert run("store", "killed.npz", -1).stdout.strip() == "1"
    assert run("other", "whole.npz", -1).stdout.strip() == "4"
    assert (tmp_path / "killed.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_paths_and_presets_are_no_datasets_and_labellers(small):
    with pytest.raises(UserError, match=r"demos as an EpisodeDataset, and got .demo.hdf5.: load it, by otr.load_demon"):
        label(small, "demo.hdf5", "otr")
    with pytest.raises(UserError, match=r"data as an EpisodeDataset, and got 'd.npz': load it, by EpisodeDataset.load"):
        label("d.npz", small, "otr")
    with pytest.raises(UserError, match=r"'otr-converged' is a preset and no labeller: give preset\('otr-converged'\)"):
        label(small, small, "otr-converged")


def test_labels_that_are_not_finite_are_refused(small, monkeypatch):
    from otr.labellers.controls import FittedConstant

    def broken(self, data):
        rewards = np.ones(data.num_steps, np.float32)
        rewards[13] = np.nan
        return Labels(rewards)

    monkeypatch.setattr(FittedConstant, "label", broken)
    with pytest.raises(UserError, match=r"the label of row 13 \(episode 2, step 0\) is not finite: scale the features"):
        label(small, small.select([3]), "constant")
    monkeypatch.setattr(FittedConstant, "label", lambda self, data: Labels(np.ones(3, np.float32)))
    with pytest.raises(UserError, match=r"rewards of shape \(3,\) for 112 steps"):
        label(small, small.select([3]), "constant")


def test_costs_that_are_too_large_are_refused(small):
    from otr.optimal_transport.costs import register_cost

    def breaks(x, y):
        return np.full((len(x), len(y)), 1e300)  # finite, and infinite in float32

    register_cost("breaks", breaks)
    config = OTRConfig(cost=RegisteredCost(name="breaks"), solver=SinkhornConfig(backend="jax"))
    with pytest.raises(UserError, match="has to return finite numbers"):
        label(small, small.select([3]), config)
