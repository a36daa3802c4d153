"""The contract between a method and the loop that runs it.

A method is a `Trainer`: configuration and data bound to five functions of an explicit state. The loop that uses it is
`paperloop.run`; in its barest form it is

    state = trainer.init(seed=0)
    for _ in range(steps):
        state, metrics = trainer.step(state)
    trainer.save(state, folder)

`paperloop.conformance.check_trainer` is the same contract as executable checks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

__all__ = ["Evaluator", "Metrics", "Sink", "State", "Trainer"]

State = TypeVar("State")
Measured = TypeVar("Measured", contravariant=True)

#: Name -> scalar or array. A leading axis, where there is one, is the seed axis. Values may live on a device: they are
#: fetched only when a sink writes them, so that returning them costs no synchronisation.
Metrics = Mapping[str, Any]


@runtime_checkable
class Trainer(Protocol[State]):
    """One method bound to its configuration and data.

    All randomness and all progress live in the state: `init` and `step` are functions of their arguments, so the same
    seed gives the same run, and a restored state continues it bit for bit.

    Attributes:
        config: a frozen dataclass that survives a round trip through JSON (`paperloop.settings`).
        donates: optional; True says that `step` may consume the buffers of the state it is given, so that the caller
            must not use that state again. Absent means False.
        headlines: names of the metrics that a progress bar and a report show first, most telling first.
        agents: optional; one label for each entry of the leading axis of the metrics. Entries with equal labels are
            repetitions of one another, entries with different ones are different arms and are never pooled. Absent
            means that the leading axis, where there is one, is seeds of one arm.
        final_notes: optional; `final_notes(state)` returns sentences that a reader of the results must know, such as
            why no update was made. They are shown as warnings when the run ends, and kept in run.json.
        resume_ignores: optional; dotted names of configuration fields that may differ when a run resumes, because the
            results up to there do not depend on them. Absent means none.
        schema: optional; the schema number of the configuration, raised when a field changes its meaning: run folders
            of another number are refused. Absent means 1.
    """

    config: Any
    headlines: Sequence[str]

    def init(self, seed: int) -> State:
        """Return the state before the first step, with every random stream derived from `seed`."""
        ...

    def step(self, state: State) -> tuple[State, Metrics]:
        """Do one dispatch (it may fuse thousands of updates) and return the new state and its metrics.

        The keys, shapes and dtypes of the metrics are the same at every step, and their values are finite.

        A step that fails through no fault of the state, such as a simulator that crashed, may raise an exception with
        the attribute `intact_state`: the state from before the step, whole and fit to be saved. The runner saves it
        before it raises the exception again, so that the same command repeats only this step.
        """
        ...

    def progress(self, state: State) -> Mapping[str, int]:
        """Return counters such as updates, environment steps or tokens; they never decrease."""
        ...

    def save(self, state: State, folder: Path) -> None:
        """Write the whole state into the existing, empty `folder`. The caller makes that atomic and hashes it."""
        ...

    def restore(self, folder: Path, like: State) -> State:
        """Read back what `save` wrote.

        Args:
            folder: a folder that `save` filled.
            like: a state of this trainer (from `init`), which gives structure, shapes and dtypes.

        Raises:
            paperloop.CheckpointError: the content does not fit `like`; the message names the leaf.
        """
        ...


@runtime_checkable
class Evaluator(Protocol[Measured]):
    """Measures a state without changing it."""

    def __call__(self, state: Measured, seed: int) -> Metrics:
        """Return the metrics of `state`; all randomness comes from `seed`."""
        ...


@runtime_checkable
class Sink(Protocol):
    """Somewhere that metrics go. Sinks see host values only (floats and NumPy arrays)."""

    def open(self, run_dir: Path, step: int) -> None:
        """Start writing for the run in `run_dir`, which stands at `step`; later rows of an earlier try are void."""
        ...

    def write(self, step: int, wall: float, split: str, metrics: Mapping[str, Any]) -> None:
        """Take one row: `wall` in seconds of running time, `split` such as "train" or an evaluator's name."""
        ...

    def flush(self) -> None:
        """Make everything written so far durable."""
        ...

    def close(self) -> None:
        """Flush and release."""
        ...
