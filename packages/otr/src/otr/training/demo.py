"""The second part of the demo, where policy-finetune is installed: what learners make of labels, in a minute."""

from __future__ import annotations

from pathlib import Path

from otr.training.config import TrainConfig
from otr.training.report import ArmResult
from otr.training.train import train

__all__ = ["run_training_demo"]


def run_training_demo(out: Path, *, seed: int = 0, steps: int = 20_000, updates: int = 6000) -> list[ArmResult]:
    """Make data, label it, learn, and show table and figures.

    HalfCheetah, half of the episodes of a good and half of a middling policy, all of one length, so that nothing is
    earned by lasting. One demonstration.

    Args:
        out: folder for halfcheetah.hdf5 and the training in `halfcheetah/`; continues with what is there.
        seed: of the data and of training.
        steps: of the data, 1000 an episode.
        updates: of each learner.
    """
    from policy_finetune import make_dataset

    data, env_id = out / "halfcheetah.hdf5", "HalfCheetah-v5"
    if not data.exists():
        out.mkdir(parents=True, exist_ok=True)
        make_dataset(env_id, "medium-expert", steps=steps, seed=seed).save(data)
    config = TrainConfig(
        data=str(data), labels=("oracle", "otr", "constant"), learners=("bc", "bc10-labels", "iql"), env_id=env_id,
        seeds=2, updates=updates, updates_per_step=min(500, updates), hidden=(64, 64), evaluations=3, eval_episodes=2,
    )  # fmt: skip
    return train(config, out / "halfcheetah", seed=seed, device="cpu")
