"""Bootstrap statistics: ours and rliable's, alternately, on the same scores, with the results compared.

rliable 1.2.0 (Agarwal et al. 2021) fails on import with pandas 3, so it runs in an environment of its own:

    uv venv .cache/peers/rliable --python 3.11
    uv pip install -p .cache/peers/rliable rliable 'pandas<3'

    python -m benchmarks.paperloop_stats [--peer-python PATH] [--smoke]

The peer's interpreter is `--peer-python`, or the environment variable PAPERLOOP_PEER_RLIABLE, or
`.cache/peers/rliable/bin/python` in this repository. Without it the comparison is skipped with the reason.

Every figure is the quickest of several turns, each process holds one thread, and the turns alternate. The time of
the call counts, not that of starting Python. A difference beyond the tolerances makes the exit status 1: 1e-12 for the
aggregates and the probability of improvement; .004 for the ends of an interval of 50,000 resamples (the seeds differ,
and rliable ignores the one it is given). With fewer resamples that tolerance grows with their Monte Carlo error.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import PEERS, Json, child_environment, record, table, write_result
from paperloop_lab import stats

REPS = 50_000

#: Run by the peer's interpreter: reads one request a line, answers with the result and its seconds.
PEER = """
import json, sys, time
import numpy as np
from rliable import library, metrics

AGGREGATES = {"iqm": metrics.aggregate_iqm, "mean": metrics.aggregate_mean, "median": metrics.aggregate_median,
              "optimality_gap": metrics.aggregate_optimality_gap}
import importlib.metadata
packages = ("rliable", "arch", "pandas", "numpy", "scipy")
print(json.dumps({name: importlib.metadata.version(name) for name in packages}), flush=True)
for line in sys.stdin:
    task = json.loads(line)
    scores = [np.array(s) for s in task["scores"]]
    np.random.seed(task["seed"])  # the generator it draws from, whatever random_state says
    if task["name"] in AGGREGATES:
        data, function = scores[0], lambda s: np.array([AGGREGATES[task["name"]](s)])
    elif task["name"] == "probability_of_improvement":
        data, function = scores, lambda x, y: np.array([metrics.probability_of_improvement(x, y)])
    start = time.perf_counter()
    if task["name"] == "performance_profile":
        point, ends = library.create_performance_profile({"a": scores[0]}, np.array(task["taus"]), reps=task["reps"])
    else:
        point, ends = library.get_interval_estimates({"a": data}, function, reps=task["reps"])
    seconds = time.perf_counter() - start
    print(json.dumps({"point": point["a"].tolist(), "low": ends["a"][0].tolist(), "high": ends["a"][1].tolist(),
                      "seconds": seconds}), flush=True)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison, print its table, write JSON; return 0, or 1 where a result differs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peer-python", type=Path, default=_default_peer(), help="interpreter with rliable")
    parser.add_argument("--turns", type=int, default=3, help="timed turns of each side (default 3)")
    parser.add_argument("--smoke", action="store_true", help="seconds: few resamples, one turn, nothing written")
    parser.add_argument("--out", type=Path, help="folder of the JSON (default: benchmarks/results)")
    arguments = parser.parse_args(argv)
    peer = _Peer.start(arguments.peer_python)
    if isinstance(peer, str):
        print(f"skipped: {peer}")
        return 0
    turns = 1 if arguments.smoke else arguments.turns
    with peer:
        rows = [_compare(case, peer, turns) for case in _cases(arguments.smoke)]
    header = ("statistic", "resamples", "rliable", "ours", "ratio", "point differs", "ends differ", "agrees")
    print(table([_line(row) for row in rows], header))
    if not arguments.smoke:
        result = {
            **record("benchmarks.paperloop_stats", [f"--turns={turns}"], ["scipy"]),
            "peer": peer.versions,
            "threads": os.environ.get("OMP_NUM_THREADS"),
            "rows": rows,
        }
        print(f"written: {write_result('paperloop_stats', result, arguments.out)}")
    return 0 if all(row["agrees"] for row in rows) else 1


def _default_peer() -> Path:
    given = os.environ.get("PAPERLOOP_PEER_RLIABLE")
    return Path(given) if given else PEERS / "rliable" / "bin" / "python"


def _cases(smoke: bool) -> list[dict[str, Any]]:
    """What is computed: 5 seeds on the 26 games of Atari 100k in shape, and a comparison with unequal run counts."""
    x = np.random.default_rng(0).normal(1, 0.5, (5, 26))
    y = np.random.default_rng(1).normal(0.9, 0.5, (8, 26))
    taus = np.linspace(0, 2, 51)
    reps = 500 if smoke else REPS

    def bootstrap(name: str) -> Callable[[], stats.Interval]:
        return lambda: stats.stratified_bootstrap(x, name, reps=reps)

    cases = [
        {"name": name, "reps": reps, "scores": [x], "ours": bootstrap(name)}
        for name in ("iqm", "mean", "median", "optimality_gap")
    ]
    few = reps // 50  # the peer takes a minute for these
    cases.append(
        {"name": "probability_of_improvement", "reps": few, "scores": [x, y],
         "ours": lambda: stats.probability_of_improvement(x, y, reps=few)},
    )  # fmt: skip
    few_profiles = reps // 25  # the peer's default, 2,000
    cases.append(
        {"name": "performance_profile", "reps": few_profiles, "scores": [x], "taus": taus.tolist(),
         "ours": lambda: stats.curve_interval(x[:, :, None] > taus, "mean", reps=few_profiles)},
    )  # fmt: skip
    return cases


class _Peer:
    """rliable in a process of its own, kept alive so that no turn pays for starting it."""

    def __init__(self, process: subprocess.Popen[str], versions: dict[str, str]):
        self.process, self.versions = process, versions

    @classmethod
    def start(cls, python: Path) -> _Peer | str:
        """Return the peer, or the reason why there is none."""
        if not python.exists():
            return f"no rliable environment at {python}; the head of this file says how to make it."
        process = subprocess.Popen(
            [str(python), "-c", PEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=child_environment(threads=1),
        )  # fmt: skip
        assert process.stdout is not None
        hello = process.stdout.readline()
        if not hello:
            error = process.communicate()[1].strip().splitlines()[-1:]
            return f"{python} cannot import rliable ({' '.join(error)}); the head of this file says how to make it."
        return cls(process, json.loads(hello))

    def __enter__(self) -> _Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()  # closes its input, which ends it

    def __call__(self, case: dict[str, Any], seed: int) -> dict[str, Any]:
        request = {"name": case["name"], "reps": case["reps"], "seed": seed, "taus": case.get("taus")}
        request["scores"] = [scores.tolist() for scores in case["scores"]]
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"rliable failed: {self.process.communicate()[1]}")
        return json.loads(answer)


def _compare(case: dict[str, Any], peer: _Peer, turns: int) -> Json:
    case["ours"]()  # the first call imports and fills caches; so does the peer's import of everything
    ours_seconds, peer_seconds = [], []
    for turn in range(turns):
        start = time.perf_counter()
        ours = case["ours"]()
        ours_seconds.append(time.perf_counter() - start)
        theirs = peer(case, seed=turn)
        peer_seconds.append(theirs["seconds"])
    point, low, high = (np.atleast_1d(np.asarray(theirs[end], float)) for end in ("point", "low", "high"))
    point_gap = float(np.abs(np.atleast_1d(ours.point) - point).max())
    ends_gap = float(max(np.abs(ours.low - low).max(), np.abs(ours.high - high).max()))
    tolerance = 0.004 * max(1.0, math.sqrt(REPS / case["reps"]))
    if case["name"] == "performance_profile":
        tolerance += 1.5 / case["scores"][0].size  # a profile moves in whole runs
    return {
        "name": case["name"], "reps": case["reps"],
        "ours": [float(np.ravel(v)[0]) for v in ours], "peer": [float(v[0]) for v in (point, low, high)],
        "point_difference": point_gap, "ends_difference": ends_gap, "ends_tolerance": tolerance,
        "agrees": point_gap <= 1e-12 and ends_gap <= tolerance,
        "ours_seconds": ours_seconds, "peer_seconds": peer_seconds, "ratio": min(peer_seconds) / min(ours_seconds),
    }  # fmt: skip


def _line(row: Json) -> list[str]:
    return [
        row["name"],
        f"{row['reps']:,}",
        f"{min(row['peer_seconds']):.2f} s",
        f"{min(row['ours_seconds']):.3f} s",
        f"{row['ratio']:.0f}x",
        f"{row['point_difference']:.0e}",
        f"{row['ends_difference']:.4f}",
        "yes" if row["agrees"] else "NO",
    ]


if __name__ == "__main__":
    if os.environ.get("OMP_NUM_THREADS") != "1":  # thread pools are sized when NumPy is imported, so start over
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **child_environment(threads=1)})
    sys.exit(main())
