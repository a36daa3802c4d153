"""The level buffer and the scores against jaxued, where an environment with it exists.

The comparison itself is a script in `benchmarks/`, which says how to make that environment; it takes 1,000 states.
"""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path("benchmarks") / "parity_jaxued_buffer.py"


@pytest.mark.slow
def test_weights_scores_and_insertion_equal_jaxued():
    script = next((p / SCRIPT for p in Path(__file__).resolve().parents if (p / SCRIPT).exists()), None)
    if script is None:
        pytest.skip(f"{SCRIPT} is not here: these tests run outside the repository")
    done = subprocess.run([sys.executable, str(script), "--states", "40"], capture_output=True, text=True, check=False)
    if done.stdout.startswith("SKIPPED"):
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All equal within tolerance on 40 states" in done.stdout
