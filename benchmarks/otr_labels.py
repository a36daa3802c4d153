"""How fast labels are made, next to ott-jax and SEABO's k-d tree, on the same cores and with equal results.

    python -m benchmarks.otr_labels                                # all parts; about ten minutes on two cores
    python -m benchmarks.otr_labels --part solver --pairs 8 --rounds 3
    python -m benchmarks.otr_labels --part file --part kill --steps 100000

- `solver`: 64 pairs of 1000 x 1000 steps in 17 dimensions. The peer is what OTR's authors run for each episode: a
  jitted ott-jax Sinkhorn on PointCloud with the cosine, epsilon 0.01, threshold 1e-9, 100 iterations. Ours
  are a call of the library with the compiled and with the JAX back end. All in one process, in turn; equal means that
  no expected cost differs by 5e-6. Goals, per CPU-second: 10 times (compiled), 5 times (JAX).
- `file`: a million transitions from file to file (`--format npz` or hdf5), reading, labelling and writing each timed:
  OTR with one demonstration, compiled and in JAX, and SEABO's nearest neighbour by SciPy's k-d tree, in turn. Equal
  means that the rewards of the two back ends of OTR differ by 2e-5 of them at most.
- `kill`: `otr label` on a million transitions, killed with SIGKILL after a quarter and after three quarters of the
  chunks and once more while it writes, started again each time, gives the bytes of an uninterrupted run.

The rows of ott's plan miss 1/1000 by float32 rounding, up to 2e-5 of it; ours are divided by the row's sum. The check
is on ott's costs divided likewise; the difference to the undivided ones is in the result too.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Comparison, InProcess, Json, alternate, record, table, write_result

NAME = "otr_labels"
PEER = "ott-jax"
GOALS = {"otr numba": 10.0, "otr jax": 5.0}
TOLERANCE = 5e-6
REWARD_TOLERANCE = 2e-5
WIDTH, ACTIONS, LENGTH = 17, 6, 1000
CLOCKS = ("wall_s", "cpu_s")
PARTS = ("solver", "file", "kill")


def paths(rng: np.random.Generator, count: int, length: int, centre: np.ndarray) -> np.ndarray:
    """(count, length, WIDTH) float32: noisy oscillations, as gaits are, around `centre`."""
    t = np.arange(length)[None, :, None]
    shape = (count, 1, WIDTH)
    phase, rate = rng.uniform(0, 2 * np.pi, shape), rng.uniform(0.05, 0.4, shape)
    swing = rng.uniform(0.3, 1.5, shape) * np.sin(rate * t + phase)
    return (centre + swing + 0.1 * rng.normal(size=(count, length, WIDTH))).astype(np.float32)


# --- solver ---


def ours(name: str, episodes: np.ndarray, demo: np.ndarray, found: dict[str, Any], **solver: Any) -> Callable[[], Any]:
    """Return the set-up of a call of the library with these settings of the solver; its costs go to `found[name]`."""

    def setup() -> tuple[Json, Callable[[], Json]]:
        from otr import SinkhornConfig, transport

        config = SinkhornConfig(**solver)

        def trial() -> Json:
            found[name] = transport(list(episodes), [demo], solver=config).expected_costs[0]
            return {"work": len(episodes)}

        trial()
        return {}, trial

    return setup


def peer(episodes: np.ndarray, demo: np.ndarray, found: dict[str, Any]) -> Callable[[], Any]:
    def setup() -> tuple[Json, Callable[[], Json]]:
        import jax
        import jax.numpy as jnp
        from ott.geometry import costs, pointcloud
        from ott.problems.linear import linear_problem
        from ott.solvers.linear import sinkhorn

        @jax.jit
        def solve(x: Any, y: Any) -> Any:
            geometry = pointcloud.PointCloud(x, y, cost_fn=costs.Cosine(), epsilon=0.01)
            solver = sinkhorn.Sinkhorn(threshold=1e-9, max_iterations=100)
            plan = solver(linear_problem.LinearProblem(geometry)).matrix
            total = (plan * geometry.cost_matrix).sum(axis=1)
            return total * x.shape[0], total / plan.sum(axis=1)

        y = jnp.asarray(demo)

        def trial() -> Json:
            out = [jax.block_until_ready(solve(jnp.asarray(x), y)) for x in episodes]
            found["ott-jax, as it is"], found[PEER] = (np.concatenate([np.asarray(o[i]) for o in out]) for i in (0, 1))
            return {"work": len(episodes)}

        jax.block_until_ready(solve(jnp.asarray(episodes[0]), y))
        return {}, trial

    return setup


def measure_solver(pairs: int, length: int, rounds: int) -> tuple[Json, str]:
    rng = np.random.default_rng(0)
    centre = rng.normal(size=WIDTH)
    demo = paths(rng, 1, length, centre)[0]
    episodes = paths(rng, pairs, length, centre)
    found: dict[str, np.ndarray] = {}
    contestants = [
        *(
            InProcess(f"otr {name}", ours(f"otr {name}", episodes, demo, found, backend=name))
            for name in ("numba", "jax")
        ),
        InProcess(PEER, peer(episodes, demo, found)),
    ]

    def check(_: Comparison) -> Json:
        out: Json = {}
        for name in GOALS:
            differences = {to: float(abs(found[name] - found[to]).max()) for to in (PEER, "ott-jax, as it is")}
            out[name] = {"max_difference": differences, "equal": differences[PEER] < TOLERANCE}
        return out | {"equal": all(row["equal"] for row in out.values())}

    comparison, checks = alternate(contestants, rounds, check)
    assert checks is not None
    rows = []
    ratios: Json = {}
    for name in comparison.trials:
        row = [name, *(f"{1e3 / comparison.rate(name, clock):.1f}" for clock in CLOCKS)]
        if name in GOALS and PEER in comparison.trials:
            ratios[name] = {clock: comparison.ratio(name, PEER, clock) for clock in CLOCKS}
            met = ratios[name]["cpu_s"].median >= GOALS[name] and checks[name]["equal"]
            ratios[name]["passed"] = met
            row += [str(ratios[name][clock]) for clock in CLOCKS]
            row += [f"{checks[name]['max_difference'][PEER]:.1e}", f"{GOALS[name]:g}x {'met' if met else 'NOT met'}"]
        else:
            row += ["", "", "", ""]
        rows.append(row)
    header = ("", "wall ms/pair", "CPU ms/pair", "faster, wall", "per CPU-s", "max |dEbar|", "goal per CPU-s")
    text = f"{pairs} pairs of {length} x {length}, {WIDTH} dimensions\n{table(rows, header)}"
    result = {
        "pairs": pairs,
        "length": length,
        "width": WIDTH,
        "rounds": rounds,
        "threads": len(os.sched_getaffinity(0)),
        "trials": comparison.trials,
        "skipped": comparison.skipped,
        "ratios": {
            name: {k: dataclasses.asdict(v) if dataclasses.is_dataclass(v) else v for k, v in row.items()}
            for name, row in ratios.items()
        },
        "checks": checks,
        "passed": all(row["passed"] for row in ratios.values()) and len(ratios) == len(GOALS),
    }
    return result, text


# --- file ---


def make_file(path: Path, steps: int) -> None:
    from paperloop_data import EpisodeDataset

    rng = np.random.default_rng(1)
    count = max(2, steps // LENGTH)
    observations = np.concatenate([paths(rng, 1, LENGTH, rng.normal(size=WIDTH)) for _ in range(count)]).reshape(
        -1, WIDTH
    )
    total = len(observations)
    truncated = np.zeros(total, bool)
    truncated[LENGTH - 1 :: LENGTH] = True
    EpisodeDataset(
        observations=observations,
        actions=rng.uniform(-1, 1, (total, ACTIONS)).astype(np.float32),
        rewards=rng.normal(size=total).astype(np.float32),
        terminated=np.zeros(total, bool),
        truncated=truncated,
        next_observations=np.concatenate([observations[1:], observations[-1:]]),
    ).save(path)


def relabel(
    source: Path, preset_name: str, backend: str, parts: list[Json], found: dict[str, Any]
) -> Callable[[], Any]:
    def setup() -> tuple[Json, Callable[[], Json]]:
        from otr import OTRConfig, SinkhornConfig, label, preset
        from otr.episodes.demonstrations import best_episodes
        from paperloop_data import EpisodeDataset

        config = preset(preset_name)
        if isinstance(config, OTRConfig):
            config = dataclasses.replace(config, solver=SinkhornConfig(backend=backend))
        few = EpisodeDataset.load(source).select([0, 1])
        label(few, few.select([0]), config)  # compiles

        def trial() -> Json:
            clock = [(time.perf_counter(), time.process_time())]

            def lap() -> None:
                clock.append((time.perf_counter(), time.process_time()))

            data = EpisodeDataset.load(source)
            lap()
            result = label(data, best_episodes(data, 1), config)
            lap()
            result.dataset.save(source.with_stem(f"{preset_name}-{backend}"), overwrite=True)
            lap()
            found[f"{preset_name} {backend}"] = result.labels.rewards
            names = ("read", "label", "write")
            laps = [{"wall_s": b[0] - a[0], "cpu_s": b[1] - a[1]} for a, b in itertools.pairwise(clock)]
            part = dict(zip(names, laps, strict=True))
            parts.append(part)
            return {"work": data.num_steps, "parts": part}

        return {}, trial

    return setup


def measure_file(steps: int, rounds: int, suffix: str) -> tuple[Json, str]:
    arms = {"otr numba": ("otr", "numba"), "otr jax": ("otr", "jax"), "seabo": ("seabo", "auto")}
    found: dict[str, np.ndarray] = {}

    def check(comparison: Comparison) -> Json:
        if not {"otr numba", "otr jax"} <= comparison.trials.keys():
            return {"equal": None}
        difference = float(np.max(np.abs(found["otr numba"] / found["otr jax"] - 1)))
        return {"max_relative_difference": difference, "equal": difference < REWARD_TOLERANCE}

    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / f"data.{suffix}"
        make_file(source, steps)
        laps: dict[str, list[Json]] = {arm: [] for arm in arms}
        contestants = [
            InProcess(arm, relabel(source, preset_name, backend, laps[arm], found))
            for arm, (preset_name, backend) in arms.items()
        ]
        comparison, checks = alternate(contestants, rounds, check)
        size = source.stat().st_size
    rows = []
    for arm in comparison.trials:
        parts = [f"{np.median([lap[part]['wall_s'] for lap in laps[arm]]):.2f}" for part in ("read", "label", "write")]
        label_cpu = np.median([lap["label"]["cpu_s"] for lap in laps[arm]])
        rates = [f"{comparison.rate(arm, clock):,.0f}" for clock in CLOCKS]
        against = [str(comparison.ratio(arm, "seabo", clock)) if arm != "seabo" else "" for clock in CLOCKS]
        rows.append([arm, *parts, f"{label_cpu:.2f}", *rates, *against])
    header = (
        "", "read s", "label s", "write s", "label CPU-s", "steps/s", "per CPU-s", "of SEABO, wall", "per CPU-s",
    )  # fmt: skip
    assert checks is not None
    equal = {True: "equal", False: "NOT EQUAL", None: "not compared"}[checks["equal"]]
    text = (
        f"{steps:,} transitions ({size / 1e6:.0f} MB of {suffix}) from file to file, one demonstration; the rewards of "
        f"both back ends are {equal}\n{table(rows, header)}"
    )
    result = {"steps": steps, "rounds": rounds, "format": suffix, "bytes": size, "trials": comparison.trials,
              "skipped": comparison.skipped, "checks": checks, "passed": checks["equal"] is not False}  # fmt: skip
    return result, text


# --- kill ---


def run_label(source: Path, out: Path, chunk_steps: int, kill: Callable[[], bool] | None) -> str | None:
    """Run `otr label`; kill -9 it as soon as `kill()` holds. Returns what it printed, or None where it was killed."""
    command = [str(Path(sys.executable).with_name("otr")), "label", str(source), "--demos", "top:1", "--out", str(out)]
    command += ["--chunk-steps", str(chunk_steps)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "COLUMNS": "120"}
    )
    while kill is not None and process.poll() is None:
        if kill():
            process.kill()
            process.communicate()
            return None
        time.sleep(0.001)
    printed = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"otr label failed (exit status {process.returncode}):\n{printed[-2000:]}")
    return printed


def measure_kill(steps: int, suffix: str) -> tuple[Json, str]:
    """Kill and restart labelling, and compare the file with that of an uninterrupted run."""
    chunk_steps = max(LENGTH, min(50_000, steps // 8))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, whole, out = (folder / f"{stem}.{suffix}" for stem in ("data", "whole", "killed"))
        make_file(source, steps)
        begun = time.perf_counter()
        run_label(source, whole, chunk_steps, None)
        uninterrupted = time.perf_counter() - begun
        store = folder / f".{out.name}.labels"
        chunks = -(-steps // (LENGTH * -(-chunk_steps // LENGTH)))

        def done() -> int:
            return len(list(store.glob("*/chunk-*.labels")))

        def writing() -> bool:
            return any(path.name.startswith(f".{out.name}") and path != store for path in folder.iterdir())

        moments: list[tuple[str, Callable[[], bool]]] = [
            ("after a quarter of the chunks", lambda: done() >= max(1, chunks // 4)),
            ("after three quarters", lambda: done() >= max(2, 3 * chunks // 4)),
            ("while the file is written", writing),
        ]
        kills, printed = [], None
        for text, moment in moments:
            printed = run_label(source, out, chunk_steps, moment)
            if printed is not None:  # it was done before the moment came
                break
            kills.append({"when": text, "chunks_found": done(), "left": sorted(p.name for p in folder.iterdir())})
            assert not out.exists(), f"{out.name} is there, and not whole"
        if printed is None:
            begun = time.perf_counter()
            printed = run_label(source, out, chunk_steps, None)
        last = time.perf_counter() - begun
        assert printed is not None
        said = re.search(r"(\d+) computed, (\d+) found", printed)
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (whole, out)]
        left = sorted(path.name for path in folder.iterdir() if path not in (source, whole, out))
    result = {
        "steps": steps,
        "format": suffix,
        "chunk_steps": chunk_steps,
        "chunks": chunks,
        "kills": kills,
        "last_run": {"computed": int(said[1]), "found": int(said[2])} if said else None,
        "uninterrupted_s": round(uninterrupted, 2),
        "last_run_s": round(last, 2),
        "left_behind": left,
        "sha256": digests,
        "passed": digests[0] == digests[1] and len(kills) == len(moments),
    }
    rows = [[kill["when"], str(kill["chunks_found"])] for kill in kills]
    text = (
        f"otr label on {steps:,} transitions, {suffix}, {chunks} chunks, kill -9\n"
        f"{table(rows, ('killed', 'chunks kept'))}"
        f"\nlast run: {said[0] if said else 'no chunk found'}, {last:.1f} s (uninterrupted {uninterrupted:.1f} s); the "
        f"bytes are {'the same' if digests[0] == digests[1] else 'NOT THE SAME'}"
        + (f"; left behind by the kills: {', '.join(left)}" if left else "")
    )
    return result, text


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m benchmarks.otr_labels", description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, action="append", help="only this one")
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--length", type=int, default=LENGTH)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--format", choices=("npz", "hdf5"), default="npz", help="of the files")
    parser.add_argument("--out", type=Path, help="folder of the result (default: benchmarks/results)")
    parser.add_argument("--no-write", action="store_true", help="print only")
    args = parser.parse_args(arguments)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    result: Json = {"benchmark": NAME, **record(f"benchmarks.{NAME}", arguments, ["otr", "ott-jax", "numba"])}
    parts = args.part or PARTS
    if "solver" in parts:
        result["solver"], text = measure_solver(args.pairs, args.length, args.rounds)
        print(text, flush=True)
    if "file" in parts:
        result["file"], text = measure_file(args.steps, args.rounds, args.format)
        print(text, flush=True)
    if "kill" in parts:
        result["kill"], text = measure_kill(args.steps, args.format)
        print(text, flush=True)
    if not args.no_write:
        print("written:", write_result(NAME, result, args.out))
    return 0 if all(result[part]["passed"] for part in parts) else 1


if __name__ == "__main__":
    sys.exit(main())
