"""The datasets of the pendulum study: made from scratch by this workspace, cached below the benchmark's folder.

For each generator seed: TD3 learns InvertedDoublePendulum-v5 for 20,000 environment steps. Its replay buffer is the
*diverse* dataset (as D4RL's medium-replay); 20,000 steps of one snapshot with Gaussian noise of 0.1 are the *narrow*
one (as D4RL's medium). The snapshot is the first whose evaluation return reaches 400, which is about one twentieth of
what can be had; if none does, the best.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ENV = "InvertedDoublePendulum-v5"
MEDIUM_RETURN = 400.0


def command(*arguments: object) -> None:
    """Run `policy-finetune` with the interpreter of this process."""
    program = Path(sys.executable).with_name("policy-finetune")
    done = subprocess.run([str(program), *map(str, arguments)], check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"policy-finetune {arguments[0]} failed:\n{done.stderr[-3000:]}{done.stdout[-1000:]}")


def medium_snapshot(run: Path) -> Path:
    """Return the policy file of the first snapshot that is good enough."""
    from policy_finetune.data.policies import load_policy

    files = sorted((run / "policies").glob("*.npz"))
    returns = {file: load_policy(file).metadata["return_mean"] for file in files}
    good = [file for file in files if returns[file] >= MEDIUM_RETURN]
    return good[0] if good else max(files, key=lambda file: returns[file])


def make(
    folder: Path, generators: Sequence[int], *, steps: int = 20_000, hidden: Sequence[int] = (64, 64)
) -> list[Path]:
    """Return the dataset files, narrow and diverse by turns, making those that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for seed in generators:
        run = folder / f"generator-{seed}"
        narrow, diverse = folder / f"narrow-{seed}.hdf5", folder / f"diverse-{seed}.hdf5"
        files += [narrow, diverse]
        if narrow.exists() and diverse.exists():
            continue
        command(
            "train", "--preset", "td3", "--env-id", ENV, "--env-steps", steps,
            "--random-env-steps", min(5000, steps // 4),
            "--learner.network.hidden", *hidden, "--eval-env-steps", 1000, "--eval-episodes", 5, "--seed", seed,
            "--out", run, "--quiet",
        )  # fmt: skip
        if not diverse.exists():
            command("replay-data", run, "--steps", steps, "--out", diverse, "--quiet")
        if not narrow.exists():
            command(
                "make-data", "--env-id", ENV, "--quality", "medium", "--policies", medium_snapshot(run), "--noise", 0.1,
                "--steps", steps, "--seed", seed, "--out", narrow, "--quiet",
            )  # fmt: skip
    return files


def describe(files: Sequence[Path]) -> dict[str, dict[str, float]]:
    """Return name -> steps, episodes and returns of each dataset."""
    from paperloop_data import EpisodeDataset

    out = {}
    for file in files:
        data = EpisodeDataset.load(file)
        returns = data.returns()
        out[file.stem] = {
            "steps": data.num_steps,
            "episodes": data.num_episodes,
            "mean": float(returns.mean()),
            "best": float(returns.max()),
        }
    return json.loads(json.dumps(out))
