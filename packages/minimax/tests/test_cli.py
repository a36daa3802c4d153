"""The command line, from arguments to files: on the smallest run there is, which all tests here share."""

import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from minimax_ued.cli import main
from minimax_ued.config import TrainConfig
from outerloop.config import load_config, save_config

TINY = [
    *("--seeds", "2", "--n-envs", "4", "--rollout-steps", "8", "--cycles-per-step", "4"),
    *("--env.height", "7", "--env.width", "7", "--env.n-walls", "6", "--env.max-steps", "8"),
    *("--student.features", "4", "--student.head-width", "4", "--student.conv-filters", "2"),
    *("--total-env-steps", "256", "--ppo.epochs", "1"),
]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Commands keep compiled programs, in the user's folder unless JAX knows another one: give it one of ours."""
    before = jax.config.jax_compilation_cache_dir
    if before is None:
        jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("cache")))
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", *TINY, "--out", str(out), "--quiet"]) == 0
    return out


def rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_train_leaves_a_complete_run_with_pictures(trained):
    record = json.loads((trained / "run.json").read_text())
    assert record["status"] == "complete"
    logged = rows(trained)
    assert {row["split"] for row in logged} == {"train", "held_out"}
    assert [row["step"] for row in logged if row["split"] == "train"] == [1, 2]
    for name in ("levels.png", "episode.gif"):
        with Image.open(trained / "plots" / name) as picture:
            assert min(picture.size) > 50


def test_train_again_does_nothing_and_another_configuration_is_refused(trained, capsys):
    before = rows(trained)
    assert main(["train", *TINY, "--out", str(trained), "--quiet"]) == 0
    assert rows(trained) == before
    capsys.readouterr()
    assert main(["train", *TINY, "--ppo.lr", "0.1", "--out", str(trained)]) == 2
    assert "ppo.lr" in one_sentence(capsys)


def test_evaluate_measures_the_run_beside_its_controls(trained, tmp_path, capsys):
    arguments = ["evaluate", str(trained), "--mazes", "FourRooms", "--episodes", "1", "--out", str(tmp_path)]
    assert main(arguments) == 0
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert found["tasks"] == ["held out", "held out, hard", "FourRooms"]
    assert list(found["solved"]) == ["tiny", "untrained student", "random policy"]
    assert all(np.shape(rates) == (2, 3) for rates in found["solved"].values())
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("FourRooms", "untrained", "random", str(tmp_path / "evaluation.png")))
    assert {file.name for file in tmp_path.iterdir()} == {"evaluation.json", "evaluation.png", "mazes.png"}


def test_levels_draws_random_levels_and_test_mazes(tmp_path):
    """In a process of its own: the command computes on the CPU, which JAX cannot be told after its first use."""
    random, tests = tmp_path / "new" / "random.png", tmp_path / "tests.png"
    calls = [
        ["levels", "--preset", "small", "--n", "4", "--out", str(random)],
        ["levels", "--mazes", "Labyrinth", "FourRooms", "--out", str(tests)],
    ]
    code = f"import sys; from minimax_ued.cli import main; sys.exit(max(main(call) for call in {calls}))"
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, [str(random), str(tests)]), done.stderr
    for file in (random, tests):
        with Image.open(file) as picture:
            assert min(picture.size) > 100


def test_methods_are_listed(capsys):
    assert main(["methods"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("dr", "plr", "robust_plr", "2110.02439"))


# --- bad input: one sentence, exit code 2, nothing written ---


def one_sentence(capsys):
    message = capsys.readouterr().err.strip()
    assert message.startswith("error: ")
    assert message.endswith((".", "?"))
    assert "\n" not in message
    assert "Traceback" not in message
    return message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--buffer.capacity", "3"], ["buffer.capacity is 3", "n_envs = 4"]),
        (
            ["--buffer.capacity", "4000", "--buffer.temperature", "0.05"],
            ["temperature is 0.05", "underflows", "0.0954"],
        ),
        (["--rollout-steps", "7"], ["rollout_steps is 7", "max_steps = 8"]),
        (["--devices", "3"], ["n_envs is 4", "devices = 3"]),
        (["--ppo.minibatches", "3"], ["n_envs is 4", "ppo.minibatches = 3"]),
        (["--env.n-walls", "48"], ["n_walls is 48", "at most 47"]),
        (["--env.view-size", "4"], ["view_size is 4", "odd"]),
        (["--buffer.replay-prob", "0"], ["replay_prob is 0"]),
        (["--score", "max_mcc"], ["'max_mcc'", "did you mean 'max_mc'"]),
        (["--score", "return", "--buffer.prioritization", "proportional"], ["'return' may be negative", "'rank'"]),
        (["--method", "prl"], ["'prl'", "robust_plr"]),
        (["--ppo.lr", "nan"], ["lr", "nan"]),
        (["--n-env", "4"], ["--n-env", "--n-envs"]),
    ],
)
def test_a_bad_configuration_starts_nothing(arguments, words, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", *TINY, "--method", "robust_plr", *arguments, "--out", str(out)]) == 2
    message = one_sentence(capsys)
    assert all(word in message for word in words), message
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", "RUN", "--mazes", "Labyrint"], ["'Labyrint'", "did you mean 'Labyrinth'"]),
        (["evaluate", "RUN", "--episodes", "0"], ["episodes is 0"]),
        (["evaluate", "RUN", "RUN"], ["named twice"]),
        (["evaluate", "TMP/none"], ["none", "does not exist"]),
        (["evaluate"], ["run"]),
        (["train", "--config", "TMP/old.json", "--out", "TMP/run"], ["old.json", "schema 0"]),
        (["train", "--preset", "smal", "--out", "TMP/run"], ['"smal"', '"small"']),
        (["train", *TINY, "--out", "TMP/old.json"], ["old.json"]),
    ],
)
def test_bad_requests(trained, arguments, words, tmp_path, capsys):
    save_config(load_config(TrainConfig, trained), tmp_path / "old.json", schema=0)
    arguments = [a.replace("RUN", str(trained)).replace("TMP", str(tmp_path)) for a in arguments]
    assert main(arguments) == 2
    message = one_sentence(capsys)
    assert all(word in message for word in words), message
    assert [file.name for file in tmp_path.iterdir()] == ["old.json"]


def test_a_damaged_checkpoint_is_refused_by_name(trained, tmp_path, capsys):
    run = tmp_path / "damaged"
    shutil.copytree(trained, run)
    newest = run / "checkpoints" / (run / "checkpoints" / "latest").read_text().strip()
    file = max((newest / "payload").rglob("*"), key=lambda f: f.stat().st_size * f.is_file())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert main(["evaluate", str(run), "--out", str(tmp_path / "out")]) == 2
    assert file.name in one_sentence(capsys)
    assert not (tmp_path / "out").exists()
