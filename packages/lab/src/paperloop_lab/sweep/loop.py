"""The loop of a sweep: start what is left, watch it, pass signals on, and say what failed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from paperloop.errors import UserError, printable
from paperloop.files import write_json
from paperloop.signals import caught_signals
from paperloop_lab.sweep.engines import Engine, Job, Running
from paperloop_lab.sweep.plan import CONFIG, SweepRun, counted, differences, find_program, run_status

__all__ = ["Failure", "SweepResult", "plan", "run_sweep"]

POLL_SECONDS = 0.1
REDRAW_SECONDS = 0.5
RETRY_SECONDS = 1.0
TAIL_LINES = 10


@dataclasses.dataclass(frozen=True)
class Failure:
    """A run that ended without being complete."""

    id: str
    label: str  # the values by which it differs from the others
    reason: str  # how it ended
    log: Path

    def tail(self) -> list[str]:
        """Return the last lines of the log."""
        return _tail(self.log, TAIL_LINES)


@dataclasses.dataclass(frozen=True)
class SweepResult:
    """What a sweep did."""

    before: tuple[str, ...]  # ids of the runs that were complete already
    completed: tuple[str, ...]  # ids of those completed now
    failed: tuple[Failure, ...]
    signum: int | None = None  # the signal that ended the sweep early

    @property
    def exit_code(self) -> int:
        """0 when all runs are complete or still queued, 1 when one failed, 128 + signal when interrupted."""
        if self.signum is not None:
            return 128 + self.signum
        return 1 if self.failed else 0


def plan(runs: Sequence[SweepRun], out: Path) -> list[tuple[SweepRun, str, str]]:
    """Return for each run its label and the status of its folder; "complete" ones need not run."""
    return [(run, label, run_status(out / run.id)) for run, label in zip(runs, differences(runs), strict=True)]


def run_sweep(runs: Sequence[SweepRun], out: Path, engine: Engine, *, wait: bool = True) -> SweepResult:
    """Do what is missing or incomplete of a sweep.

    What happens is shown in a live table on a terminal, elsewhere as one plain line per event.
    Ctrl-C or SIGTERM is passed on to the runs, which save and stop, and waited for; a second one kills them.

    Args:
        runs: what `read_sweep` returned.
        out: the folder that holds the run folders.
        engine: where to run (`paperloop_lab.sweep.engines`).
        wait: False leaves once all jobs are started; for engines whose jobs outlive this process.

    Raises:
        UserError: a program is not installed, or a folder cannot be written.
    """
    planned = plan(runs, out)
    before = tuple(run.id for run, _, status in planned if status == "complete")
    labels = {run.id: label for run, label, _ in planned}
    programs = {run.command[0]: find_program(run.command[0]) for run, _, status in planned if status != "complete"}
    queue = [_prepare(run, out, programs) for run, _, status in planned if status != "complete"]
    display = _Display(labels, len(runs), len(before))
    active: dict[str, _Active] = {}
    busy: list[Job] = []  # that another process works on
    completed: list[str] = []
    failed: list[Failure] = []
    retry, told = 0.0, 0
    with caught_signals(once=False) as caught, display:
        while queue or active or busy:
            if len(caught) > told:
                told, queue, busy = len(caught), [], []
                display.event(f"{'stopping' if told == 1 else 'killing'} {counted(len(active))}")
                for one in active.values():
                    one.running.stop(caught[0], kill=told > 1)
            if busy and time.monotonic() >= retry:
                queue, busy = [*queue, *busy], []
            for job in [job for job in queue if run_status(Path(job.folder)) == "complete"]:
                queue.remove(job)  # another sweep on the same folder has done it in the meantime
                completed.append(job.id)
                display.ended(job, "complete", "by another process")
            room = max(engine.jobs - len(active), 0)
            starting, queue = queue[:room], queue[room:]
            for job, running in zip(starting, engine.start(starting) if starting else (), strict=True):
                if running is None:
                    retry = time.monotonic() + RETRY_SECONDS
                    busy.append(job)
                    display.waits(job)
                else:
                    active[job.id] = _Active(job, running, time.monotonic())
                    display.started(job)
            if starting and not wait and not queue:
                break
            for key, one in list(active.items()):
                if (reason := one.running.poll()) is None:
                    continue
                del active[key]
                status = run_status(Path(one.job.folder))
                if status == "complete":
                    completed.append(key)
                elif not caught:
                    failed.append(Failure(key, labels[key], f"{reason}, run.json: {status}", one.job.log))
                display.ended(one.job, status, reason, one.seconds)
            display.draw(active.values())
            time.sleep(POLL_SECONDS)
    result = SweepResult(before, tuple(completed), tuple(failed), caught[0] if caught else None)
    display.summary(result)
    return result


class _Active(NamedTuple):
    """A job that runs, and since when."""

    job: Job
    running: Running
    began: float

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


def _prepare(run: SweepRun, out: Path, programs: dict[str, str]) -> Job:
    """Make the run folder with the configuration in it."""
    folder = (out / run.id).absolute()
    config = folder / CONFIG
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Written once: a process of another sweep may be reading it.
        if not config.exists() or json.loads(config.read_bytes()) != run.config:
            write_json(config, dict(run.config))
    except (OSError, ValueError) as error:
        raise UserError(f"{config} cannot be written or read: {getattr(error, 'strerror', None) or error}.") from None
    program, *rest = run.argv(folder)
    return Job(run.id, (programs[program], *rest), str(folder), os.getcwd())


class _Display:
    """A live table on a terminal, one plain line per event elsewhere."""

    def __init__(self, labels: dict[str, str], total: int, done: int):
        from rich.console import Console

        self._console = Console(highlight=False, markup=False, soft_wrap=not sys.stdout.isatty())
        self._labels = {key: printable(label) for key, label in labels.items()}
        self._total, self._done, self._failed = total, done, 0
        self._waiting: set[str] = set()
        self._live: Any = None
        self._next = 0.0

    def __enter__(self) -> _Display:
        self.event(f"{counted(self._total)}, {self._done} complete already")
        if self._console.is_terminal:
            from rich.live import Live

            # No thread: the child set-up between fork and exec wants a process with one thread only.
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def event(self, text: str) -> None:
        """Print one line."""
        self._console.print(printable(text))
        self._console.file.flush()

    def _job_event(self, word: str, job: Job, detail: str = "") -> None:
        self.event(f"[{self._done}/{self._total}] {word:<9} {job.id} {self._labels[job.id]}{detail}")

    def started(self, job: Job) -> None:
        self._waiting.discard(job.id)
        if self._live is None:
            self._job_event("start", job)

    def waits(self, job: Job) -> None:
        if job.id not in self._waiting:
            self._waiting.add(job.id)
            self._job_event("waiting", job, ": another process works on it")

    def ended(self, job: Job, status: str, reason: str, seconds: float = 0.0) -> None:
        complete = status == "complete"
        self._done, self._failed = self._done + complete, self._failed + (not complete)
        detail = "" if complete and reason == "exit code 0" else f": {reason}, {status}"
        self._job_event("complete" if complete else "ended", job, f" ({seconds:.0f} s){detail}")

    def draw(self, active: Iterable[_Active]) -> None:
        """Refresh the table, twice a second at most."""
        if self._live is None or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + REDRAW_SECONDS
        from rich.table import Table

        failed = f", {self._failed} failed" if self._failed else ""
        table = Table(box=None, pad_edge=False, title=f"{self._done} of {self._total} complete{failed}")
        for name in ("run", "what differs", "time", "last line of its log"):
            table.add_column(name, no_wrap=True, overflow="ellipsis")
        for one in active:
            minutes, seconds = divmod(int(one.seconds), 60)
            last = printable("".join(_tail(one.job.log, 1)))
            table.add_row(one.job.id, self._labels[one.job.id], f"{minutes}:{seconds:02d}", last)
        self._live.update(table, refresh=True)

    def summary(self, result: SweepResult) -> None:
        """Say what became of all runs, and show the end of each failed run's log."""
        for failure in result.failed:
            self.event(f"\nfailed: {failure.id} {failure.label}: {failure.reason}\n  {failure.log}")
            for text in failure.tail():
                self.event(f"    {text}")
        done = len(result.before) + len(result.completed)
        rest = self._total - done - len(result.failed)
        text = f"{done} of {counted(self._total)} complete ({len(result.before)} before, {len(result.completed)} now)"
        text += f", {len(result.failed)} failed" if result.failed else ""
        self.event(text + (f", {rest} left" if rest else ""))


def _tail(path: Path, lines: int) -> list[str]:
    """The last lines of a log; none where it cannot be read."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1000 * lines))
        return file.read().decode(errors="replace").replace("\r", "\n").strip().splitlines()[-lines:]
    return []
