"""Published fine-tuning curves: read CORL's file safely and recompute CORL's published table from it.

CORL (Tarasov et al. 2023, "CORL: Research-oriented Deep Offline Reinforcement Learning Library", Apache-2.0) publishes
the learning curves behind its offline-to-online table as `results/bin/finetune_scores.pickle`: six algorithms, ten D4RL
tasks, four seeds. A pickle can run any code, so this one is read by an unpickler that knows no code to run: it admits
builtin containers and numbers, and NumPy's float and integer scalars and arrays, which it rebuilds itself from their
bytes.
"""

from __future__ import annotations

import dataclasses
import math
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paperloop.errors import UserError
from paperloop.files import check_is_file
from policy_finetune.measures.arguments import Curve

__all__ = ["CORL_GROUPS", "CorlCell", "CorlCurves", "CorlRun", "corl_markdown", "corl_table", "read_corl_curves"]

#: Rows of the published table: average -> its tasks. The total averages over all ten tasks.
CORL_GROUPS: dict[str, tuple[str, ...]] = {
    "antmaze average": (
        "antmaze-umaze-v2",
        "antmaze-umaze-diverse-v2",
        "antmaze-medium-play-v2",
        "antmaze-medium-diverse-v2",
        "antmaze-large-play-v2",
        "antmaze-large-diverse-v2",
    ),
    "adroit average": ("pen-cloned-v1", "door-cloned-v1", "hammer-cloned-v1", "relocate-cloned-v1"),
}

MAX_BYTES = 1 << 28  # the published file has 0.7 MB


@dataclasses.dataclass(frozen=True)
class CorlRun:
    """One run: D4RL scores (0 is a random policy, 100 an expert) of the two phases, evenly spaced in steps.

    Attributes:
        offline: (T1,) scores during pre-training; the last is that of the pre-trained policy.
        online: (T2,) scores during fine-tuning.
        regret: of the training episodes of the online phase, as the run recorded it; it cannot be recomputed from the
            evaluations. NaN where the run has none.
    """

    offline: np.ndarray
    online: np.ndarray
    regret: float

    def finetuning(self) -> Curve:
        """Return the online curve with the pre-trained policy's score in front, over the fraction of the phase."""
        scores = np.concatenate([self.offline[-1:], self.online])
        return Curve(np.linspace(0.0, 1.0, len(scores)), scores)


CorlCurves = dict[str, dict[str, list[CorlRun]]]


class CorlCell(NamedTuple):
    """One cell of the table: mean and standard deviation over seeds (dividing by their number); NaN where unknown."""

    offline: float
    offline_sd: float
    online: float
    online_sd: float
    regret: float
    regret_sd: float


def read_corl_curves(path: str | os.PathLike[str]) -> CorlCurves:
    """Read CORL's `finetune_scores.pickle` without running anything that is in it.

    Args:
        path: the file.

    Returns:
        algorithm -> task -> runs.

    Raises:
        UserError: there is no such file, it asks for anything but NumPy's numbers and builtin containers (the message
            names what), or it does not hold learning curves.
    """
    path = check_is_file(Path(path))
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} is larger than {MAX_BYTES >> 20} MB: that is not CORL's file of learning curves.")
        with path.open("rb") as file:
            content = _NumbersOnly(file).load()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except _Refused as refused:
        raise UserError(f"{path} is refused: {refused}; nothing of it was run.") from None
    # What a damaged stream raises depends on where the damage is: almost anything.
    except (pickle.UnpicklingError, ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, TypeError,
            ValueError, RecursionError) as error:  # fmt: skip
        raise UserError(
            f"{path} is not a readable pickle of learning curves: {str(error) or type(error).__name__}."
        ) from None
    return _curves(path, content)


def corl_table(curves: CorlCurves) -> dict[str, dict[str, CorlCell]]:
    """Return CORL's offline-to-online table: row -> algorithm -> cell, rows in the published order.

    As published: runs of one task are cut to the shortest of them; a score is the last evaluation of the phase,
    averaged over seeds; an average over tasks is the mean of their cells, has no standard deviation, and is given only
    where every task of the group is there.

    Args:
        curves: from `read_corl_curves`.
    """
    tasks = list(dict.fromkeys(task for runs in curves.values() for task in runs))
    known = [task for group in CORL_GROUPS.values() for task in group]
    table: dict[str, dict[str, CorlCell]] = {}

    def row(task: str) -> None:
        table[task] = {name: _cell(runs[task]) for name, runs in curves.items() if runs.get(task)}

    def average(name: str, group: Sequence[str]) -> None:
        found = {algorithm for algorithm in curves if all(algorithm in table.get(task, {}) for task in group)}
        if found:
            table[name] = {a: _mean([table[task][a] for task in group]) for a in curves if a in found}

    for name, group in CORL_GROUPS.items():
        for task in group:
            if task in tasks:
                row(task)
        average(name, group)
    for task in tasks:
        if task not in known:
            row(task)
    average("total average", known)
    return table


def corl_markdown(table: Mapping[str, Mapping[str, CorlCell]], what: str = "scores") -> str:
    """Return the table as Markdown with two decimals.

    Args:
        table: from `corl_table`.
        what: "scores", offline → online, or "regret".
    """
    if what not in ("scores", "regret"):
        raise UserError(f'what is {what!r}; it must be "scores" or "regret".')
    columns = list(dict.fromkeys(algorithm for cells in table.values() for algorithm in cells))

    def text(cell: CorlCell | None) -> str:
        if cell is None:
            return ""
        pairs = [(cell.regret, cell.regret_sd)]
        if what == "scores":
            pairs = [(cell.offline, cell.offline_sd), (cell.online, cell.online_sd)]
        return " → ".join(f"{m:.2f}" if math.isnan(sd) else f"{m:.2f} ± {sd:.2f}" for m, sd in pairs)

    rows = [[name, *(text(cells.get(column)) for column in columns)] for name, cells in table.items()]
    return "\n".join("| " + " | ".join(row) + " |" for row in (["task", *columns], ["---"] * (1 + len(columns)), *rows))


def _cell(runs: Sequence[CorlRun]) -> CorlCell:
    numbers: list[float] = []
    for phase in ([run.offline for run in runs], [run.online for run in runs]):
        last = np.array([scores[min(map(len, phase)) - 1] for scores in phase])
        numbers += [float(last.mean()), float(last.std())]
    missed = np.array([run.regret for run in runs])
    return CorlCell(*numbers, float(missed.mean()), float(missed.std()))


def _mean(cells: Sequence[CorlCell]) -> CorlCell:
    offline, online, missed = (float(np.mean([cell[i] for cell in cells])) for i in (0, 2, 4))
    return CorlCell(offline, math.nan, online, math.nan, missed, math.nan)


def _curves(path: Path, content: Any) -> CorlCurves:
    """Check the shape of what was read: {algorithm: {task: [(offline scores, online scores, regret)]}}."""
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path} holds no learning curves: expected algorithm -> task -> runs.")
    found: CorlCurves = {}
    for algorithm, tasks in content.items():
        if not isinstance(algorithm, str) or not isinstance(tasks, dict):
            raise UserError(f"{path} holds no learning curves: {algorithm!r} has no tasks.")
        found[algorithm] = {}
        for task, runs in tasks.items():
            if not isinstance(task, str) or not isinstance(runs, list | tuple):
                raise UserError(f"{path} holds no learning curves: {algorithm}, {task!r} has no list of runs.")
            found[algorithm][task] = [_run(f"{path}: {algorithm}, {task}, run {i}", run) for i, run in enumerate(runs)]
    return found


def _run(where: str, run: Any) -> CorlRun:
    if not isinstance(run, list | tuple) or len(run) != 3:
        raise UserError(f"{where} is not (offline scores, online scores, regret).")
    offline, online = (_vector(where, scores) for scores in run[:2])
    missed = _plain(run[2])
    if missed is not None and not isinstance(missed, int | float | np.integer | np.floating):
        raise UserError(f"{where}: the regret is not a number.")
    return CorlRun(offline, online, math.nan if missed is None else float(missed))


def _vector(where: str, scores: Any) -> np.ndarray:
    values = _plain(scores)
    if isinstance(values, list | tuple):
        values = [_plain(value) for value in values]
    try:
        vector = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{where}: the scores are not numbers.") from None
    if vector.ndim != 1 or not vector.size:
        raise UserError(f"{where}: the scores must be a vector of at least one; got shape {vector.shape}.")
    return vector


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, _Array) else value


# ------------------------------------------------------------------------------------------------------ the unpickler


class _Refused(Exception):
    """The stream asks for something that learning curves do not need."""


class _Dtype:
    """A NumPy element type as a pickle describes it: a kind and size, then a state whose second entry is the order."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any) -> None:
        try:
            dtype = np.dtype(code) if isinstance(code, str) and len(code) <= 8 else None
        except (TypeError, ValueError):
            dtype = None
        if dtype is None or dtype.kind not in "fiub" or dtype.names is not None or dtype.subdtype is not None:
            raise _Refused(f"it holds elements of type {code!r}, and only numbers are admitted")
        self.dtype = dtype

    def __setstate__(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if not isinstance(order, str) or order not in "<>|=":
            raise _Refused("an element type is malformed")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """A NumPy array while it is being rebuilt."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = np.empty(0)

    def __setstate__(self, state: Any) -> None:
        # (version, shape, element type, Fortran order, bytes); version 0 pickles leave the version out.
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise _Refused("an array is malformed")
        shape, dtype, fortran, raw = state[-4:]
        self.value = _array(raw, dtype, shape, "F" if fortran else "C")


def _array(raw: Any, dtype: Any, shape: Any, order: Any = "C") -> np.ndarray:
    if not isinstance(raw, bytes | bytearray) or not isinstance(dtype, _Dtype) or order not in ("C", "F"):
        raise _Refused("an array is malformed")
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        raise _Refused("an array is malformed")
    if math.prod(shape) * dtype.dtype.itemsize != len(raw):
        raise _Refused("an array has another size than its bytes")
    return np.frombuffer(raw, dtype.dtype).reshape(shape, order=order)


def _scalar(dtype: Any, raw: Any) -> Any:
    return _array(raw, dtype, ()).astype(np.float64)[()]


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any = "C") -> _Array:
    array = _Array()
    array.value = _array(raw, dtype, shape, order)
    return array


class _Call:
    """What the stream may call; unlike on a function, the stream can set no attribute on it."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        object.__setattr__(self, "_make", make)

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise _Refused(f"it sets {name!r} of a function")

    def __setstate__(self, state: Any) -> None:
        raise _Refused("it sets the state of a function")


#: Global of a pickle -> our own reading of it. NumPy's functions themselves are not called by the stream.
_ADMITTED: dict[tuple[str, str], _Call] = {("numpy", "dtype"): _Call(lambda code, *_: _Dtype(code))}
for _core in ("numpy.core", "numpy._core"):
    _ADMITTED[f"{_core}.multiarray", "scalar"] = _Call(_scalar)
    _ADMITTED[f"{_core}.multiarray", "_reconstruct"] = _Call(_reconstruct)
    _ADMITTED[f"{_core}.numeric", "_frombuffer"] = _Call(_frombuffer)
#: An argument of `_reconstruct`, never called: `_Array` stands for it.
_ADMITTED["numpy", "ndarray"] = _Call(_reconstruct)


def _encode(text: Any, codec: Any) -> bytes:
    """Bytes in protocols 0 to 2: text in Latin-1 and a call of `_codecs.encode`."""
    if not isinstance(text, str) or codec != "latin1":
        raise _Refused("it encodes text")
    return text.encode("latin1")


_ADMITTED["_codecs", "encode"] = _Call(_encode)


class _NumbersOnly(pickle.Unpickler):
    """Reads containers, numbers and NumPy's numbers; refuses every other global by name."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise _Refused(f"it asks for {module}.{name}, and only numbers and containers are admitted") from None

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("it refers to an object outside of the file")
