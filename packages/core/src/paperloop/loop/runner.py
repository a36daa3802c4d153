"""The loop: step, log, evaluate, save; resume exactly; stop cleanly."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
import time
import warnings
from collections.abc import Collection, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from paperloop.errors import CheckpointError, NonFiniteError, UserError, printable, setting
from paperloop.loop.checkpoint import verify
from paperloop.loop.folder import RunFolder, method_name, run_facts
from paperloop.loop.metrics_file import RESERVED, JsonlSink
from paperloop.loop.progress import Progress
from paperloop.protocol import Evaluator, Metrics, Sink, Trainer
from paperloop.seeds import check_seed, fold_seed
from paperloop.signals import caught_signals

STOPPING = "Stopping after this step, and saving; again to stop at once."

__all__ = ["Interrupted", "evaluate", "restore", "run", "to_host"]


class Interrupted(SystemExit):
    """SIGTERM or Ctrl-C: the step was finished and saved. As a SystemExit it ends the process with 128 + signal."""

    def __init__(self, signum: int, step: int, run_dir: Path) -> None:
        super().__init__(128 + signum)
        self.step, self.run_dir = step, run_dir


def run(
    trainer: Trainer[Any],
    run_dir: Path | str,
    *,
    steps: int,
    seed: int = 0,
    evaluators: Mapping[str, Evaluator[Any]] | None = None,
    log_every: int | None = None,
    eval_every: int | None = None,
    eval_at: Collection[int] = (),
    save_every: int | None = None,
    save_minutes: float = 10.0,
    resume: Literal["auto", "never", "must"] = "auto",
    keep: int = 3,
    sinks: Sequence[Sink] = (),
    on_nonfinite: Literal["stop", "continue"] = "stop",
    progress: bool = True,
    parent: Path | None = None,
) -> Any:
    """Train until `steps` steps are done, in a run folder, and return the final state.

    The folder makes the run exact: killed at any moment and called again, it continues from the newest checkpoint, and
    the final state and metrics.jsonl equal those of an uninterrupted run (`wall` apart). A run that is already
    complete is restored and returned at once; a larger `steps` extends it.

    Args:
        trainer: the method.
        run_dir: the run folder, made if absent.
        steps: how many calls of `trainer.step` the run has in all, those before a resume included.
        seed: the run's seed; the whole run is a function of it.
        evaluators: name -> evaluator, called before the first step, every `eval_every` steps and after the last. The
            name is the `split` of its rows, so it is not "train". Each gets the same seed every time, so that its
            numbers are comparable.
        log_every: write the metrics of every n-th step; None means about 100 rows in all. A row holds that step's own
            metrics, and nothing of the steps before it: averages would depend on where a run was resumed. A trainer
            whose dispatches fuse many updates averages within each.
        eval_every: None means before the first step and after the last only.
        eval_at: more steps after which to evaluate, for a grid that is dense where much happens.
        save_every: checkpoint every so many steps, and after the last. None leaves it to `save_minutes`.
        save_minutes: checkpoint also when this much time has passed since the last one. Results do not depend on it.
        resume: "auto" continues what is in the folder, "never" refuses a folder with a run, "must" demands one.
        keep: checkpoints to keep.
        sinks: more sinks, next to metrics.jsonl (`paperloop_lab.sinks`). One that fails after it was opened is dropped
            with a warning.
        on_nonfinite: "stop" ends the run with `NonFiniteError` when a training metric is not finite at a step that is
            logged or saved; "continue" ignores it.
        progress: where the error stream is a terminal, show a bar there, and say where a run resumes or that it is
            complete already. Elsewhere, as in a log, that is said in any case.
        parent: the run that this one starts from, for run.json.

    Returns:
        The state after the last step.

    Raises:
        UserError: an argument is out of range, the folder holds something else, or it cannot be written.
        CheckpointError: the newest checkpoint is damaged or does not fit.
        NonFiniteError: see `on_nonfinite`; that step is not saved, the checkpoints before it are kept.
        Interrupted: SIGTERM or Ctrl-C arrived. A second signal ends the process at once.
    """
    seed = check_seed(seed)
    _check_range(steps=steps, log_every=log_every, eval_every=eval_every, save_every=save_every, keep=keep)
    if resume not in ("auto", "never", "must"):
        raise UserError(f"resume is 'auto', 'never' or 'must'; got {resume!r}.")
    if on_nonfinite not in ("stop", "continue"):
        raise UserError(f"on_nonfinite is 'stop' or 'continue'; got {on_nonfinite!r}.")
    if "train" in (evaluators or {}):
        raise UserError("An evaluator is called 'train', which is the split of the training rows: rename it.")
    folder = RunFolder(Path(run_dir), keep)
    loop = _Loop(
        trainer, folder, steps, seed, dict(evaluators or {}), log_every or max(1, steps // 100), eval_every,
        frozenset(eval_at), save_every, 60 * save_minutes, on_nonfinite, JsonlSink(), list(sinks),
    )  # fmt: skip
    previous = folder.check(trainer, seed=seed, resume=resume)  # before the lock leaves a file in somebody's folder
    complete = bool(previous) and previous["status"] == "complete"
    reading = complete and folder.checkpoints.steps()[-1:] == [steps]  # nothing is written: it may be read-only
    with contextlib.nullcontext() if reading else folder.lock():
        previous = previous if reading else folder.check(trainer, seed=seed, resume=resume)
        state = loop.begin(previous)
        if loop.start >= steps and previous and previous["status"] == "complete":
            _say(f"{folder.path} is complete ({loop.start} of {steps} steps): nothing is left to train.", progress)
            return state
        if loop.start:
            _say(f"{folder.path} resumes from step {loop.start} of {steps}.", progress)
        try:
            folder.start(trainer, seed=seed, previous=previous, parent=parent, repairs=loop.repairs)
            bar = Progress(steps, loop.start, enabled=progress, label=folder.path.name)
            with caught_signals(STOPPING) as caught, loop.open_sinks(), contextlib.closing(bar):
                state = loop.train(state, caught, bar)
        except Interrupted as stop:
            folder.finish("interrupted", step=stop.step)
            then = "the same command resumes" if resume != "never" else f"{setting('resume', 'auto')} resumes"
            _say(f"Saved at step {stop.step} of {steps} in {folder.path}: {then} from there.", True)
            raise
        except BaseException as error:
            with contextlib.suppress(UserError):  # the disk may be the reason
                folder.finish("failed", error=f"{type(error).__name__}: {error}")
            raise
        notes = loop.final_notes(state)
        for note in notes:
            _say(f"warning: {note}", True)
        notes = [*loop.repairs, *notes]
        folder.finish("complete", step=steps, wall=round(loop.wall, 3), progress=dict(loop.progress), notes=notes)
    return state


def restore(trainer: Trainer[Any], run_dir: Path | str, *, step: int | None = None) -> Any:
    """Return the state at a run's newest checkpoint (or at `step`), verified byte by byte.

    Raises:
        UserError: there is no run, or it belongs to another method, configuration or seed.
        CheckpointError: the checkpoint is missing or damaged.
    """
    folder = RunFolder(Path(run_dir))
    record = folder.record()
    if record is None:
        raise UserError(f"{run_dir} is not a run folder (no run.json): name the folder that training wrote.")
    folder.check(trainer, seed=record["seed"], resume="must")
    known = folder.checkpoints.steps()
    if step is not None and step not in known:
        raise CheckpointError(f"{run_dir} has no checkpoint at step {step}; it has {known}.")
    if step is not None:
        verify(folder.checkpoints.path(step))
    elif (step := folder.checkpoints.find()) is None:
        raise CheckpointError(f"{run_dir} has no checkpoint yet: train it first.")
    folder.check_manifest(step, folder.checkpoints.manifest(step), trainer, record["seed"])
    return trainer.restore(folder.checkpoints.path(step) / "payload", trainer.init(record["seed"]))


def evaluate(
    trainer: Trainer[Any], state: Any, evaluators: Mapping[str, Evaluator[Any]], *, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Return evaluator name -> metrics on the host, with the same seeds as `run` gives its evaluators."""
    return {name: to_host(call(state, fold_seed(seed, "evaluate", name))) for name, call in evaluators.items()}


def to_host(metrics: Metrics) -> dict[str, Any]:
    """Fetch metrics from their devices, JAX's in one go; every value becomes a NumPy array."""
    values = dict(metrics)
    if "jax" in sys.modules:
        jax = sys.modules["jax"]
        values.update(jax.device_get({name: value for name, value in values.items() if isinstance(value, jax.Array)}))
    return {name: _torch_to_host(v) if hasattr(v, "detach") else np.asarray(v) for name, v in values.items()}


def _torch_to_host(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    # NumPy has no bfloat16 and no 8-bit floats.
    return (tensor.float() if tensor.is_floating_point() and tensor.element_size() < 4 else tensor).numpy()


@dataclasses.dataclass
class _Loop:
    """What one call of `run` knows; split up so that each part reads as one thought."""

    trainer: Trainer[Any]
    folder: RunFolder
    steps: int
    seed: int
    evaluators: dict[str, Evaluator[Any]]
    log_every: int
    eval_every: int | None
    eval_at: Collection[int]
    save_every: int | None
    save_seconds: float
    on_nonfinite: str
    rows: JsonlSink
    sinks: list[Any]
    start: int = 0
    repairs: list[str] = dataclasses.field(default_factory=list)
    saved: bool = False
    wall_before: float = 0.0
    began: float = dataclasses.field(default_factory=time.monotonic)
    progress: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def wall(self) -> float:
        """Seconds of running time, those of earlier tries up to the checkpoint included."""
        return self.wall_before + time.monotonic() - self.began

    def begin(self, previous: Mapping[str, Any] | None) -> Any:
        """Return the state to start from: restored where a checkpoint exists, new otherwise."""
        checkpoints = self.folder.checkpoints
        newest = max(checkpoints.steps(), default=None)
        if newest is not None and newest > self.steps:
            raise UserError(
                f"{self.folder.path} is at step {newest}, beyond the {self.steps} asked for: ask for at least that."
            )
        found = checkpoints.find()
        ended = previous is not None and previous["status"] in ("complete", "interrupted")
        if found is None and previous and (ended or previous.get("saved")):
            raise CheckpointError(  # starting anew would overwrite its metrics
                f"{self.folder.path} holds a run that was saved (run.json: {previous['status']}), but no checkpoint: "
                "restore its checkpoints, or choose another folder."
            )
        state = self.trainer.init(self.seed)
        if found is not None:
            manifest = checkpoints.manifest(found)
            self.folder.check_manifest(found, manifest, self.trainer, self.seed)
            whole = previous is not None and (previous["status"], previous.get("step")) == ("complete", found)
            rows_there = self.rows.resume(self.folder.path, manifest["metrics"], whole=whole)
            state = self.trainer.restore(checkpoints.path(found) / "payload", state)
            self.start, self.wall_before, self.progress = found, manifest["wall"], manifest["progress"]
            self.repairs = list((previous or {}).get("repairs") or ())
            if not rows_there:
                self._start_rows_anew(state)
        return state

    def _start_rows_anew(self, state: Any) -> None:
        note = f"metrics.jsonl was missing when the run resumed from step {self.start}: its rows start anew there."
        _say(f"warning: {self.folder.path}: {note}", True)
        if self.start < self.steps:
            self.repairs.append(note)
            # From now on the checkpoint vouches for the rows that are left.
            self.folder.checkpoints.save(self.start, functools.partial(self.trainer.save, state), self._meta(state))

    @contextlib.contextmanager
    def open_sinks(self) -> Generator[None]:
        with contextlib.ExitStack() as stack:
            with self.folder.writing():
                self.rows.open(self.folder.path, self.start)
            stack.callback(self._close_rows)
            for sink in self.sinks:
                sink.open(self.folder.path, self.start)
                stack.callback(self._guard, sink, "close")
            yield

    def _close_rows(self) -> None:
        with self.folder.writing():
            self.rows.close()

    def final_notes(self, state: Any) -> list[str]:
        """What somebody should know about a run that ended well; a trainer may know more about its own."""
        try:
            told = getattr(self.trainer, "final_notes", lambda state: ())(state)
        except Exception as error:  # the run itself is complete
            told = f"final_notes of {method_name(self.trainer)} failed: {type(error).__name__}: {error}"
        notes = [told] if isinstance(told, str) and told else list(told or ())
        if not notes and self.progress.get("updates") == 0:
            notes = [f"{self.folder.path} made no update: nothing was learned in {self.steps} steps."]
        return notes

    def train(self, state: Any, caught: list[int], bar: Progress) -> Any:
        self.began = saved = time.monotonic()
        metrics = None
        if self.start == 0:
            self._evaluate(state, 0)
        for step in range(self.start + 1, self.steps + 1):
            try:
                state, metrics = self.trainer.step(state)
            except Exception as error:
                self._rescue(error, step - 1, metrics)
                raise
            last = step == self.steps
            logging = last or step % self.log_every == 0
            if logging:
                self._log(state, metrics, step, bar)
            if last or step in self.eval_at or (self.eval_every and step % self.eval_every == 0):
                self._evaluate(state, step)
            now = time.monotonic()
            due = self.save_every and step % self.save_every == 0
            saving = last or caught or due or now - saved > self.save_seconds
            if saving:
                if not logging:  # a state gone wrong must not push the good checkpoints out
                    self._check_finite(to_host(metrics), step)
                self._save(state, step)
                saved = time.monotonic()
            bar.update(step)
            if saving and caught and not last:
                raise Interrupted(caught[0], step, self.folder.path)
        return state

    def _rescue(self, error: Exception, step: int, metrics: Metrics | None) -> None:
        """Save the state that a failed step left intact, where it says so and the last metrics are sound."""
        state = getattr(error, "intact_state", None)
        if state is None or metrics is None or step in self.folder.checkpoints.steps():
            return
        with contextlib.suppress(UserError, OSError):  # what failed is the step; that is the error to show
            self._check_finite(to_host(metrics), step)
            self._save(state, step)
            _say(f"Saved at step {step} of {self.steps} in {self.folder.path}, before the step that failed.", True)

    def _log(self, state: Any, metrics: Metrics, step: int, bar: Progress) -> None:
        host = to_host(metrics)
        self._check_numbers(host)
        self.progress = {name: int(value) for name, value in self.trainer.progress(state).items()}
        # A bad row is written too: it shows what happened.
        self._write(step, "train", {**host, **{f"progress/{k}": v for k, v in self.progress.items()}})
        self._check_finite(host, step)
        for headline in [name for name in (*getattr(self.trainer, "headlines", ()), *host) if name in host][:1]:
            bar.update(step, f"{headline} {float(np.mean(host[headline])):.4g}")

    def _check_numbers(self, host: Mapping[str, Any]) -> None:
        """Refuse metrics that are not numbers, and agents that do not fit the leading axis: the method's faults."""
        bad = [name for name, value in host.items() if value.dtype.kind not in "biuf"]
        if bad:
            raise UserError(f"Metric {bad[0]} of {method_name(self.trainer)} is not a number, but {host[bad[0]]!r}.")
        agents = getattr(self.trainer, "agents", None)
        if agents is None:
            return
        for name in getattr(self.trainer, "headlines", ()):
            if name in host and host[name].ndim and len(host[name]) != len(agents):
                raise UserError(
                    f"Metric {name} of {method_name(self.trainer)} has {len(host[name])} entries for {len(agents)} "
                    "agents."
                )

    def _check_finite(self, host: Mapping[str, Any], step: int) -> None:
        bad = [name for name, value in host.items() if not np.all(np.isfinite(value))]
        if bad and self.on_nonfinite == "stop":
            kept = self.folder.checkpoints.steps()
            last_good = f"the last checkpoint is at step {kept[-1]}" if kept else "no checkpoint was written yet"
            raise NonFiniteError(
                f"Metric {', '.join(sorted(bad))} is not finite at step {step}; {last_good}: lower the learning rate "
                f"or look into the data, or run with {setting('on_nonfinite', 'continue')}."
            )

    def _evaluate(self, state: Any, step: int) -> None:
        for name, metrics in evaluate(self.trainer, state, self.evaluators, seed=self.seed).items():
            self._write(step, name, metrics)

    def _save(self, state: Any, step: int) -> None:
        self._flush()  # the rows up to this step are durable before the checkpoint that vouches for them
        self.folder.checkpoints.save(step, functools.partial(self.trainer.save, state), self._meta(state))
        if not self.saved:  # from now on a missing checkpoint is a loss, not a run that was killed early
            self.folder.add(saved=True)
            self.saved = True

    def _meta(self, state: Any) -> dict[str, Any]:
        """What a checkpoint's manifest says of the run at `state`."""
        self.progress = {name: int(value) for name, value in self.trainer.progress(state).items()}
        return {
            **run_facts(self.trainer, self.seed),
            "metrics": self.rows.mark(),
            "wall": self.wall,
            "progress": dict(self.progress),
        }

    def _write(self, step: int, split: str, metrics: Mapping[str, Any]) -> None:
        taken = [name for name in RESERVED if name in metrics]
        if taken:
            raise UserError(f"Metric {', '.join(taken)} of {split} has a name that every row has already: rename it.")
        with self.folder.writing():
            self.rows.write(step, wall := self.wall, split, metrics)
        for sink in list(self.sinks):
            self._guard(sink, "write", step, wall, split, metrics)

    def _flush(self) -> None:
        with self.folder.writing():
            self.rows.flush()
        for sink in list(self.sinks):
            self._guard(sink, "flush")

    def _guard(self, sink: Any, call: str, *args: Any) -> None:
        """Call a sink. One that fails is dropped, and training continues; metrics.jsonl is not one of these."""
        try:
            getattr(sink, call)(*args)
        except Exception as error:
            if sink in self.sinks:  # and not dropped before, when it is closed
                self.sinks.remove(sink)
            warnings.warn(f"{type(sink).__name__} failed in {call} and is dropped: {error}", stacklevel=2)


def _say(text: str, wanted: bool) -> None:
    """Print one line on the error stream; where that is a file, also what a terminal was not to show."""
    if wanted or not sys.stderr.isatty():
        print(printable(text), file=sys.stderr, flush=True)


def _check_range(**values: int | None) -> None:
    for name, value in values.items():
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise UserError(f"{name} is a whole number of at least 1; got {value!r}.")
