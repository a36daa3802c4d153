"""Run the tests: each package, the workspace's own and the benchmarks' in a process of their own.

    python -m tools.run_tests                 every suite, without what is marked slow
    python -m tools.run_tests --full          the slow tests too
    python -m tools.run_tests core workspace  some suites
    python -m tools.run_tests core -- -k seed options after `--` go to pytest; with -m, that decides about slow tests

A process each, because some settings of JAX are process-wide, so that one package's tests could change another's.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from tools.workspace import REPO, members

__all__ = ["environment", "main", "suites"]

NO_TESTS_COLLECTED = 5


def suites() -> dict[str, Path]:
    """Return name -> folder of every suite, in the order in which they run."""
    found = {member.folder.name: member.folder / "tests" for member in members()}
    if any((REPO / "benchmarks").glob("**/test_*.py")):
        found["benchmarks"] = REPO / "benchmarks"
    found["workspace"] = REPO / "tests"
    return found


def workers() -> int:
    """Test processes at a time: one a core, but no more than four, since each holds its own JAX."""
    return max(1, min(4, os.cpu_count() or 1))


def environment(processes: int, *, quick_compile: bool = False) -> dict[str, str]:
    """Return the environment of a test process when `processes` of them share this machine.

    Each gets its share of the cores: XLA (NPROC), OpenMP and BLAS would otherwise all start one thread a core in every
    worker. Compiled programs are kept in .cache/jax, which makes the second run much quicker. `quick_compile` switches
    off most of the compiler's optimisations: tests compile many small programs and hardly run them, and this halves
    their time. What the caller has set wins.
    """
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    defaults = {
        "JAX_COMPILATION_CACHE_DIR": str(REPO / ".cache" / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
        "JAX_PLATFORMS": "cpu",
        "MPLBACKEND": "Agg",
        "NPROC": threads,
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    if quick_compile:
        defaults["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    return {**defaults, **os.environ}


def torch_note() -> str:
    """Return "torch <version>", or that its tests are skipped."""
    try:
        return f"torch {importlib.metadata.version('torch')}"
    except importlib.metadata.PackageNotFoundError:
        return "no torch: its tests were skipped"


def main(argv: list[str] | None = None) -> int:
    """Run the suites named in `argv` (all without any) and return 0 only if every one passed."""
    argv = sys.argv[1:] if argv is None else argv
    cut = argv.index("--") if "--" in argv else len(argv)
    names, options = argv[:cut], argv[cut + 1 :]
    full = "--full" in names
    names = [name for name in names if name != "--full"]
    if not full and "-m" not in options:
        options = ["-m", "not slow", *options]
    known = suites()
    if unknown := [name for name in names if name not in known]:
        print(f"tests: no suite {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    processes = workers()
    # Files stay whole, so that what a file compiles or sets up for all its tests is done once. The tests of the
    # workspace and of the benchmarks have no such fixtures, and single ones of them take minutes.
    parallel = ["-n", str(processes), "--dist"] if processes > 1 else []
    results: list[tuple[str, str, float]] = []
    for name in names or known:
        print(f"\n=== {name}", flush=True)
        start = time.monotonic()
        spread = [*parallel, "worksteal" if name in ("benchmarks", "workspace") else "loadfile"] if parallel else []
        command = [sys.executable, "-m", "pytest", "-q", *spread, *options, str(known[name].relative_to(REPO))]
        # The READMEs' commands train; the compiled programs should be those that users get.
        variables = environment(processes, quick_compile=name != "workspace")
        code = subprocess.run(command, cwd=REPO, env=variables, check=False).returncode
        verdict = {0: "passed", NO_TESTS_COLLECTED: "NO TESTS"}.get(code, "FAILED")
        results.append((name, verdict, time.monotonic() - start))
    print()
    for name, verdict, seconds in results:
        print(f"{name:<16} {verdict:<9} {seconds:7.1f} s")
    failed = [name for name, verdict, _ in results if verdict != "passed"]
    total = sum(seconds for *_, seconds in results)
    about = f"Python {platform.python_version()}, {torch_note()}, {total / 60:.1f} minutes"
    print(f"tests: {'FAILED: ' + ', '.join(failed) if failed else f'all {len(results)} suites passed'} ({about})")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
