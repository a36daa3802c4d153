"""Files and paths that nobody wrote in good faith: one sentence and exit code 2, never a traceback or a wait."""

import io
import json
import os
import zipfile

import numpy as np
import pytest

import policy_finetune.cli as cli
from paperloop.errors import UserError
from paperloop.settings import save_config
from paperloop_data import read_arrays
from policy_finetune.config import SCHEMA, OnlineConfig, SwitchConfig
from policy_finetune.data.policies import load_policy
from policy_finetune.report.health import findings
from policy_finetune.report.run import conclude


def npy(shape, data=b"\0" * 64):
    """An array file whose header claims a shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue() + data


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize("shape", [(10**12,), (10**6, 10**6), (2**62, 4)])
def test_a_header_that_claims_more_than_there_is(tmp_path, shape):
    path = archive(tmp_path / "huge.npz", w0=npy(shape))
    with pytest.raises(UserError, match=r"huge\.npz is damaged, cut short, or not an npz archive \(w0\.npy claims"):
        load_policy(path)


def test_an_archive_that_unpacks_to_more_than_it_may(tmp_path):
    path = archive(tmp_path / "bomb.npz", w0=npy((2**20,), b"\0" * 2**22))
    read_arrays(path)  # four megabytes of zeros are harmless
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02") + 24  # the size that the central directory states
    content[at : at + 4] = (2**31).to_bytes(4, "little")
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"claims 2147483648 bytes"):
        read_arrays(path)


def test_metadata_nested_ten_thousand_deep(tmp_path):
    path = tmp_path / "deep.npz"
    weights = {"w0": np.ones((4, 3)), "b0": np.zeros(4), "w_mu": np.ones((1, 4)), "b_mu": np.zeros(1)}
    np.savez(path, **weights, metadata=np.array("[" * 10_000 + "]" * 10_000))
    with pytest.raises(UserError, match="the metadata is not a JSON object"):
        load_policy(path)


@pytest.fixture
def odd(tmp_path):
    """Paths that are not regular files."""
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "circle.npz").symlink_to(tmp_path / "circle.npz")
    return tmp_path


@pytest.mark.parametrize("name", ["pipe.npz", "folder.npz", "circle.npz"])
def test_paths_of_the_wrong_kind_are_refused_before_they_are_opened(odd, name, capsys):
    with pytest.raises(UserError, match=name):
        load_policy(odd / name)
    for arguments in (
        ["make-data", "--policies", odd / name, "--env-id", "Pendulum-v1", "--out", odd / "x.hdf5"],
        ["evaluate", odd / name],
        ["report", odd / name],
        ["finetune", "--start", odd / name, "--out", odd / "run"],
    ):
        assert cli.main([str(a) for a in arguments]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert said.count("\n") == 1
    assert not (odd / "run").exists()


# Rows of metrics that anything may have written


def run(folder, rows):
    folder.mkdir()
    config = OnlineConfig(env_id="Pendulum-v1", env_steps=400, block=50, switch=SwitchConfig(warmup_env_steps=100))
    save_config(config, folder / "config.json", SCHEMA)
    (folder / "metrics.jsonl").write_text("".join(json.dumps({"wall": 0.0, **row}) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize("value", ["high", None, [], [[1.0]], {"a": 1}, [1.0, 2.0]])
def test_an_evaluation_without_a_return_for_each_agent_is_named(tmp_path, value):
    rows = [{"step": 0, "split": "evaluation", "return": [1.0]}, {"step": 2, "split": "evaluation", "return": value}]
    if value is None:  # an agent whose return is not a number is a value that is not there
        conclude(run(tmp_path / "run", rows), quiet=True)
        return
    with pytest.raises(UserError, match=r"metrics\.jsonl: the evaluation at step 2 does not hold a return for each"):
        conclude(run(tmp_path / "run", rows), quiet=True)


def test_odd_metrics_cost_what_they_say_and_not_the_report():
    rows = [
        {"step": 1, "split": "train", "learning": [1.0], "q_over_bound": value, "lambda": [1.0], "note": "text"}
        for value in ([1.0], "much", [2.0**70], [], {})
    ]
    assert findings(rows) == []
    assert "not finite at step 3" in findings([{"step": 3, "split": "train", "learning": [1.0], "q": [None]}])[0]
