"""Our generations, one measured trial per line: `python opshape_generation.py GENERATIONS CONFIG.json`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from serve import serve


def setup() -> tuple[dict[str, Any], Any]:
    import jax

    from opshape.config import TrainConfig
    from opshape.trainer import ShapingTrainer
    from paperloop.settings import load_config

    generations = int(sys.argv[1])
    config = load_config(TrainConfig, Path(sys.argv[2]))
    trainer = ShapingTrainer(config)
    state = [trainer.init(0)]
    state[0], _ = jax.block_until_ready(trainer.step(state[0]))
    dispatches = generations // config.generations_per_step

    def trial() -> dict[str, Any]:
        for _ in range(dispatches):
            state[0], metrics = trainer.step(state[0])
        jax.block_until_ready(state[0])
        return {"work": generations * config.joint_steps, "reward": float(metrics["reward"].mean())}

    return {"joint_steps": config.joint_steps}, trial


if __name__ == "__main__":
    serve(setup)
