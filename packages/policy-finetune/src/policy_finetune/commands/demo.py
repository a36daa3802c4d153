"""The demo: a pendulum, a narrow dataset made on the spot, TD3 next to TD3-C."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from paperloop.cli import Device, RunOptions
from paperloop.errors import UserError
from policy_finetune.commands.training import learn_offline, learn_online
from policy_finetune.config import (
    DropReplay,
    DualConstraint,
    NetworkConfig,
    OfflineConfig,
    OnlineAgent,
    OnlineConfig,
    SwitchConfig,
    TD3Config,
)
from policy_finetune.presets import LEARNERS

__all__ = ["ENV_ID", "demo_runs", "run_demo"]

ENV_ID = "InvertedDoublePendulum-v5"


def demo_runs(data: Path, pretrained: Path) -> tuple[OfflineConfig, OnlineConfig]:
    """Return the demo's runs: small networks, one narrow dataset, two pre-trained agents, two arms from each."""
    network = NetworkConfig(hidden=(64, 64))
    td3, td3c = TD3Config(network=network), TD3Config(network=network, constraint=DualConstraint())
    td3bc = replace(LEARNERS["td3bc"], network=network)
    before = OfflineConfig(learner=td3bc, data=(str(data),), env_id=ENV_ID, updates=10_000, seeds=2, eval_episodes=3)
    replay, switch = DropReplay(), SwitchConfig(warmup_env_steps=500)
    agents = tuple(
        OnlineAgent(label=f"{name} drop", learner=learner, replay=replay, switch=switch, start=start)
        for name, learner in (("td3", td3), ("td3c", td3c))
        for start in (0, 1)
    )
    after = OnlineConfig(
        env_id=ENV_ID, learner=td3, replay=replay, switch=switch, start=str(pretrained), data=(str(data),),
        env_steps=8_000, agents=agents, eval_episodes=3, eval_env_steps=500,
    )  # fmt: skip
    return before, after


def run_demo(out: Path, *, seed: int = 0, device: Device = "cpu") -> None:
    """Make the data, pre-train, fine-tune, and show what was lost on the way.

    Raises:
        UserError: the folder holds another demo.
    """
    from policy_finetune.data.make import DataPlan, write_dataset
    from policy_finetune.data.policies import shipped

    data = out / f"narrow-{seed}.hdf5"
    if not data.exists():
        if "medium" not in shipped(ENV_ID):
            raise UserError(f"No policy for {ENV_ID} comes with this installation: reinstall the package.")
        out.mkdir(parents=True, exist_ok=True)
        write_dataset(DataPlan.of(ENV_ID, "medium", 20_000, seed=seed), data)
    before, after = demo_runs(data, out / "pretrain")
    learn_offline(RunOptions(out=out / "pretrain", seed=seed, device=device), before)
    learn_online(RunOptions(out=out / "finetune", seed=seed, device=device), after)
    print(
        "TD3 loses the policy before it learns anew; TD3-C keeps it and learns slowly. The recommended pair, td3bc-ln\n"
        "and then td3c-ln, does both: its LayerNorm is left out here, because with it nothing collapses."
    )
