"""The command line, from arguments to files: on the smallest run there is, which all tests here share."""

import itertools
import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import minimax_ued.cli
from minimax_ued import load_run
from minimax_ued.cli import main
from minimax_ued.config import SCHEMA, TrainConfig
from minimax_ued.levels.files import save_levels
from minimax_ued.levels.held_out import held_out_levels
from minimax_ued.methods import METHODS
from minimax_ued.use.export import policy_arrays
from paperloop.cli.testing import check_command_errors
from paperloop.settings import load_config, save_config

TINY = {
    **{"--seeds": "2", "--n-envs": "4", "--rollout-steps": "8", "--cycles-per-step": "4"},
    **{"--env.height": "7", "--env.width": "7", "--env.n-walls": "6", "--env.max-steps": "8"},
    **{"--student.core.features": "4", "--student.head-width": "4", "--student.conv-filters": "2"},
    **{"--total-env-steps": "256", "--ppo.epochs": "1"},
}


def tiny(*changes):
    """The options of the smallest run, with changes: an option may be given once."""
    return list(itertools.chain(*(TINY | dict(zip(changes[::2], changes[1::2], strict=True))).items()))


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
    assert main(["train", *tiny(), "--out", str(out), "--quiet"]) == 0
    return out


def rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_train_leaves_a_complete_run_with_pictures(trained):
    record = json.loads((trained / "run.json").read_text())
    assert record["status"] == "complete"
    logged = rows(trained)
    assert {row["split"] for row in logged} == {"train", "held_out"}
    assert [row["step"] for row in logged if row["split"] == "train"] == [1, 2]
    for name in ("levels.png", "episode.gif", "train-level-n_walls.png"):
        with Image.open(trained / "plots" / name) as picture:
            assert min(picture.size) > 50


def test_train_again_does_nothing_and_another_configuration_is_refused(trained, capsys):
    before = rows(trained)
    assert main(["train", *tiny(), "--out", str(trained), "--quiet"]) == 0
    assert rows(trained) == before
    assert f"{trained} is complete (2 of 2 steps)" in capsys.readouterr().err
    assert main(["train", *tiny("--ppo.lr", "0.1"), "--out", str(trained)]) == 2
    assert "ppo.lr" in one_sentence(capsys)


def test_a_run_is_loaded_and_a_student_exported(trained, tmp_path, capsys):
    run = load_run(trained)
    assert run.config == load_config(TrainConfig, trained, SCHEMA)
    assert run.trainer.progress(run.state)["env_steps"] == 256
    out = tmp_path / "student.npz"
    assert main(["export", str(trained), "--out", str(out), "--seed", "1"]) == 0
    assert str(out) in capsys.readouterr().out
    expected = policy_arrays(run.config, run.students[1].params)
    with np.load(out) as file:
        assert {*file.files} == {*expected, "about"}
        for name, value in expected.items():
            np.testing.assert_array_equal(file[name], value)


@pytest.mark.slow
def test_a_longer_run_says_that_it_resumes(trained, tmp_path, capsys):
    longer = tmp_path / "longer"
    shutil.copytree(trained, longer)
    more = tiny("--total-env-steps", "384")
    assert main(["train", *more, "--out", str(longer), "--quiet"]) == 0
    assert f"{longer} resumes from step 2 of 3." in capsys.readouterr().err
    assert [row["step"] for row in rows(longer) if row["split"] == "train"] == [1, 2, 3]


@pytest.mark.slow
def test_evaluate_measures_the_run_and_its_controls(trained, tmp_path, capsys):
    own = save_levels(tmp_path / "own.npz", jax.tree.map(lambda x: x[:3], held_out_levels("maze7")))
    out = tmp_path / "report"
    arguments = ["evaluate", str(trained), "--mazes", "FourRooms", "--episodes", "2", "--out", str(out)]
    assert main([*arguments, "--cvar-levels", "30", "--cvar-attempts", "2", "--levels", str(own)]) == 0
    found = json.loads((out / "evaluation.json").read_text())
    assert found["tasks"] == ["held out", "held out, hard", "own levels", "FourRooms"]
    assert list(found["solved"]) == ["tiny", "untrained student", "random policy"]
    for kind in ("solved", "returns", "regrets"):
        for rates in found[kind].values():
            assert list(rates) == found["tasks"]
            assert all(len(values) == 2 for values in rates.values())
    assert found["worst_levels"]["levels"] == "30 levels of maze7"
    assert found["runs"]["tiny"]["env_steps"] == 256
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("FourRooms", "untrained", "random", str(out / "evaluation.md")))
    assert "(evaluation.png)" in (out / "evaluation.md").read_text()
    names = {"evaluation.md", "evaluation.json", "evaluation.png", "evaluation.pdf"}
    assert {file.name for file in out.iterdir()} == names


def test_a_misspelt_maze_is_noticed_before_jax_starts(trained, tmp_path, monkeypatch, capsys):
    def start(*_):
        raise AssertionError("JAX was started")

    monkeypatch.setattr(minimax_ued.cli, "_start_jax", start)
    (tmp_path / "drawn.txt").write_text(">G?")
    for arguments, words in (
        (["--mazes", "Labyrint"], 'did you mean "Labyrinth"'),
        (["--levels", str(tmp_path / "drawn.txt")], "Level 1 of"),
    ):
        assert main(["evaluate", str(trained), *arguments]) == 2
        assert words in one_sentence(capsys)


@pytest.mark.slow
def test_virtual_devices_are_named():
    code = "from minimax_ued.cli import _start_jax; _start_jax('cpu', 2); import jax; print(jax.device_count())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2"
    assert "2 virtual devices" in done.stderr


@pytest.mark.slow
def test_levels_draws_random_levels_and_test_mazes(tmp_path):
    """In a process of its own: the command computes on the CPU, which JAX cannot be told after its first use."""
    random, tests = tmp_path / "new" / "random.png", tmp_path / "tests.png"
    own, drawing = tmp_path / "own.png", tmp_path / "levels.txt"
    drawing.write_text(">..#\n...G\n\nv.#\n..G\n")
    calls = [
        ["levels", "--preset", "small", "--n", "4", "--out", str(random)],
        ["levels", "--mazes", "Labyrinth", "FourRooms", "--out", str(tests)],
        ["levels", "--levels", str(drawing), "--out", str(own)],
    ]
    code = f"import sys; from minimax_ued.cli import main; sys.exit(max(main(call) for call in {calls}))"
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, [str(random), str(tests), str(own)]), done.stderr
    for file, least in ((random, 100), (tests, 100), (own, 30)):
        with Image.open(file) as picture:
            assert min(picture.size) > least


def test_methods_are_listed(capsys):
    assert main(["methods"]) == 0
    shown = capsys.readouterr().out
    assert [line.split(":")[0] for line in shown.splitlines()[::2]] == list(METHODS)
    assert "--method.type plr --method.mutation" in shown
    assert "--method.buffer.replay-prob parallel" in shown
    assert "2110.02439" in shown


def test_every_field_of_every_command_is_refused_in_the_words_that_were_typed():
    assert check_command_errors(minimax_ued.cli.app) > 200


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
        (["--method.buffer.capacity", "3"], ["--method.buffer.capacity is 3", "--n-envs = 4"]),
        (
            ["--method.buffer.capacity", "4000", "--method.buffer.temperature", "0.05"],
            ["--method.buffer.temperature is 0.05", "underflows", "0.0954", "--method.buffer.capacity"],
        ),
        (["--rollout-steps", "7"], ["--rollout-steps is 7", "--env.max-steps = 8"]),
        (["--devices", "3"], ["--n-envs is 4", "--devices = 3"]),
        (["--ppo.minibatches", "3"], ["--n-envs is 4", "--ppo.minibatches = 3"]),
        (["--env.n-walls", "48"], ["--env.n-walls is 48", "at most 47"]),
        (["--env.view-size", "4"], ["--env.view-size is 4", "odd"]),
        (["--method.buffer.replay-prob", "0"], ["--method.buffer.replay-prob is 0"]),
        (["--method.buffer.score", "max_mcc"], ["'max_mcc'", 'did you mean "max_mc"']),
        (["--method.type", "prl"], ["prl", '"plr"']),
        (["--ppo.lr", "-1"], ["--ppo.lr is -1; it must be above 0"]),
        (["--method.capacity", "4"], ["--method.capacity", "sfl"]),
        (
            ["--method.mutation.operator", "dig", "--method.mutation", "True"],
            ["--method.mutation.operator is 'dig'", "flip_walls"],
        ),
        (["--ppo.lr", "nan"], ["lr", "nan"]),
        (["--n-env", "4"], ["--n-env", "--n-envs"]),
        (["--method.buffer.capacity", "80"], ["--total-env-steps is 256", "40 levels", "no update would be made"]),
    ],
)
def test_a_bad_configuration_starts_nothing(arguments, words, tmp_path, capsys):
    out = tmp_path / "run"
    given = ["--method.type", "plr", "--method.buffer.capacity", "8", *arguments]
    assert main(["train", *tiny(*given), "--out", str(out)]) == 2
    message = one_sentence(capsys)
    assert all(word in message for word in words), message
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", "RUN", "--mazes", "Labyrint"], ["'Labyrint'", 'did you mean "Labyrinth"']),
        (["evaluate", "RUN", "--episodes", "0"], ["--episodes is 0"]),
        (["evaluate", "RUN", "--cvar-attempts", "0"], ["--cvar-attempts is 0"]),
        (["evaluate", "RUN", "--cvar-levels", "601"], ["601", "from 1 to 600"]),
        (["evaluate", "RUN", "--student", "1"], ["--student is 1", "'dr'"]),
        (["evaluate", "RUN", "--levels", "TMP/none.txt"], ["none.txt does not exist"]),
        (["levels", "--levels", "TMP/none.txt"], ["none.txt does not exist"]),
        (["levels", "--levels", "TMP/none.txt", "--mazes", "Labyrinth"], ["--mazes and --levels are both given"]),
        (["levels", "--preset", "cartpole_dr"], ["--env.type is 'cartpole'", "only mazes"]),
        (["evaluate", "RUN", "RUN"], ["named twice"]),
        (["evaluate", "TMP/none"], ["none", "does not exist"]),
        (["evaluate"], ["RUNS is required"]),
        (["train", "--config", "TMP/old.json", "--out", "TMP/run"], ["old.json", "schema 0"]),
        (["train", "--preset", "smal", "--out", "TMP/run"], ['"smal"', '"small"']),
        (["train", "--preset", "paired", "--out", "TMP/run"], ['"small_paired"', '"cpu13_paired"', '"maze13_paired"']),
        (["train", "--preset", "accel", "--out", "TMP/run"], ['"small_accel"', '"cpu13_accel"']),
        (["train", "--levels", "4", "--out", "TMP/run"], ['unknown option "--levels"; `minimax-ued train --help-all`']),
        (["train", *tiny(), "--out", "TMP/old.json"], ["old.json"]),
    ],
)
def test_bad_requests(trained, arguments, words, tmp_path, capsys):
    save_config(load_config(TrainConfig, trained, SCHEMA), tmp_path / "old.json", schema=0)
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
