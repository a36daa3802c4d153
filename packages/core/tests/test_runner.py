"""The loop: rows, resume, signals, locks, refusals."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import paperloop
from paperloop import CheckpointError, Interrupted, NonFiniteError, UserError, restore, run
from paperloop.conformance import ConformanceError, check_trainer, fingerprint


@dataclass(frozen=True, kw_only=True)
class WalkConfig:
    size: int = 3
    bad_at: int = 0
    note: str = ""


class WalkTrainer:
    """A random walk: the smallest state that shows whether the random stream is restored."""

    donates = True
    headlines = ("loss",)
    resume_ignores = ("note",)

    def __init__(self, config):
        self.config = config

    def init(self, seed):
        return SimpleNamespace(x=np.zeros(self.config.size), rng=np.random.default_rng(seed), n=0)

    def step(self, state):
        state.x = state.x + state.rng.normal(size=self.config.size)
        state.n += 1
        loss = np.nan if state.n == self.config.bad_at else state.x.sum()
        return state, {"loss": loss, "x": state.x}

    def progress(self, state):
        return {"updates": state.n}

    def save(self, state, folder):
        np.save(folder / "x.npy", state.x)
        (folder / "rest.json").write_text(json.dumps({"n": state.n, "rng": state.rng.bit_generator.state}))

    def restore(self, folder, like):
        x = np.load(folder / "x.npy")
        if x.shape != like.x.shape:
            raise CheckpointError(f"x has shape {x.shape}, not {like.x.shape}.")
        rest = json.loads((folder / "rest.json").read_text())
        like.rng.bit_generator.state = rest["rng"]
        return SimpleNamespace(x=x, rng=like.rng, n=rest["n"])


class SlowTrainer(WalkTrainer):
    def step(self, state):
        time.sleep(0.02)
        return super().step(state)


def make(config):
    return WalkTrainer(config)


def rows(folder: Path, *, wall: bool = False):
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return found if wall else [{k: v for k, v in row.items() if k != "wall"} for row in found]


def mean_evaluator(state, seed):
    return {"mean": state.x.mean(), "seed": seed}


def test_a_numpy_trainer_meets_the_contract(tmp_path):
    assert check_trainer(make, WalkConfig(), folder=tmp_path, other_config=WalkConfig(size=4), kills=3)


def test_rows_and_record(tmp_path):
    folder = tmp_path / "walk"
    run(
        make(WalkConfig()), folder, steps=10, seed=3, log_every=5, eval_every=4, evaluators={"held_out": mean_evaluator}
    )
    assert [(r["step"], r["split"]) for r in rows(folder)] == [
        (0, "held_out"), (4, "held_out"), (5, "train"), (8, "held_out"), (10, "train"), (10, "held_out"),
    ]  # fmt: skip
    assert len({r["seed"] for r in rows(folder) if r["split"] == "held_out"}) == 1
    assert rows(folder)[2]["progress/updates"] == 5
    walls = [r["wall"] for r in rows(folder, wall=True)]
    assert walls == sorted(walls)
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "complete"
    assert record["seed"] == 3
    assert record["progress"] == {"updates": 10}
    assert record["versions"]["paperloop"] == "0.1.0"
    assert "environ" not in json.dumps(record)


def test_a_complete_run_is_returned_at_once_and_can_be_extended(tmp_path):
    first = run(make(WalkConfig()), tmp_path / "a", steps=6, log_every=2)
    before = (tmp_path / "a" / "metrics.jsonl").read_bytes()
    again = run(make(WalkConfig()), tmp_path / "a", steps=6, log_every=2)
    assert fingerprint(first) == fingerprint(again)
    assert (tmp_path / "a" / "metrics.jsonl").read_bytes() == before
    longer = run(make(WalkConfig()), tmp_path / "a", steps=12, log_every=2)
    straight = run(make(WalkConfig()), tmp_path / "b", steps=12, log_every=2)
    assert fingerprint(longer) == fingerprint(straight)
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    with pytest.raises(UserError, match="beyond the 6 asked for"):
        run(make(WalkConfig()), tmp_path / "a", steps=6)


def test_a_run_that_goes_on_says_where(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "a"
    run(make(WalkConfig()), folder, steps=4)
    assert capsys.readouterr().err == ""
    run(make(WalkConfig()), folder, steps=6)
    assert capsys.readouterr().err == f"{folder} resumes from step 4 of 6.\n"
    run(make(WalkConfig()), folder, steps=6)
    assert capsys.readouterr().err == f"{folder} is complete (6 of 6 steps): nothing is left to train.\n"
    run(make(WalkConfig()), folder, steps=8, progress=False)
    assert capsys.readouterr().err == f"{folder} resumes from step 6 of 8.\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run(make(WalkConfig()), folder, steps=8, progress=False)
    assert capsys.readouterr().err == ""


def test_a_torn_row_is_cut_off_on_resume(tmp_path):
    run(make(WalkConfig()), tmp_path / "a", steps=4, log_every=1)
    with (tmp_path / "a" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "wall": 0.1, "spl')
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    (tmp_path / "a" / "run.json").write_text(json.dumps({**record, "status": "running"}))  # killed after step 4
    run(make(WalkConfig()), tmp_path / "a", steps=6, log_every=1)
    run(make(WalkConfig()), tmp_path / "b", steps=6, log_every=1)
    assert rows(tmp_path / "a") == rows(tmp_path / "b")


def test_restore_and_evaluate(tmp_path):
    trainer = make(WalkConfig())
    final = run(trainer, tmp_path / "a", steps=6, save_every=2, evaluators={"held_out": mean_evaluator})
    state = restore(trainer, tmp_path / "a")
    assert fingerprint(state) == fingerprint(final)
    assert restore(trainer, tmp_path / "a", step=4).n == 4
    metrics = paperloop.evaluate(trainer, state, {"held_out": mean_evaluator})
    assert metrics["held_out"]["mean"] == rows(tmp_path / "a")[-1]["mean"]
    with pytest.raises(CheckpointError, match=r"no checkpoint at step 3; it has \[2, 4, 6\]"):
        restore(trainer, tmp_path / "a", step=3)
    with pytest.raises(UserError, match="is not a run folder"):
        restore(trainer, tmp_path / "absent")


def test_what_is_refused(tmp_path):
    folder = tmp_path / "a"
    run(make(WalkConfig()), folder, steps=2)
    with pytest.raises(UserError, match="already holds a run"):
        run(make(WalkConfig()), folder, steps=2, resume="never")
    with pytest.raises(
        UserError, match=rf"differs in size \(3 there, 4 here\): resume it with the configuration in {folder}/config"
    ):
        run(make(WalkConfig(size=4)), folder, steps=2)
    with pytest.raises(UserError, match="with seed 0, not with seed 1"):
        run(make(WalkConfig()), folder, steps=2, seed=1)
    with pytest.raises(UserError, match=r"no run in .* to resume"):
        run(make(WalkConfig()), tmp_path / "new", steps=2, resume="must")
    assert not (tmp_path / "new").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(UserError, match="is not a run folder"):
        run(make(WalkConfig()), tmp_path / "other", steps=2)
    assert os.listdir(tmp_path / "other") == ["thesis.tex"]
    with pytest.raises(UserError, match="is a file"):
        run(make(WalkConfig()), tmp_path / "other" / "thesis.tex", steps=2)
    for bad in ({"steps": 0}, {"steps": 2.0}, {"steps": 2, "log_every": 0}, {"steps": 2, "keep": True}):
        with pytest.raises(UserError, match="at least 1"):
            run(make(WalkConfig()), folder, **bad)
    for seed in (-1, 1.5, True, "0", 2**63):
        with pytest.raises(UserError, match="A seed is an integer"):
            run(make(WalkConfig()), folder, steps=2, seed=seed)

    class Other(WalkTrainer):
        pass

    with pytest.raises(UserError, match=r"holds a run of WalkTrainer, not of .*Other"):
        run(Other(WalkConfig()), folder, steps=2)
    with pytest.raises(UserError, match="on_nonfinite is"):
        run(make(WalkConfig()), folder, steps=2, on_nonfinite="Stop")
    with pytest.raises(UserError, match="called 'train'"):
        run(make(WalkConfig()), folder, steps=2, evaluators={"train": mean_evaluator})
    for content in ("\xff", "[]", "{}"):
        (folder / "run.json").write_text(content, encoding="latin-1")
        with pytest.raises(UserError, match=r"run\.json (cannot be read|is not the record|is not a JSON file)"):
            run(make(WalkConfig()), folder, steps=2)


def test_fields_that_may_change(tmp_path):
    run(make(WalkConfig(note="first")), tmp_path, steps=2)
    run(make(WalkConfig(note="second")), tmp_path, steps=4)
    assert json.loads((tmp_path / "config.json").read_text())["config"]["note"] == "second", "the last run's"


def test_a_numpy_integer_is_a_seed(tmp_path):
    run(make(WalkConfig()), tmp_path, steps=1, seed=np.int64(4))
    assert json.loads((tmp_path / "run.json").read_text())["seed"] == 4


def test_not_finite(tmp_path):
    with pytest.raises(NonFiniteError, match=r"Metric loss is not finite at step 4; the last checkpoint is at step 2"):
        run(make(WalkConfig(bad_at=4)), tmp_path / "a", steps=6, log_every=2, save_every=2)
    assert json.loads((tmp_path / "a" / "run.json").read_text())["status"] == "failed"
    state = run(make(WalkConfig(bad_at=4)), tmp_path / "b", steps=6, log_every=2, save_every=2, on_nonfinite="continue")
    assert state.n == 6


def test_a_state_gone_wrong_between_two_rows_is_not_saved(tmp_path):
    class Explodes(WalkTrainer):
        def step(self, state):
            state, metrics = super().step(state)
            return state, {"loss": np.nan if state.n >= 5 else metrics["loss"]}

    with pytest.raises(NonFiniteError, match="not finite at step 6; the last checkpoint is at step 4"):
        run(Explodes(WalkConfig()), tmp_path, steps=100, log_every=50, save_every=2)


def test_what_is_not_finite_is_null_in_the_rows(tmp_path):
    def evaluator(state, seed):
        return {"mean": np.array([1.0, np.nan, -np.inf])}

    run(make(WalkConfig(bad_at=1)), tmp_path, steps=1, on_nonfinite="continue", evaluators={"e": evaluator})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert rows(tmp_path)[0]["mean"] == [1.0, None, None]
    assert rows(tmp_path)[1]["loss"] is None


def test_a_metric_may_not_be_called_like_a_part_of_the_row(tmp_path):
    with pytest.raises(UserError, match="Metric step of held_out"):
        run(make(WalkConfig()), tmp_path, steps=2, evaluators={"held_out": lambda state, seed: {"step": 10**6}})


@pytest.mark.parametrize("harm", ["digit", "torn", "cut", "foreign", "appended"])
def test_rows_that_a_checkpoint_does_not_vouch_for_are_refused(tmp_path, harm):
    run(make(WalkConfig()), tmp_path, steps=6, log_every=1)
    path = tmp_path / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    whole = "".join(lines)
    new = {
        "digit": whole.replace('"step": 3', '"step": 9', 1),
        "torn": "".join([*lines[:2], "?" + lines[2], *lines[3:]]),
        "cut": whole[:-10],
        "foreign": whole.replace("loss", "toll"),
        "appended": whole + lines[-1],
    }[harm]
    path.write_text(new)
    for steps in (6, 8):
        with pytest.raises(CheckpointError, match=r"metrics\.jsonl is not what .*: restore the file, or move it away"):
            run(make(WalkConfig()), tmp_path, steps=steps, log_every=1)
    assert path.read_text() == new


def test_rows_that_were_moved_away_start_anew_with_a_warning(tmp_path, capsys):
    run(make(WalkConfig()), tmp_path, steps=6, log_every=1)
    (tmp_path / "metrics.jsonl").unlink()
    run(make(WalkConfig()), tmp_path, steps=6, log_every=1)  # complete: nothing is written
    assert "metrics.jsonl was missing" in capsys.readouterr().err
    assert not (tmp_path / "metrics.jsonl").exists()
    state = run(make(WalkConfig()), tmp_path, steps=8, log_every=1)
    note = json.loads((tmp_path / "run.json").read_text())["notes"][0]
    assert note == "metrics.jsonl was missing when the run resumed from step 6: its rows start anew there."
    assert note in capsys.readouterr().err
    assert fingerprint(state) == fingerprint(run(make(WalkConfig()), tmp_path / "b", steps=8))
    assert [row["step"] for row in rows(tmp_path)] == [7, 8]
    run(make(WalkConfig()), tmp_path, steps=9, log_every=1)
    assert json.loads((tmp_path / "run.json").read_text())["notes"] == [note]
    assert "was missing" not in capsys.readouterr().err


def test_rows_that_started_anew_are_vouched_for_at_once(tmp_path):
    run(make(WalkConfig()), tmp_path, steps=4, log_every=1)
    (tmp_path / "metrics.jsonl").unlink()
    failing = make(WalkConfig())
    failing.step = lambda state: 1 / 0
    with pytest.raises(ZeroDivisionError):
        run(failing, tmp_path, steps=8, log_every=1)
    run(make(WalkConfig()), tmp_path, steps=8, log_every=1)
    assert [row["step"] for row in rows(tmp_path)] == [5, 6, 7, 8]


def test_a_pipe_in_place_of_the_rows_is_refused(tmp_path):
    run(make(WalkConfig()), tmp_path, steps=2)
    (tmp_path / "metrics.jsonl").unlink()
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(UserError, match=r"metrics\.jsonl is a named pipe"):
        run(make(WalkConfig()), tmp_path, steps=4)


def test_a_run_killed_after_a_checkpoint_that_is_gone_is_not_started_anew(tmp_path):
    run(make(WalkConfig()), tmp_path, steps=4, save_every=2)
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**record, "status": "running"}))
    shutil.rmtree(tmp_path / "checkpoints")
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match=r"was saved .*but no checkpoint"):
        run(make(WalkConfig()), tmp_path, steps=4)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_metrics_that_are_not_numbers_or_do_not_fit_the_agents_are_refused(tmp_path):
    class Odd(WalkTrainer):
        def step(self, state):
            state, metrics = super().step(state)
            return state, {**metrics, "odd": self.odd}

    for number, odd in enumerate(("text", None, 2**70)):
        trainer = Odd(WalkConfig())
        trainer.odd = odd
        with pytest.raises(UserError, match=r"Metric odd of .*Odd is not a number"):
            run(trainer, tmp_path / str(number), steps=1)
    trainer = make(WalkConfig())
    trainer.agents, trainer.headlines = ("a", "b"), ("x",)
    with pytest.raises(UserError, match="Metric x of WalkTrainer has 3 entries for 2 agents"):
        run(trainer, tmp_path / "agents", steps=1)


def test_other_agents_are_refused_on_resume(tmp_path):
    trainer = make(WalkConfig())
    trainer.agents = ("a", "a", "b")
    run(trainer, tmp_path, steps=1)
    trainer.agents = ("a", "b", "b")
    with pytest.raises(UserError, match=r"with the agents \['a', 'a', 'b'\], not with the agents \['a', 'b', 'b'\]"):
        run(trainer, tmp_path, steps=2)


def test_final_notes_that_fail_do_not_spoil_the_run(tmp_path):
    trainer = make(WalkConfig())
    trainer.final_notes = lambda state: 1 / 0
    run(trainer, tmp_path / "a", steps=1)
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    assert record["status"] == "complete"
    assert record["notes"] == ["final_notes of WalkTrainer failed: ZeroDivisionError: division by zero"]
    trainer.final_notes = lambda state: "One sentence."
    run(trainer, tmp_path / "b", steps=1)
    assert json.loads((tmp_path / "b" / "run.json").read_text())["notes"] == ["One sentence."]


def test_a_saved_run_without_checkpoints_is_not_started_anew(tmp_path):
    run(make(WalkConfig()), tmp_path, steps=4, log_every=1)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(CheckpointError, match="but no checkpoint"):
        run(make(WalkConfig()), tmp_path, steps=8)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    run(make(WalkConfig()), tmp_path / "a", steps=2)
    run(make(WalkConfig()), tmp_path / "b", steps=2, seed=1)
    shutil.rmtree(tmp_path / "a" / "checkpoints")
    shutil.copytree(tmp_path / "b" / "checkpoints", tmp_path / "a" / "checkpoints")
    with pytest.raises(CheckpointError, match="is of seed 1, not 0: it was copied"):
        run(make(WalkConfig()), tmp_path / "a", steps=4)


def test_checkpoints_of_another_configuration_are_refused(tmp_path):
    run(make(WalkConfig(note="x")), tmp_path / "a", steps=2)
    run(make(WalkConfig(bad_at=9)), tmp_path / "b", steps=2)
    shutil.rmtree(tmp_path / "a" / "checkpoints")
    shutil.copytree(tmp_path / "b" / "checkpoints", tmp_path / "a" / "checkpoints")
    for call in (
        lambda trainer: run(trainer, tmp_path / "a", steps=4),
        lambda trainer: restore(trainer, tmp_path / "a"),
    ):
        with pytest.raises(CheckpointError, match=r"is of configuration \w+, not \w+: it was copied from another run"):
            call(make(WalkConfig(note="x")))
    run(make(WalkConfig(bad_at=9, note="y")), tmp_path / "b", steps=4)  # a field that may change does not count


def test_a_run_of_the_old_version_is_refused_with_the_reason(tmp_path):
    run(make(WalkConfig()), tmp_path, steps=2)
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**record, "schema": 1, "versions": {"outerloop": "0.1.0"}}))
    with pytest.raises(UserError, match=r"was written by outerloop .*train again in a new folder"):
        run(make(WalkConfig()), tmp_path, steps=2)


@pytest.mark.parametrize("damage", [{"schema": "2"}, {"seed": None}, {"status": 1}, {"start": []}, {"method": {}}])
def test_a_record_of_wrong_types_is_refused(tmp_path, damage):
    run(make(WalkConfig()), tmp_path, steps=2)
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**record, **damage}))
    with pytest.raises(UserError, match=r"run\.json is not the record of a run"):
        run(make(WalkConfig()), tmp_path, steps=2)


class IdleTrainer(WalkTrainer):
    """Fills a buffer, for ever."""

    def progress(self, state):
        return {"env_steps": state.n, "updates": 0}


def test_a_run_that_learned_nothing_says_so(tmp_path, capsys):
    run(IdleTrainer(WalkConfig()), tmp_path / "idle", steps=3, progress=False)
    said = "made no update: nothing was learned in 3 steps."
    assert said in capsys.readouterr().err
    assert json.loads((tmp_path / "idle" / "run.json").read_text())["notes"] == [f"{tmp_path / 'idle'} {said}"]
    run(make(WalkConfig()), tmp_path / "busy", steps=3, progress=False)
    assert capsys.readouterr().err == ""
    knowing = IdleTrainer(WalkConfig())
    knowing.final_notes = lambda state: (f"The buffer holds {state.n} of 9 levels.",)  # a trainer that knows why
    run(knowing, tmp_path / "knowing", steps=3, progress=False)
    assert "warning: The buffer holds 3 of 9 levels." in capsys.readouterr().err
    assert json.loads((tmp_path / "knowing" / "run.json").read_text())["notes"] == ["The buffer holds 3 of 9 levels."]


def test_names_of_metrics_and_agents_are_recorded(tmp_path):
    trainer = make(WalkConfig())
    trainer.agents = ("td3", "td3", "td3-c")
    run(trainer, tmp_path, steps=1)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["headlines"] == ["loss"]
    assert record["agents"] == ["td3", "td3", "td3-c"]


def test_a_complete_run_on_a_read_only_folder_is_returned(tmp_path, monkeypatch):
    first = run(make(WalkConfig()), tmp_path, steps=2)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    # Root may write everywhere, so no mode would stop it.
    monkeypatch.setattr(paperloop.loop.folder.RunFolder, "lock", lambda self: pytest.fail("the folder is locked"))
    assert fingerprint(run(make(WalkConfig()), tmp_path, steps=2)) == fingerprint(first)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_partial_files_of_killed_processes_are_removed(tmp_path):
    run(make(WalkConfig()), tmp_path, steps=2)
    (tmp_path / ".run.json.999999999.tmp").write_text("{")
    (tmp_path / f".config.json.{os.getppid()}.tmp").write_text("{")
    run(make(WalkConfig()), tmp_path, steps=3)
    assert not (tmp_path / ".run.json.999999999.tmp").exists()
    assert (tmp_path / f".config.json.{os.getppid()}.tmp").exists()  # that process lives


def test_an_error_of_the_method_is_not_blamed_on_the_folder(tmp_path):
    def evaluator(state, seed):
        raise ConnectionError("the hub is down")

    with pytest.raises(ConnectionError, match="the hub is down"):
        run(make(WalkConfig()), tmp_path, steps=2, evaluators={"e": evaluator})
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "failed"


class CrashingTrainer(WalkTrainer):
    """A simulator that dies at step 4, before the state is touched."""

    def step(self, state):
        if state.n == 3 and self.config.note != "mended":
            error = ConnectionError("the simulator died")
            error.intact_state = state
            raise error
        return super().step(state)


def test_a_step_that_fails_and_leaves_the_state_intact_loses_nothing(tmp_path, capsys):
    with pytest.raises(ConnectionError, match="died"):
        run(CrashingTrainer(WalkConfig()), tmp_path / "a", steps=6)
    assert "Saved at step 3 of 6" in capsys.readouterr().err
    assert json.loads((tmp_path / "a" / "run.json").read_text())["status"] == "failed"
    with pytest.raises(ConnectionError, match="died"):  # again, with nothing new to save
        run(CrashingTrainer(WalkConfig()), tmp_path / "a", steps=6)
    assert "Saved" not in capsys.readouterr().err
    mended = CrashingTrainer(WalkConfig(note="mended"))
    ended = run(mended, tmp_path / "a", steps=6)
    whole = run(WalkTrainer(WalkConfig()), tmp_path / "b", steps=6)
    assert fingerprint(ended) == fingerprint(whole)
    bad = CrashingTrainer(WalkConfig(bad_at=3))
    with pytest.raises(ConnectionError, match="died"):  # a state gone wrong is not saved
        run(bad, tmp_path / "c", steps=6, log_every=100)
    assert "Saved" not in capsys.readouterr().err


def test_metrics_on_a_full_disk(tmp_path):
    """A file-size limit stands in for the full disk, as in test_checkpoint.py."""
    code = CHILD.format(here=str(Path(__file__).parent), folder=str(tmp_path)).replace(
        "run(Slow",
        "import resource, signal, paperloop\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "run(Slow",
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "UserError: The run folder" in result.stderr
    assert "File too large" in result.stderr
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "failed"


def test_damage_is_refused_and_without_it_the_run_is_the_same(tmp_path):
    run(make(WalkConfig()), tmp_path / "a", steps=6, save_every=2, log_every=1)
    victim = tmp_path / "a" / "checkpoints" / "0000000006" / "payload" / "x.npy"
    damaged = bytearray(victim.read_bytes())
    damaged[-1] ^= 1
    victim.write_bytes(damaged)
    with pytest.raises(CheckpointError, match=r"x\.npy has changed; to resume from step 4, remove "):
        run(make(WalkConfig()), tmp_path / "a", steps=8, save_every=2, log_every=1)
    shutil.rmtree(tmp_path / "a" / "checkpoints" / "0000000006")
    (tmp_path / "a" / "checkpoints" / "latest").unlink()
    state = run(make(WalkConfig()), tmp_path / "a", steps=8, save_every=2, log_every=1)
    straight = run(make(WalkConfig()), tmp_path / "b", steps=8, save_every=2, log_every=1)
    assert fingerprint(state) == fingerprint(straight)
    assert rows(tmp_path / "a") == rows(tmp_path / "b")


def test_another_schema_is_refused(tmp_path):
    run(make(WalkConfig()), tmp_path, steps=2)
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**record, "schema": 0}))
    with pytest.raises(UserError, match="run schema 0"):
        run(make(WalkConfig()), tmp_path, steps=4)


class Recorder:
    """A sink that fails after some rows."""

    def __init__(self, fail_at=None):
        self.rows, self.fail_at = [], fail_at

    def open(self, run_dir, step):
        self.opened = step

    def write(self, step, wall, split, metrics):
        if self.fail_at is not None and len(self.rows) == self.fail_at:
            raise ConnectionError("the service is gone")
        self.rows.append((step, split, metrics))

    def flush(self):
        pass

    def close(self):
        self.closed = True


def test_a_sink_that_fails_is_dropped_and_training_goes_on(tmp_path):
    good, bad = Recorder(), Recorder(fail_at=1)
    with pytest.warns(UserWarning, match="Recorder failed in write and is dropped: the service is gone"):
        run(make(WalkConfig()), tmp_path, steps=4, log_every=1, sinks=(bad, good))
    assert [r[0] for r in good.rows] == [1, 2, 3, 4]
    assert len(bad.rows) == 1
    assert good.closed


def test_a_sink_that_cannot_be_closed_leaves_the_others_closed(tmp_path):
    class Stuck(Recorder):
        def close(self):
            raise ValueError("stuck")

    before, after = Recorder(), Recorder()
    with pytest.warns(UserWarning, match="Stuck failed in"):
        run(make(WalkConfig()), tmp_path, steps=2, sinks=(before, Stuck(), Stuck(fail_at=0), after))
    assert before.closed
    assert after.closed


def test_metrics_are_fetched_only_when_logged(tmp_path):
    fetched = []

    class Lazy:
        def __init__(self, n):
            self.n = n

        def __array__(self, dtype=None, copy=None):
            fetched.append(self.n)
            return np.asarray(float(self.n))

    class Watched(WalkTrainer):
        def step(self, state):
            state, _ = super().step(state)
            return state, {"loss": Lazy(state.n)}

    run(Watched(WalkConfig()), tmp_path, steps=9, log_every=4)
    assert fetched == [4, 8, 9]


def test_a_read_only_folder(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot be written"):
        run(make(WalkConfig()), tmp_path / "a", steps=1)


CHILD = """
import sys
sys.path.insert(0, {here!r})
from test_runner import SlowTrainer, WalkConfig
from paperloop import run

run(SlowTrainer(WalkConfig()), {folder!r}, steps=500, log_every=1, progress=False)
"""


def child(folder: Path) -> subprocess.Popen:
    code = CHILD.format(here=str(Path(__file__).parent), folder=str(folder))
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (folder / "run.json").exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_saves_and_exits_non_zero(tmp_path, signum):
    process = child(tmp_path)
    time.sleep(0.3)
    process.send_signal(signum)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signum
    assert "Traceback" not in errors
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["status"] == "interrupted"
    step = record["step"]
    assert (tmp_path / "checkpoints" / f"{step:010d}" / "DONE").exists()
    assert rows(tmp_path)[-1]["step"] == step
    assert f"Saved at step {step} of 500 in {tmp_path}: the same command resumes from there.\n" in errors


def test_two_processes_on_one_folder(tmp_path):
    process = child(tmp_path)
    try:
        with pytest.raises(UserError, match=f"in use by process {process.pid} on"):
            run(SlowTrainer(WalkConfig()), tmp_path, steps=500)
    finally:
        process.kill()
        process.communicate()


def test_interrupted_in_process(tmp_path):
    class Stops(WalkTrainer):
        def step(self, state):
            if state.n == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().step(state)

    trainer = Stops(WalkConfig())
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as stop:
        run(trainer, tmp_path, steps=10)
    assert stop.value.code == 128 + signal.SIGTERM
    assert stop.value.step == 3
    assert signal.getsignal(signal.SIGTERM) is before
    assert restore(trainer, tmp_path).n == 3


def test_interrupted_while_evaluating_saves_without_another_step(tmp_path):
    def evaluator(state, seed):
        if state.n == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"mean": state.x.mean()}

    with pytest.raises(Interrupted) as stop:
        run(make(WalkConfig()), tmp_path, steps=10, eval_every=2, evaluators={"e": evaluator})
    assert stop.value.step == 4
    assert restore(make(WalkConfig()), tmp_path).n == 4


@pytest.mark.parametrize("bad", [{"headlines": ()}, {"headlines": "loss"}, {"agents": "ab"}, {"agents": ("a", "b")}])
def test_names_that_are_missing_or_do_not_fit_break_the_contract(tmp_path, bad):
    def misnamed(config):
        trainer = make(config)
        trainer.headlines = ("x",)
        vars(trainer).update(bad)
        return trainer

    with pytest.raises(ConformanceError, match=r"headlines|agents"):
        check_trainer(misnamed, WalkConfig(), folder=tmp_path)
