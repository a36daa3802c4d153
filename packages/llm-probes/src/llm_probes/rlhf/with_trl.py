"""RLOO and DPO by TRL, from the same files and model folders as the stages here; an extra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from llm_probes.models.lines import read_rows
from llm_probes.rlhf.sampling import equal_groups
from paperloop.errors import UserError

__all__ = ["dpo", "rloo"]

#: TRL's defaults ask for an accelerator; these hold everywhere, and nothing is sent anywhere.
PLAIN = {"bf16": False, "gradient_checkpointing": False, "report_to": "none", "disable_tqdm": True}


def rloo(
    model: str | Path,
    data: str | Path,
    reward: Any,
    out: str | Path,
    *,
    steps: int,
    lr: float = 1e-6,
    beta: float = 0.05,
    batch: int = 16,
    generations: int = 4,
    length: int = 48,
    seed: int = 0,
    **more: Any,
) -> list[dict[str, float]]:
    """Train by REINFORCE leave-one-out, write the model into `out`, and return TRL's log.

    Args:
        model: folder of the starting policy, which TRL also loads as the reference.
        data: JSON lines with prompt.
        reward: `reward(prompts, completions)` -> list of numbers.
        out: folder for the trained model.
        steps: of training.
        lr: peak step size.
        beta: weight of the KL penalty.
        batch: responses of one step, a multiple of `generations`.
        generations: responses to each prompt.
        length: the most tokens of a response.
        seed: of everything random.
        more: further settings of `trl.RLOOConfig`.

    Returns:
        TRL's log; its last row has `groups` and `equal_groups`, those whose responses all had the same reward.

    Raises:
        UserError: a reward is not finite, or all rewards of every group were equal, so that nothing could be learned.
    """
    trl, datasets = _trl()
    rows = [{"prompt": row["prompt"]} for row in read_rows(data, ("prompt",))]
    settings = trl.RLOOConfig(
        output_dir=str(out),
        max_steps=steps,
        learning_rate=lr,
        beta=beta,
        per_device_train_batch_size=batch,
        num_generations=generations,
        max_completion_length=length,
        logging_steps=max(1, steps // 20),
        save_strategy="no",
        seed=seed,
        **(PLAIN | more),
    )

    groups = {"groups": 0, "equal_groups": 0}

    def score(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        values = torch.tensor([float(value) for value in reward(prompts, completions)])
        if not torch.isfinite(values).all():
            bad = int((~torch.isfinite(values)).nonzero()[0])
            raise UserError(f"the reward of {completions[bad][:40]!r} is {float(values[bad])}; it must be finite.")
        groups["groups"] += len(values) // generations
        groups["equal_groups"] += equal_groups(values.view(-1, generations))
        return values.tolist()

    trainer = trl.RLOOTrainer(
        model=str(model), reward_funcs=score, args=settings, train_dataset=datasets.Dataset.from_list(rows)
    )
    log = _train(trainer, out)
    if groups["groups"] == groups["equal_groups"]:
        raise UserError("the reward gave all responses to each prompt the same number, so nothing could be learned.")
    return [*log[:-1], log[-1] | groups] if log else log


def dpo(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    steps: int,
    lr: float = 1e-6,
    beta: float = 0.1,
    batch: int = 16,
    seed: int = 0,
    **more: Any,
) -> list[dict[str, float]]:
    """Train by direct preference optimisation, write the model into `out`, and return TRL's log.

    Args:
        model: folder of the starting policy.
        data: JSON lines with prompt, chosen and rejected.
        out: folder for the trained model.
        steps: of training.
        lr: peak step size.
        beta: of the loss.
        batch: pairs of one step.
        seed: of everything random.
        more: further settings of `trl.DPOConfig`.
    """
    trl, datasets = _trl()
    settings = trl.DPOConfig(
        output_dir=str(out),
        max_steps=steps,
        learning_rate=lr,
        beta=beta,
        per_device_train_batch_size=batch,
        logging_steps=max(1, steps // 20),
        save_strategy="no",
        seed=seed,
        **(PLAIN | more),
    )
    rows = datasets.Dataset.from_list(read_rows(data, ("prompt", "chosen", "rejected")))
    return _train(trl.DPOTrainer(model=str(model), args=settings, train_dataset=rows), out)


def _trl() -> tuple[Any, Any]:
    try:
        import datasets  # ty: ignore[import-not-found]
        import trl  # ty: ignore[import-not-found]
    except ImportError as error:
        raise UserError(f"RLOO and DPO need TRL ({error}): pip install 'llm-probes[trl]'.") from None
    return trl, datasets


def _train(trainer: Any, out: str | Path) -> list[dict[str, float]]:
    trainer.train()
    trainer.save_model(str(out))
    return [row for row in trainer.state.log_history if "loss" in row]
