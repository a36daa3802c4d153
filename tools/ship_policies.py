"""Train the graded policies that come with policy-finetune, and put them into the package.

    python -m tools.ship_policies                        # about two hours on two cores
    python -m tools.ship_policies --env-id Hopper-v5

Each environment is one run of `policy-finetune train` (its options stand in RUNS), resumable. The best snapshot of the
run is the "expert"; the first that reaches a third of its return above random is the "medium"; some snapshots before it
are kept for medium-replay. An expert here is what this budget on a CPU gives: the metadata says what it returns. The
pendulum stops long before anything that deserves the name, and ships none.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from tools.workspace import REPO

#: Environment -> options of `policy-finetune train`.
RUNS: dict[str, list[str]] = {
    "InvertedDoublePendulum-v5": [
        "--env-steps", "20000", "--random-env-steps", "5000", "--learner.network.hidden", "64", "64",
        "--eval-env-steps", "1000", "--eval-episodes", "5", "--seed", "1",
    ],
    **{
        f"{task}-v5": [
            "--env-steps", str(steps), "--random-env-steps", "10000", "--learner.network.hidden", "128", "128",
            "--learner.network.layer-norm", "--learner.batch-size", "128", "--eval-env-steps", "25000",
        ]
        for task, steps in (("HalfCheetah", 300_000), ("Hopper", 400_000), ("Walker2d", 400_000))
    },
}  # fmt: skip
#: Runs that stop long before anything that deserves the name.
NO_EXPERT = ("InvertedDoublePendulum-v5",)
#: Mean return of a medium policy: random + this share of (expert - random).
MEDIUM = 1 / 3
#: Snapshots before the medium one that are kept.
EARLIER = 4
FOLDER = REPO / "packages" / "policy-finetune" / "src" / "policy_finetune" / "data" / "policies"


def grades(run: Path) -> dict[str, Path]:
    """Return grade -> policy file of a run."""
    from policy_finetune.data.policies import load_policy
    from policy_finetune.envs.references import random_return

    files = sorted((run / "policies").glob("step-*.npz"))
    policies = {file: load_policy(file) for file in files}
    gains = {file: float(policy.metadata["return_mean"]) for file, policy in policies.items()}
    expert = max(files, key=lambda file: gains[file])
    chance = random_return(str(policies[expert].metadata["env_id"]))
    wanted = chance + MEDIUM * (gains[expert] - chance)
    medium = next(file for file in files if gains[file] >= wanted)
    before = [file for file in files if file < medium and file.stem != "step-0000000"]
    kept = before[:: max(1, -(-len(before) // EARLIER))][:EARLIER]
    found = {**{file.stem: file for file in kept}, "medium": medium, "expert": expert}
    if policies[expert].metadata["env_id"] in NO_EXPERT:
        del found["expert"]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.ship_policies", description=__doc__.splitlines()[0])
    parser.add_argument("--env-id", choices=RUNS, action="append", help="default: all")
    parser.add_argument("--runs", type=Path, default=REPO / ".cache" / "policies", help="where the runs are kept")
    options = parser.parse_args()
    program = Path(sys.executable).with_name("policy-finetune")
    for env_id in options.env_id or RUNS:
        run = options.runs / env_id.lower()
        arguments = ["train", "--preset", "td3", "--env-id", env_id, *RUNS[env_id], "--out", str(run)]
        subprocess.run([str(program), *arguments], check=True)
        folder = FOLDER / env_id.lower()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for grade, file in grades(run).items():
            shutil.copyfile(file, folder / f"{grade}.npz")
            print(folder / f"{grade}.npz")
    return 0


if __name__ == "__main__":
    sys.exit(main())
