"""The contract of `paperloop.Trainer` as executable checks, for our methods and for anybody else's.

    from paperloop.conformance import check_trainer

    def test_conformance(tmp_path):
        check_trainer(make_trainer, TrainConfig(...tiny...), folder=tmp_path, command="my-method")

`make_trainer(config)` stands at the top level of an importable module or of the test file, because some checks repeat
it in a fresh process.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paperloop.errors import CheckpointError
from paperloop.loop.metrics_file import RESERVED
from paperloop.loop.runner import run, to_host
from paperloop.settings import from_dict, to_dict

MARKER = ".conformance"  # in a run folder: its first row is written

__all__ = ["ConformanceError", "check_help", "check_trainer", "fingerprint"]


class ConformanceError(AssertionError):
    """A trainer breaks the contract; the message says which line of it and how."""


def check_trainer(
    make: Callable[[Any], Any],
    config: Any,
    *,
    folder: Path,
    steps: int = 3,
    kills: int = 2,
    seed: int = 0,
    other_config: Any = None,
    command: str | None = None,
) -> list[str]:
    """Check every line of the contract on a small configuration.

    Args:
        make: configuration -> trainer, at the top level of a module.
        config: a configuration whose step takes well under a second.
        folder: an empty folder to work in.
        steps: N in "N + N steps equal N, save, restore, N".
        kills: how often to kill -9 a run of 4 N steps at a random moment before it may finish.
        seed: the seed to train with.
        other_config: a configuration of another shape; its trainer must refuse a checkpoint of `config`.
        command: the package's command; its `--help` must import neither jax nor torch.

    Returns:
        One line per check that passed.

    Raises:
        ConformanceError: at the first check that fails.
    """
    passed: list[str] = []
    note = passed.append
    _check_config(config)
    note("the configuration is a frozen dataclass and survives a round trip through JSON")
    trainer = make(config)
    _require(trainer.config == config, "trainer.config is not the configuration that it was made with")
    _check_names(trainer)
    note("headlines and agents are names")

    first, second = fingerprint(trainer.init(seed)), fingerprint(trainer.init(seed))
    _same(first, second, "init with the same seed twice gives different states")
    _require(fingerprint(trainer.init(seed + 1)) != first, "init with another seed gives the same state")
    note("init is a function of the seed")

    _check_step(trainer, seed, steps)
    note("step keeps the keys, shapes and finiteness of its metrics, moves progress, and treats its input as declared")

    straight = _advance(trainer, trainer.init(seed), 2 * steps)
    halfway = _advance(trainer, trainer.init(seed), steps)
    saved = Path(folder) / "saved"
    saved.mkdir()
    before = fingerprint(halfway)
    trainer.save(halfway, saved)
    _same(before, fingerprint(halfway), "save changes the state")
    restored = trainer.restore(saved, trainer.init(seed + 1))
    _same(before, fingerprint(restored), "a restored state differs from the saved one")
    _same(
        fingerprint(straight),
        fingerprint(_advance(trainer, restored, steps)),
        "N steps, save, restore and N steps differ from 2 N steps",
    )
    note("N + N steps equal N, save, restore, N, bit for bit")

    if other_config is not None:
        other = make(other_config)
        try:
            other.restore(saved, other.init(seed))
        except CheckpointError:
            note("a checkpoint of another configuration is refused")
        else:
            raise ConformanceError("restore accepts a checkpoint of another configuration")

    _check_processes(make, trainer, Path(folder), seed, steps, kills)
    note("the same in a fresh process")
    if kills:
        note(f"a run killed -9 {kills} times and resumed equals an uninterrupted one, metrics.jsonl included")
    if command is not None:
        check_help(command)
        note(f"{command} --help imports neither jax nor torch")
    return passed


def check_help(*command: str) -> None:
    """Check that `command --help` works and imports neither jax nor torch."""
    import importlib.metadata

    entry = next((e for e in importlib.metadata.entry_points(group="console_scripts") if e.name == command[0]), None)
    _require(entry is not None, f"there is no command {command[0]!r}: is its package installed?")
    assert entry is not None
    code = (
        "import sys\n"
        f"sys.argv = {[*command, '--help']!r}\n"
        f"from {entry.module} import {entry.attr} as main\n"
        "try:\n    main()\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "found = sorted({'jax', 'torch'} & set(sys.modules))\n"
        "assert not found, f'--help imports {found}'\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    _require(result.returncode == 0, f"{' '.join(command)} --help fails: {result.stderr[-2000:]}")


def fingerprint(state: Any) -> dict[str, str]:
    """Return path -> dtype, shape and SHA-256 of every array in a state, comparable between processes.

    Takes JAX pytrees, torch modules, optimisers and generators, NumPy arrays and generators, dataclasses,
    dictionaries, lists and plain values, nested as they come.
    """
    found: dict[str, str] = {}
    _digest(state, "", found)
    return found


def _digest(node: Any, path: str, found: dict[str, str]) -> None:
    jax, torch = sys.modules.get("jax"), sys.modules.get("torch")
    if jax is not None and isinstance(node, jax.Array):
        key = jax.dtypes.issubdtype(node.dtype, jax.dtypes.prng_key)
        node = np.asarray(jax.random.key_data(node) if key else node)
    if torch is not None:
        if isinstance(node, torch.Generator):
            node = node.get_state()
        if isinstance(node, torch.Tensor):
            node = node.detach().cpu()
            node = (node.view(torch.int16) if node.dtype == torch.bfloat16 else node).numpy()
    if isinstance(node, np.random.Generator):
        node = node.bit_generator.state
    if isinstance(node, (np.ndarray, np.generic)):
        array = np.asarray(node)
        content = array.tobytes() if array.dtype != object else repr(array.tolist()).encode()
        found[path] = f"{array.dtype}{list(array.shape)} {hashlib.sha256(content).hexdigest()}"
    elif isinstance(node, Mapping):
        for key, value in node.items():
            _digest(value, f"{path}/{key}", found)
    elif isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            _digest(value, f"{path}/{i}", found)
    elif hasattr(node, "state_dict"):
        _digest(node.state_dict(), path, found)
    elif dataclasses.is_dataclass(node) or (hasattr(node, "__dict__") and not callable(node)):
        for key, value in vars(node).items():
            _digest(value, f"{path}.{key}", found)
    elif not callable(node):
        found[path] = repr(node)


def _check_config(config: Any) -> None:
    _require(dataclasses.is_dataclass(config) and not isinstance(config, type), "the configuration is not a dataclass")
    _require(type(config).__dataclass_params__.frozen, f"{type(config).__name__} is not frozen")  # type: ignore[attr]
    text = json.dumps(to_dict(config), allow_nan=False)
    _require(from_dict(type(config), json.loads(text)) == config, "the configuration changes in a trip through JSON")


def _check_names(trainer: Any) -> None:
    headlines, agents = getattr(trainer, "headlines", ()), getattr(trainer, "agents", None)
    for what, names in (("headlines", headlines), ("agents", () if agents is None else agents)):
        good = not isinstance(names, str) and all(isinstance(name, str) for name in names)
        _require(good, f"{what} is not a sequence of names")
    _require(len(headlines) > 0, "headlines is missing or empty: name the metrics that a report shows first")


def _check_step(trainer: Any, seed: int, steps: int) -> None:
    state = trainer.init(seed)
    donates = getattr(trainer, "donates", False)
    headlines, agents = set(trainer.headlines), getattr(trainer, "agents", None)
    shapes: dict[str, Any] | None = None
    progress = dict(trainer.progress(state))
    began = progress
    for _ in range(steps):
        before = None if donates else fingerprint(state)
        after, metrics = trainer.step(state)
        if before is not None:
            broken = "step changes its input, and the trainer does not declare donates = True"
            try:
                _same(before, fingerprint(state), broken)
            except RuntimeError as error:  # JAX: "Array has been deleted"
                raise ConformanceError(f"The trainer breaks the contract: {broken} ({error}).") from None
        state = after
        host = to_host(metrics)
        taken = sorted(set(RESERVED) & set(host))
        _require(not taken, f"metric names {taken} are taken by the row itself")
        bad = [name for name, value in host.items() if not np.all(np.isfinite(value))]
        _require(not bad, f"metrics {bad} are not finite")
        here = {name: (value.shape, value.dtype) for name, value in host.items()}
        _require(shapes is None or here == shapes, "the metrics' keys, shapes or dtypes change between steps")
        if agents is not None:
            odd = [name for name in headlines & host.keys() if host[name].ndim and len(host[name]) != len(agents)]
            _require(not odd, f"{odd} have another length than agents")
        shapes = here
        now = dict(trainer.progress(state))
        _require(set(now) == set(progress), "progress changes its keys")
        _require(all(now[k] >= progress[k] for k in now), "progress goes backwards")
        progress = now
    _require(progress != began, "progress does not move")


def _check_processes(make: Any, trainer: Any, folder: Path, seed: int, steps: int, kills: int) -> None:
    """Check that a run of other processes, all but the last of them killed, equals one of this process."""
    config, straight, killed = trainer.config, folder / "straight", folder / "killed"
    expected = fingerprint(_run(trainer, straight, steps=4 * steps, seed=seed))
    if not kills:  # else they leave something to resume, or nothing yet
        _run(trainer, killed, steps=steps, seed=seed)
    pause, draw = 0.15, random.Random(0)  # seconds per row, so that the kills find the run at work
    spec = {
        "make": [inspect.getsourcefile(make), make.__module__, make.__qualname__],
        "type": [inspect.getsourcefile(type(config)), type(config).__module__, type(config).__qualname__],
        "config": to_dict(config),
        "run": {"run_dir": str(killed), "seed": seed, "steps": 4 * steps},
    }
    for kill in range(kills):
        marker = killed / MARKER
        marker.unlink(missing_ok=True)
        child = _child(folder, {**spec, "pause": pause})
        deadline = time.monotonic() + 600
        while not marker.exists() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 3 * pause * steps / kills))
        child.send_signal(signal.SIGKILL)
        _, errors = child.communicate()
        # A child that died by itself before the kill has a message to show.
        _require(child.returncode in (-signal.SIGKILL, 0), f"resuming after kill {kill} fails: {errors[-3000:]}")
    child = _child(folder, {**spec, "pause": 0.0})
    output, errors = child.communicate(timeout=600)
    _require(child.returncode == 0, f"a fresh process cannot resume, after {kills} kills: {errors[-3000:]}")
    told = f"resumed in a fresh process, after {kills} kills"
    _same(expected, json.loads(output.splitlines()[-1]), f"the state {told}, differs")
    rows, rows_killed = (_rows(d / "metrics.jsonl") for d in (straight, killed))
    _require(rows == rows_killed, f"metrics.jsonl {told}, has missing, doubled or changed rows")


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows without `wall`, which no two runs share."""
    return [{k: v for k, v in json.loads(line).items() if k != "wall"} for line in path.read_text().splitlines()]


def _child(folder: Path, spec: dict[str, Any]) -> subprocess.Popen:
    path = folder / "conformance.json"
    path.write_text(json.dumps(spec))
    command = [sys.executable, "-m", "paperloop.conformance", str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _load(file: str, module: str, name: str) -> Any:
    """Import by name where that works, else by file (a test file or a script cannot be imported by name)."""
    if module == "__main__":
        module = "conformance_subject"
    if module not in sys.modules:
        try:
            importlib.import_module(module)
        except ImportError:
            found = importlib.util.spec_from_file_location(module, file)
            assert found is not None
            assert found.loader is not None
            sys.modules[module] = importlib.util.module_from_spec(found)
            found.loader.exec_module(sys.modules[module])
    return getattr(sys.modules[module], name)


def _run(trainer: Any, run_dir: Path | str, *, steps: int, seed: int, pause: float = 0.0) -> Any:
    """A run with a row of training and one of an evaluator at every step, which takes its time over rows and saves.

    So a kill from outside can find it between two steps, inside one, or with half a checkpoint written.
    """
    save = trainer.save

    def slow_evaluator(state: Any, seed: int) -> Any:
        (Path(run_dir) / MARKER).touch()
        time.sleep(pause)
        return trainer.progress(state)

    def slow_save(state: Any, folder: Path) -> None:
        save(state, folder)
        time.sleep(pause)

    if pause:
        trainer.save = slow_save
    evaluators = {"progress": slow_evaluator}
    return run(
        trainer, run_dir, steps=steps, seed=seed, evaluators=evaluators, progress=False,
        log_every=1, eval_every=1, save_every=2,
    )  # fmt: skip


def _main(path: str) -> None:
    spec = json.loads(Path(path).read_text())
    trainer = _load(*spec["make"])(from_dict(_load(*spec["type"]), spec["config"]))
    print(json.dumps(fingerprint(_run(trainer, **spec["run"], pause=spec["pause"]))))


def _advance(trainer: Any, state: Any, steps: int) -> Any:
    for _ in range(steps):
        state, _ = trainer.step(state)
    return state


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConformanceError(f"The trainer breaks the contract: {message}.")


def _same(a: dict[str, str], b: dict[str, str], message: str) -> None:
    if a != b:
        leaves = sorted(k for k in {*a, *b} if a.get(k) != b.get(k))
        raise ConformanceError(f"The trainer breaks the contract: {message}; it differs in {leaves[:5]}.")


if __name__ == "__main__":
    _main(sys.argv[1])
