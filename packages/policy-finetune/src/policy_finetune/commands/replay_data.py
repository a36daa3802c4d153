"""A run's replay buffer as a dataset."""

from __future__ import annotations

import shlex
from pathlib import Path

from paperloop.errors import UserError
from paperloop.loop.runner import restore
from paperloop_data import EpisodeDataset, write_d4rl
from policy_finetune.data.make import check_output, from_replay
from policy_finetune.trainers.online import OnlineTrainer
from policy_finetune.trainers.sessions import load_trainer

__all__ = ["write_replay"]


def write_replay(
    folder: str | Path, out: str | Path, steps: int, *, agent: int = 0, compress: bool = False
) -> tuple[EpisodeDataset, str, list[str]]:
    """Write the oldest transitions that are left in an online run's replay buffer as a D4RL file.

    Args:
        folder: the run.
        out: the file.
        steps: transitions at most; where the buffer has fewer, all of them.
        agent: whose buffer.
        compress: gzip the arrays.

    Returns:
        The dataset, the environment's name, and what a user should know.

    Raises:
        UserError: it is not an online run, it has no such agent or no transitions yet, or the file exists.
    """
    folder, out = Path(folder), Path(out)
    check_output(out)
    trainer, spec = load_trainer(folder)
    if not isinstance(trainer, OnlineTrainer):
        raise UserError(f"{folder} learned from data and has no replay buffer: name a run of train or finetune.")
    if not 0 <= agent < len(trainer.members):
        number = len(trainer.members)
        raise UserError(f"--agent is {agent}, but {folder} has {number} agent{'s' * (number != 1)}, numbered from 0.")
    state = restore(trainer, folder)
    arrays = {name: array[:steps] for name, array in trainer.replay_data(state, agent).items()}
    if not len(arrays["terminated"]):
        raise UserError(f"The replay buffer of {folder} is empty: train it first.")
    if not arrays["terminated"][-1]:
        arrays["truncated"] = arrays["truncated"].copy()
        arrays["truncated"][-1] = True
    # By its name alone and without how it was called: the file is a function of the run, not of who asked from where.
    words = ["policy-finetune", "replay-data", folder.name, "--agent", str(agent), "--steps", str(steps)]
    record = {"run": folder.name, "agent": agent, "steps": steps, "command": shlex.join(words)}
    data = from_replay(spec, arrays, record=record)
    write_d4rl(data, out, compress=compress)
    made, notes = trainer.progress(state)["env_steps"], []
    held = min(made, trainer.replay.capacity)
    if made > held:
        notes.append(
            f"the replay buffer holds {held:,} transitions and has lost the {made - held:,} before them: the dataset "
            "begins there, perhaps in the middle of an episode, and not with the start of training"
        )
    return data, spec.env_id, notes
