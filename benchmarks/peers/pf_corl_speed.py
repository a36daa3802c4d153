"""CORL's TD3+BC in PyTorch, sampling and updating as its training loop does, for `policy_finetune_speed.py`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import Any

from pf_work import ACT, BATCH, OBS, ROWS, dataset, versions
from serve import serve


def setup(args: argparse.Namespace) -> tuple[dict[str, Any], Any]:
    import numpy as np
    import torch
    from pf_torch_steps import adam, stub

    torch.set_num_threads(args.threads)
    stub("gym", "d4rl", "wandb", "pyrallis")
    sys.path.insert(0, os.environ["PEER_SOURCE"])
    module = importlib.import_module("algorithms.offline.td3_bc")
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  its buffer draws from the global generator
    buffer = module.ReplayBuffer(OBS, ACT, ROWS, "cpu")
    buffer.load_d4rl_dataset(dataset())
    actor, critics = module.Actor(OBS, ACT, 1.0), [module.Critic(OBS, ACT) for _ in range(2)]
    agent = module.TD3_BC(
        1.0, actor, adam(actor), critics[0], adam(critics[0]), critics[1], adam(critics[1]), device="cpu"
    )

    def run(times: int) -> dict[str, float]:
        log: dict[str, float] = {}
        for _ in range(times):
            log |= agent.train([part.to("cpu") for part in buffer.sample(BATCH)])
        return log

    run(20)

    def trial() -> dict[str, Any]:
        before = agent.total_it
        losses = run(args.updates)
        done = agent.total_it - before
        return {"work": done, "updates": done, "stats": losses}

    count = sum(parameter.numel() for network in (actor, *critics) for parameter in network.parameters())
    return {"parameters": count, "threads": args.threads, "packages": versions("torch", "numpy")}, trial


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--updates", type=int, default=400, help="updates in one trial")
    args = parser.parse_args()
    serve(lambda: setup(args))


if __name__ == "__main__":
    main()
