"""Kill -9 a run of minimax-ued at random moments, resume it each time, and compare with an uninterrupted run.

    python -m benchmarks.kill --kills 20     # about five minutes: each resume starts Python and JAX anew

The run is robust PLR with two seeds, so that the state has a level buffer. The final state must be equal bit for bit,
and metrics.jsonl row for row (`wall` apart). The rest of the contract (`paperloop.conformance`) is checked on the way.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, record, write_result


def make(config: Any) -> Any:
    from minimax_ued.trainer import UEDTrainer

    return UEDTrainer(config)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the training")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args(argv)
    # Read when a process first compiles: without it, every resume would compile for half a minute.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(RESULTS.parents[1] / ".cache" / "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

    from minimax_ued.config import (
        BufferConfig,
        LSTMConfig,
        MazeConfig,
        PPOConfig,
        ReplayConfig,
        StudentConfig,
        TrainConfig,
    )
    from paperloop.conformance import ConformanceError, check_trainer

    config = TrainConfig(
        env=MazeConfig(height=5, width=5, n_walls=4, max_steps=8),
        student=StudentConfig(core=LSTMConfig(features=8), head_width=8, conv_filters=4),
        ppo=PPOConfig(lr=1e-2, epochs=2, minibatches=2),
        method=ReplayConfig(buffer=BufferConfig(capacity=32)),
        n_envs=8,
        rollout_steps=16,
        cycles_per_step=4,
        seeds=2,
    )
    other = dataclasses.replace(config, method=ReplayConfig(buffer=BufferConfig(capacity=40)))
    with tempfile.TemporaryDirectory() as folder:
        try:
            lines = check_trainer(
                make, config, folder=Path(folder), steps=15, kills=options.kills, seed=options.seed,
                other_config=other, command="minimax-ued",
            )  # fmt: skip
            passed = True
        except ConformanceError as error:
            lines, passed = [str(error)], False
    for line in lines:
        print(line)
    print("all equal" if passed else "NOT EQUAL")
    arguments = sys.argv[1:] if argv is None else argv
    result = {"provenance": record("benchmarks.kill", arguments), "kills": options.kills, "passed": passed}
    print("written:", write_result("kill", {**result, "checks": lines}, options.out))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
