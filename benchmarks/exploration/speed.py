"""How fast are draws from a buffer, next to jaxued, and what does scoring cost a training step?

    python -m benchmarks.exploration.speed [--rounds 5]

Draws: 32 levels out of 4,000 slots. jaxued draws one after another with replacement and moves its clock in between;
`Buffer.sample_in_turn` does the same, `Buffer.sample` computes the weights once and draws 32 different slots. The
check compares the replay weights of one state. jaxued is set up as benchmarks/peers.md says.

Scoring: steps of the maze task by uniform sampling and by the reducible loss; operations counted, CPU time measured.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import ChildProcess, Comparison, InProcess, Json, alternate, record, table, write_result
from generalized_exploration import Buffer, SelectionTrainer
from generalized_exploration.config import PRESETS
from generalized_exploration.samplers.buffer import BufferState
from paperloop.settings import replace_in

__all__ = ["main"]

SLOTS, DRAWS, REPEATS = 4000, 32, 50  # as in peers/exploration_jaxued_draws.py
BUFFER = Buffer(SLOTS, temperature=0.3, rho=0.3)


def _state() -> BufferState:
    """The state of the peer's script: staleness is clock minus last visit on both sides."""
    scores = jax.random.uniform(jax.random.key(0), (SLOTS,))
    visits = (jnp.arange(SLOTS) * 7919) % SLOTS
    return BufferState(
        jnp.zeros((SLOTS, 4)), scores, visits.astype(jnp.int32), jnp.ones(SLOTS, bool), jnp.asarray(SLOTS, jnp.int32)
    )


def _draws(name: str) -> InProcess:
    def setup() -> tuple[Json, Any]:
        state = _state()
        weights = np.asarray(BUFFER.weights(state))[:200].tolist()
        draw = jax.jit(lambda state, key: getattr(BUFFER, name)(key, state, DRAWS))
        jax.block_until_ready(draw(state, jax.random.key(0)))

        def trial() -> Json:
            for index in range(REPEATS):
                jax.block_until_ready(draw(state, jax.random.key(index)))
            return {"work": REPEATS * DRAWS}

        return {"weights": weights}, trial

    return InProcess(f"ours, {name}", setup)


def _check(comparison: Comparison) -> Json:
    weights = [np.asarray(info["weights"]) for info in comparison.info.values() if "weights" in info]
    gap = max(float(np.abs(w - weights[0]).max()) for w in weights)
    return {"replay weights": {"largest difference": gap, "equal": gap < 1e-6}}


def _scoring(arm: str) -> InProcess:
    def setup() -> tuple[Json, Any]:
        config = replace_in(
            PRESETS["mazes"],
            {"arms": [arm], "seeds": 1, "task.train": 16_000, "task.holdout": 1000, "task.test": 10,
             "reference.epochs": 1},
        )  # fmt: skip
        trainer = SelectionTrainer(config)
        holder = [trainer.step(trainer.init(0))[0]]
        holder[0] = trainer.step(holder[0])[0]

        def trial() -> Json:
            state, metrics = trainer.step(holder[0])
            jax.block_until_ready(metrics["accuracy"])
            holder[0] = state
            return {"work": config.steps_per_dispatch}

        return {"forward_passes_a_step": trainer.arms[0].cost(config.pool, config.keep)}, trial

    return InProcess(arm, setup)


def main(argv: list[str] | None = None) -> int:
    """Measure both; 0 if the replay weights agree, or if jaxued is absent."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exploration.speed")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args(argv)
    peer = ChildProcess("jaxued", ["benchmarks/peers/exploration_jaxued_draws.py"], peer="jaxued", source="src")
    draws, checked = alternate([_draws("sample"), _draws("sample_in_turn"), peer], args.rounds, _check)
    scoring, _ = alternate([_scoring("uniform"), _scoring("reducible_loss")], args.rounds)
    ratios: dict[str, Any] = {}
    rows = []
    for ours in ("ours, sample", "ours, sample_in_turn"):
        line = [ours, f"{draws.rate(ours, 'cpu_s'):,.0f}"]
        if "jaxued" in draws.trials:
            ratios[ours] = draws.ratio(ours, "jaxued", "cpu_s")
            line.append(str(ratios[ours]))
        rows.append(line)
    print(table(rows, ["draws of 32 out of 4,000", "draws per CPU-s", "of jaxued's"][: len(rows[0])]))
    slower = scoring.ratio("uniform", "reducible_loss", "cpu_s")
    costs = {name: info["forward_passes_a_step"] for name, info in scoring.info.items()}
    print(f"A step by the reducible loss takes {slower} the CPU time of a uniform one, and "
          f"{costs['reducible_loss'] / costs['uniform']:.2f}x the operations.")  # fmt: skip
    for reason in draws.skipped.values():
        print(f"Skipped: {reason}")
    origin = record("benchmarks.exploration.speed", sys.argv[1:] if argv is None else argv, ["jax"])
    write_result(
        "exploration_speed",
        {"record": origin, "draws": draws, "checked": checked, "ratios": ratios, "scoring": scoring, "slower": slower,
         "forward_passes_a_step": costs},
    )  # fmt: skip
    return 0 if checked is None or all(one["equal"] for one in checked.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
