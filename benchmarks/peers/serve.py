"""The child's side of a comparison: a process that prepares once and then measures one trial per line it is sent.

Runs in any peer's virtual environment: standard library only, and NumPy inside the functions that need it.

The conversation, one JSON object a line on the child's original standard output:

    child   {"ready": true, "setup_wall_s": ..., "setup_cpu_s": ..., "versions": {...}, ...}
    parent  go
    child   {"wall_s": ..., "cpu_s": ..., "work": ..., ...}       # one per "go"
    parent  stop

Whatever else the child prints goes to standard error, so that a chatty library cannot break the conversation.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["level_statistics", "serve"]

WATCHED = ("jax", "jaxlib", "flax", "optax", "numpy", "jaxued", "minimax-lib", "tfp-nightly", "minimax-ued")

Trial = Callable[[], dict[str, Any]]


def serve(setup: Callable[[], tuple[dict[str, Any], Trial]]) -> None:
    """Run `setup` (builds, compiles, warms up), announce it, then answer every "go" with one measured trial.

    `setup` returns what to say about the contestant and the trial function. A trial does its work, waits for the device
    and returns at least {"work": number of units done}; the clock is around that call. CPU seconds count all threads of
    this process.
    """
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # anything printed from here on goes to standard error
    wall, cpu = time.perf_counter(), time.process_time()
    info, trial = setup()
    ready = {
        "ready": True,
        "setup_wall_s": time.perf_counter() - wall,
        "setup_cpu_s": time.process_time() - cpu,
        "versions": _versions(),
    }
    channel.write(json.dumps({**ready, **info}) + "\n")
    for line in sys.stdin:
        if line.strip() != "go":
            break
        wall, cpu = time.perf_counter(), time.process_time()
        result = trial()
        times = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        channel.write(json.dumps({**times, **result}) + "\n")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in WATCHED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def level_statistics(walls: Any, agents: Any, goals: Any) -> dict[str, float]:
    """Return statistics of a sample of levels, by a plain breadth-first search: the same code for every contestant.

    Args:
        walls: [N, H, W] bool, row y and column x.
        agents: [N, 2], (x, y) of the start.
        goals: [N, 2], (x, y) of the goal.

    Returns:
        levels, mean and standard deviation of the number of walls, solvable fraction, mean path length (moves, without
        turns) of the solvable ones.
    """
    import numpy as np

    walls = np.asarray(walls, bool)
    lengths = [
        _path_length(wall.tolist(), (int(a[0]), int(a[1])), (int(g[0]), int(g[1])))
        for wall, a, g in zip(walls, np.asarray(agents), np.asarray(goals), strict=True)
    ]
    solvable = [length for length in lengths if length is not None]
    counts = walls.sum(axis=(1, 2))
    return {
        "levels": len(walls),
        "walls_mean": float(counts.mean()),
        "walls_sd": float(counts.std()),
        "solvable": len(solvable) / len(lengths),
        "path_mean": float(np.mean(solvable)),
        "path_sd": float(np.std(solvable)),
    }


def _path_length(wall: list[list[bool]], start: tuple[int, int], goal: tuple[int, int]) -> int | None:
    height, width = len(wall), len(wall[0])
    seen, queue = {start}, deque([(start, 0)])
    while queue:
        (x, y), length = queue.popleft()
        if (x, y) == goal:
            return length
        for cell in ((x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)):
            inside = 0 <= cell[0] < width and 0 <= cell[1] < height
            if inside and cell not in seen and not wall[cell[1]][cell[0]]:
                seen.add(cell)
                queue.append((cell, length + 1))
    return None
