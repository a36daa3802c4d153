"""What is refused, in one sentence and before the work: objectives in files, models, policies, places to write to."""

import json

import numpy as np
import pytest

from hgap.cli import main
from hgap.config import EMA, AutoencoderConfig, Codes, Data, PlanConfig, PriorConfig, TrainConfig, Width, Windows
from hgap.data.behaviours import read_behaviours, shipped
from hgap.envs.bodies import BODIES
from hgap.envs.objectives import find_objective
from hgap.evaluation.episodes import Episodes, score
from hgap.loading import assemble, load
from hgap.planner.plan import Planner
from hgap.rivals.sampling_mpc import CEM, SamplingMPC
from hgap.trainer import AutoencoderTrainer, PriorTrainer
from paperloop import CheckpointError, UserError
from paperloop_data import EpisodeDataset

SMALL = Width(width=16, heads=2, blocks=1)
TINY = TrainConfig(
    windows=Windows(steps=4),
    autoencoder=AutoencoderConfig(codes=Codes(latent_step=2, quantizer=EMA(codes=8, size=4)), size=SMALL),
    prior=PriorConfig(size=SMALL),
)


def motion(states=17, actions=6):
    rng = np.random.default_rng(0)
    ends = np.arange(60) % 12 == 11
    return EpisodeDataset(
        observations=rng.standard_normal((60, states)), actions=rng.uniform(-1, 1, (60, actions)),
        rewards=np.zeros(60), terminated=np.zeros(60, bool), truncated=ends,
        attributes={"env_id": "HalfCheetah-v5", "control_step": 0.05},
    )  # fmt: skip


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    motion().save(folder / "motion.npz")
    data = Data(path=str(folder / "motion.npz"), model=TINY)
    first = AutoencoderTrainer(data)
    begun = first.init(0)
    second = PriorTrainer(data, begun.learned.weights, first.data)
    slices = dict(BODIES["HalfCheetah-v5"].slices)
    model = assemble(
        first, begun, second, second.init(0), slices=slices, env_id="HalfCheetah-v5", control_step=0.05
    )  # fmt: skip
    return model.export(folder / "model-0.npz")


# Objectives in files

FILES = {
    "syntax": ("def objective(t:\n", "line 1: the file cannot be run: SyntaxError"),
    "import": ("import nothere\n", "line 1: the file cannot be run: ModuleNotFoundError: No module named 'nothere'"),
    "leaves": ("\nraise SystemExit(3)\n", "line 2: the file cannot be run: SystemExit: 3"),
    "raises": ("def objective(t):\n    return t['height'] * foo\n", "line 2: the objective fails: NameError"),
    "divides": ("def objective(t):\n    return 1 / 0\n", "line 2: the objective fails: ZeroDivisionError"),
    "takes": ("def objective():\n    return 1\n", "the objective fails: TypeError"),
    "nothing": ("def objective(t):\n    return None\n", r"returned shape \[\] for \[2\] trajectories"),
    "slice": ("def objective(t):\n    return t['hieght']\n", "no part .hieght.; did you mean"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_an_objective_in_a_file_is_refused_with_its_line(name, tmp_path, exported):
    text, said = FILES[name]
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        Planner(load(exported), find_objective(str(path)))


def test_an_objective_that_fails_on_the_host_later_says_so_and_the_planner_lives_on(tmp_path, exported):
    path = tmp_path / "late.py"
    path.write_text(
        "import numpy as np\ncalls = [0]\n\n\ndef objective(t):\n    calls[0] += 1\n"
        "    if calls[0] == 3:\n        raise ValueError('late')\n    return np.sin(np.asarray(t['height']))\n"
    )
    planner = Planner(load(exported), find_objective(str(path)), PlanConfig(samples=4, warm_start=False))
    memory, failed = planner.start(1), []
    for _ in range(4):
        try:
            planner(memory, np.zeros((1, 17), np.float32))
        except UserError as error:
            failed.append(str(error))
    assert len(failed) == 1
    assert "late.py, line 8: the objective fails: ValueError: late" in failed[0]


def test_a_return_that_is_not_a_number_is_not_averaged():
    seen = np.zeros((2, 3, 17))
    seen[1, 2, 0] = np.nan
    episodes = Episodes(seen, np.zeros((2, 3, 6)), np.ones((2, 3), bool), np.zeros((2, 3, 1)), np.zeros(3))
    with pytest.raises(UserError, match="worth nan on the motion of episode 1"):
        score(episodes, lambda t: t["height"], {"height": (0, 1)})


# Models and policies


def damaged(path, tmp_path, change):
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    about = json.loads(str(arrays["about"]))
    change(arrays, about)
    np.savez(tmp_path / "damaged.npz", **arrays | {"about": np.array(json.dumps(about))})
    return tmp_path / "damaged.npz"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda arrays, about: about.pop("sizes"), "does not say its sizes"),
        (lambda arrays, about: about.update(sizes=[3]), "does not say its sizes"),
        (lambda arrays, about: about.update(format=9), "has format 9"),
        (lambda arrays, about: arrays.pop(next(iter(sorted(arrays)))), "should have shape .* and is missing"),
        (lambda arrays, about: arrays.update({k: x * np.nan for k, x in arrays.items() if "norm" in k.lower()}),
         "not finite"),
    ],
)  # fmt: skip
def test_a_damaged_model_is_refused(change, said, exported, tmp_path):
    with pytest.raises(CheckpointError, match=said):
        load(damaged(exported, tmp_path, change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda arrays: arrays.update(weights=arrays["weights"][:, :, :5]), "its arrays are not those of"),
        (lambda arrays: arrays.update(weights=arrays["weights"] * np.nan), "numbers that are not finite"),
        (lambda arrays: arrays.update(about=np.array("{}")), "not a file of policies"),
        (lambda arrays: arrays.update(about=np.array("[]")), "not a file of policies"),
    ],
)
def test_damaged_policies_are_refused(change, said, tmp_path):
    with np.load(shipped("Walker2d-v5")) as file:
        arrays = {name: file[name] for name in file.files}
    change(arrays)
    np.savez(tmp_path / "policies.npz", **arrays)
    with pytest.raises(UserError, match=said):
        read_behaviours(tmp_path / "policies.npz")


# The command line: refused before anything is played or written


def run(capsys, *words):
    code = main([str(word) for word in words])
    return code, capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_refused_before_the_work(capsys, tmp_path, exported):
    file = tmp_path / "file"
    file.write_text("x")
    for words, said in (
        (("make-data", "--out", tmp_path / "x.txt"), "ends in none of .npz, .hdf5, .h5"),
        (("make-data", "--out", file / "x.npz"), "cannot be written to"),
        (("make-policies", "--out", file), "cannot be written to"),
        (("convert", tmp_path, "--out", tmp_path / "c.npz"), "is a folder, and a file is expected"),
        (("convert", file, "--out", tmp_path / "c.npz"), "give .hdf5 files, or .amc files"),
        (("plan", exported, "--out", file), "cannot be written to"),
        (("evaluate", exported, "--out", file), "cannot be written to"),
    ):
        code, error = run(capsys, *words)
        assert (code, error.count("\n")) == (2, 1), error
        assert said in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_what_was_begun_otherwise_is_not_continued(capsys, tmp_path):
    """Two bodies have policies of the same shape, and a damaged part is named."""
    asked = ("make-policies", "--out", tmp_path / "p", "--behaviours", "jump", "--iterations", 1, "--steps", 3)
    assert run(capsys, *asked)[0] == 0
    code, error = run(capsys, *asked, "--env-id", "Walker2d-v5")
    assert (code, error.count("\n")) == (2, 1), error
    assert "was begun with another --env-id than Walker2d-v5" in error
    parts = tmp_path / ".x.npz.parts"
    parts.mkdir()
    (parts / "0.npz").write_bytes(b"junk")
    code, error = run(capsys, "make-data", "--out", tmp_path / "x.npz", "--steps", 40)
    assert code == 2
    assert "0.npz is not a part of the motion" in error


def test_an_evaluation_is_checked_before_the_first_episode(capsys, tmp_path, exported):
    motion(states=5).save(tmp_path / "other.npz")
    for words, said in (
        (("--objectives", "forward", "bakward"), "Unknown objective 'bakward'"),
        (("--objectives", "forward", "forward"), "name forward twice"),
        (("--rivals", "cloning"), "The rivals cloning learn from the data"),
        (("--rivals", "cloning", "--data", tmp_path / "other.npz"), "give --data of the same body"),
    ):
        code, error = run(capsys, "evaluate", exported, "--out", tmp_path / "out", *words)
        assert (code, error.count("\n")) == (2, 1), error
        assert said in error
    assert [path.name for path in tmp_path.iterdir()] == ["other.npz"]


def test_the_cross_entropy_method_takes_fewer_samples_than_rounds():
    def still(states, actions):
        return np.zeros((*actions.shape[:2], 1))

    limits = np.full(1, -1.0), np.ones(1)
    mpc = SamplingMPC(still, lambda t: t.actions[..., 0], {}, *limits, CEM(samples=2, horizon=3))
    mpc.begin(1, seed=0)
    assert np.isfinite(mpc.act(np.zeros((1, 1)), np.zeros((1, 1)))).all()
