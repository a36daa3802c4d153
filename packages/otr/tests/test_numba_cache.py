"""The process that compiles the kernels first gets the same bits as those that find them in numba's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import otr

pytest.importorskip("numba", reason="the compiled solver is an extra")

LABEL = """
import hashlib
import numpy as np
from otr import SinkhornConfig, transport
rng = np.random.default_rng(0)
walk = lambda n: np.cumsum(rng.normal(size=(n, 17)), axis=0).astype(np.float32)
solution = transport([walk(300), walk(217)], [walk(256)], solver=SinkhornConfig(backend="numba"))
print(hashlib.sha256(solution.expected_costs.tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_the_first_process_agrees_with_later_ones(tmp_path):
    shutil.copytree(Path(otr.__file__).parent, tmp_path / "otr", ignore=shutil.ignore_patterns("__pycache__"))
    env = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    env["PYTHONPATH"] = str(tmp_path)

    def run() -> str:
        command = [sys.executable, "-c", LABEL]
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = run()
    made = {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}
    assert any("solve_block" in name for name in made)
    assert run() == first
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")} == made  # nothing compiled again
