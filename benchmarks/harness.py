"""Measure contestants in turn (A B A B ...), so that whatever else the machine does hits all of them alike.

A contestant is a process of its own (`ChildProcess`: a peer in its virtual environment, on the same pinned cores) or a
function in this process (`InProcess`). Each prepares once: builds, compiles, warms up. Then every round asks each of
them for one trial, one at a time, and the ratio of two contestants is taken round by round: its median and its range
are the result. A rate counts work per second of wall time or per CPU second over all threads.

A peer that is not installed is skipped, and the result says so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any, Protocol

from paperloop.loop.provenance import provenance

__all__ = [
    "PEERS",
    "ROOT",
    "ChildProcess",
    "Comparison",
    "Contestant",
    "ContestantError",
    "InProcess",
    "Ratio",
    "alternate",
    "child_environment",
    "figure_path",
    "record",
    "table",
    "write_result",
]

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".cache" / "peers"
RESULTS = Path(__file__).resolve().parent / "results"

Json = dict[str, Any]


class ContestantError(RuntimeError):
    """A contestant that is absent or died; the message says which and why."""


class Contestant(Protocol):
    """What `alternate` needs: prepare, one measured trial at a time, clean up."""

    name: str

    def start(self) -> Json:
        """Prepare and return a description. Raises `ContestantError` when that is impossible."""
        ...

    def trial(self) -> Json:
        """Do one trial; returns at least work, wall_s and cpu_s."""
        ...

    def stop(self) -> None: ...


@dataclasses.dataclass
class ChildProcess:
    """A script that speaks the protocol of `peers/serve.py`, run by its own interpreter.

    Attributes:
        name: what the tables call it.
        command: arguments after the interpreter; the script's path is relative to the repository's root.
        peer: folder of its virtual environment below `.cache/peers`; None runs this interpreter.
        source: folder of a source tree inside the peer's environment that must exist, put on PYTHONPATH.
        cores: cores that the process may use; the same for all contestants of a comparison.
        env: further environment variables.
    """

    name: str
    command: Sequence[str]
    peer: str | None = None
    source: str | None = None
    cores: Sequence[int] | None = None
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    _process: subprocess.Popen[str] | None = dataclasses.field(default=None, init=False, repr=False)

    def start(self) -> Json:
        python, extra = Path(sys.executable), dict(self.env)
        if self.peer is not None:
            python = PEERS / self.peer / "bin" / "python"
            if not python.exists():
                raise ContestantError(
                    f"{self.name} is not installed: no {python.relative_to(ROOT)} (benchmarks/peers.md)"
                )
        if self.peer is not None and self.source is not None:
            source = PEERS / self.peer / self.source
            if not source.is_dir():
                raise ContestantError(
                    f"{self.name} lacks its source tree {source.relative_to(ROOT)} (benchmarks/peers.md)"
                )
            extra |= {"PYTHONPATH": str(source / "src"), "PEER_SOURCE": str(source)}
        cores = sorted(self.cores) if self.cores else None
        self._process = subprocess.Popen(
            [str(python), *self.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=child_environment(len(cores) if cores else os.cpu_count() or 1) | extra,
            # Pinned before the program starts: thread pools are sized from the cores that it may use.
            preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores and hasattr(os, "sched_setaffinity") else None,
        )
        self._drain()
        return self._read("start")

    def trial(self) -> Json:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # _read tells why it died
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        return self._read("trial")

    def stop(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(BrokenPipeError, subprocess.TimeoutExpired):
            self._process.communicate("stop\n", timeout=30)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _drain(self) -> None:
        """Read standard error in the background, so that a chatty child never blocks, and keep its last lines."""
        import collections
        import threading

        assert self._process is not None
        assert self._process.stderr is not None
        self._errors: collections.deque[str] = collections.deque(maxlen=20)
        stream = self._process.stderr
        self._process.stderr = None  # communicate() must not read it too
        self._reader = threading.Thread(target=lambda: self._errors.extend(stream), daemon=True)
        self._reader.start()

    def _read(self, when: str) -> Json:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._reader.join(5)
            tail = "".join(self._errors).strip().splitlines()
            raise ContestantError(f"{self.name} died at its {when}: {tail[-1] if tail else 'no message'}")
        return json.loads(line)


@dataclasses.dataclass
class InProcess:
    """A function of this process as a contestant.

    Attributes:
        name: what the tables call it.
        setup: returns (description, trial function); the trial blocks until its work is done and returns at least work.
    """

    name: str
    setup: Callable[[], tuple[Json, Callable[[], Json]]]
    _trial: Callable[[], Json] | None = dataclasses.field(default=None, init=False, repr=False)

    def start(self) -> Json:
        wall, cpu = time.perf_counter(), time.process_time()
        info, self._trial = self.setup()
        return {"setup_wall_s": time.perf_counter() - wall, "setup_cpu_s": time.process_time() - cpu, **info}

    def trial(self) -> Json:
        assert self._trial is not None
        wall, cpu = time.perf_counter(), time.process_time()
        result = self._trial()
        return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu, **result}

    def stop(self) -> None:
        self._trial = None


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Rate of one contestant over another's, round by round."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f}x ({self.low:.2f} .. {self.high:.2f})"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `alternate` measured.

    Attributes:
        info: name -> what the contestant said at its start.
        trials: name -> one record per round.
        skipped: name -> why it took no part.
    """

    info: dict[str, Json]
    trials: dict[str, list[Json]]
    skipped: dict[str, str]

    def rates(self, name: str, clock: str = "wall_s") -> list[float]:
        """Units of work per second of `clock` ("wall_s" or "cpu_s"), one per round."""
        return [trial["work"] / trial[clock] for trial in self.trials[name]]

    def rate(self, name: str, clock: str = "wall_s") -> float:
        """The median of `rates`."""
        return statistics.median(self.rates(name, clock))

    def ratio(self, ours: str, peer: str, clock: str = "wall_s") -> Ratio:
        """How many times faster `ours` is than `peer`."""
        pairs = zip(self.rates(ours, clock), self.rates(peer, clock), strict=True)
        values = [a / b for a, b in pairs]
        return Ratio(statistics.median(values), min(values), max(values))

    def fastest(self, names: Sequence[str], clock: str = "wall_s") -> str | None:
        """The fastest of those of `names` that took part; None where none did."""
        present = [name for name in names if name in self.trials]
        return max(present, key=lambda name: self.rate(name, clock), default=None)


def alternate(
    contestants: Sequence[Contestant],
    rounds: int,
    check: Callable[[Comparison], Json] | None = None,
    log: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> tuple[Comparison, Json | None]:
    """Start all, then measure one trial of each, `rounds` times over.

    A peer that is not installed or does not start is left out, and the comparison says why. An arm of ours that does
    not start is an error.

    Args:
        contestants: in the order in which each round asks them.
        rounds: trials per contestant.
        check: is given the comparison and returns {check: {..., "equal": bool}}: did all do the same work?
        log: where progress goes.

    Returns:
        The comparison and what `check` returned.

    Raises:
        ContestantError: an arm of ours does not start, or anyone dies at a trial.
    """
    info: dict[str, Json] = {}
    trials: dict[str, list[Json]] = {}
    skipped: dict[str, str] = {}
    playing: list[Contestant] = []
    try:
        for contestant in contestants:
            try:
                info[contestant.name] = contestant.start()
            except ContestantError as error:
                if getattr(contestant, "peer", None) is None:  # ours: a benchmark without it measures nothing
                    contestant.stop()
                    raise
                skipped[contestant.name] = str(error)
                log(f"skipped: {error}")
                contestant.stop()
                continue
            playing.append(contestant)
            log(f"{contestant.name}: ready after {info[contestant.name]['setup_wall_s']:.1f} s")
        for contestant in playing:
            trials[contestant.name] = []
        for number in range(rounds):
            for contestant in playing:
                trials[contestant.name].append(contestant.trial())
            rates = "  ".join(f"{name} {row[-1]['work'] / row[-1]['wall_s']:,.0f}/s" for name, row in trials.items())
            log(f"round {number + 1}/{rounds}: {rates}")
    finally:
        for contestant in playing:
            contestant.stop()
    comparison = Comparison(info, trials, skipped)
    return comparison, check(comparison) if check is not None and trials else None


def child_environment(threads: int) -> dict[str, str]:
    """The environment of a contestant: this one, on the CPU unless told otherwise, with every thread pool pinned."""
    pools = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    # The caller's import path would leak other versions into a peer, and its compile cache hide what compiling costs.
    dropped = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR")
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return {"JAX_PLATFORMS": "cpu"} | kept | dict.fromkeys(pools, str(threads)) | {"WANDB_MODE": "disabled"}


def record(module: str, arguments: Sequence[str], distributions: Sequence[str] = ()) -> Json:
    """Where a result comes from: command, commit, versions, processor, load and time. No path, host or secret.

    Of absolute paths among the arguments the last part is left.
    """
    origin = provenance(*distributions)
    return {
        "command": " ".join(["python", "-m", module, *map(_without_folders, arguments)]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_average": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        **{key: origin[key] for key in ("platform", "python", "versions", "devices", "git")},
    }


def _without_folders(argument: str) -> str:
    """Return VALUE or --option=VALUE with the last part alone of an absolute path, ours or Windows'."""
    option, equals, value = argument.partition("=") if argument.startswith("-") else ("", "", argument)
    if value.startswith("~") or Path(value).is_absolute() or PureWindowsPath(value).is_absolute():
        value = PureWindowsPath(value).name  # which knows both separators
    return f"{option}{equals}{value}"


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """A plain text table: first column to the left, the others to the right."""
    cells = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "  ".join(cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in cells)
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def write_result(name: str, result: Json, folder: Path | None = None) -> Path:
    """Write `results/<name>.json` and return its path. The file is replaced as a whole or not at all."""
    folder = RESULTS if folder is None else folder
    folder.mkdir(parents=True, exist_ok=True)
    path, partial = folder / f"{name}.json", folder / f".{name}.json.part"
    with partial.open("w") as file:
        json.dump(result, file, indent=1, default=_jsonable)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    return path


def figure_path(name: str, folder: Path | None = None) -> Path:
    """Where the figure of benchmark `name` goes: next to its JSON."""
    return (RESULTS if folder is None else folder) / f"{name}.png"


def _jsonable(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no place in a result file")
