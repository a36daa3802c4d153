"""The demo: a pendulum, a narrow dataset made on the spot, TD3 next to TD3-C."""

from __future__ import annotations

from pathlib import Path

from paperloop.errors import UserError
from policy_finetune.config import SwitchConfig
from policy_finetune.study.config import StudyConfig

__all__ = ["ENV_ID", "demo_study", "run_demo"]

ENV_ID = "InvertedDoublePendulum-v5"


def demo_study(data: Path) -> StudyConfig:
    """Return the demo's study: small networks, one narrow dataset, two pre-trained agents, two arms."""
    return StudyConfig(
        env_id=ENV_ID,
        data=(str(data),),
        learners=("td3", "td3c"),
        replays=("drop",),
        pre_seeds=2,
        seeds=1,
        updates=10_000,
        env_steps=8_000,
        hidden=(64, 64),
        switch=SwitchConfig(warmup_env_steps=500),
        eval_env_steps=500,
        eval_episodes=3,
    )


def run_demo(out: Path, *, seed: int = 0, device: str = "cpu") -> None:
    """Make the data, run the study, and show what it says.

    Raises:
        UserError: the folder holds another demo.
    """
    from policy_finetune.data.make import DataPlan, write_dataset
    from policy_finetune.data.policies import shipped
    from policy_finetune.report.study import report_study
    from policy_finetune.study.curves import read_study
    from policy_finetune.study.run import run_study

    data = out / f"narrow-{seed}.hdf5"
    if not data.exists():
        grades = shipped(ENV_ID)
        if "medium" not in grades:
            raise UserError(f"No policy for {ENV_ID} comes with this installation: reinstall the package.")
        out.mkdir(parents=True, exist_ok=True)
        write_dataset(DataPlan.of(ENV_ID, "medium", 20_000, seed=seed), data)
    run_study(demo_study(data), out, seed=seed, device=device)
    report_study(out)
    lowest = {
        arm: [c.metrics.min_over_start for c in read_study(out) if c.arm == arm] for arm in ("td3 drop", "td3c drop")
    }
    print(
        "Lowest return online over the return before it: "
        + "; ".join(f"{arm} " + ", ".join(f"{float(value):.2f}" for value in found) for arm, found in lowest.items())
        + f". Look at {out / 'report' / 'curves.png'}."
    )
