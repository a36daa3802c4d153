"""The stages of RLHF as `paperloop.Trainer`s: SFT, reward model, PPO."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from llm_probes.config import SFT, Reward, TrainConfig
from llm_probes.models.lines import read_rows
from llm_probes.models.loading import context_limit, load_model
from llm_probes.rlhf.data import encode_prompts, encode_responses
from llm_probes.rlhf.model import ScoreHead, freeze, frozen_copy, policy_and_values, reward_scores
from llm_probes.rlhf.objectives import (
    clipped_surrogate,
    clipped_value_loss,
    gae,
    kl_estimate,
    masked_mean,
    preference_loss,
    token_rewards,
    whiten,
)
from llm_probes.rlhf.sampling import Responses, equal_groups, pad_left, response_log_probs, sample
from paperloop.errors import UserError
from paperloop.torch_backend import load_objects, save_objects

__all__ = ["HEAD", "PPOTrainer", "RewardTrainer", "SFTTrainer", "export", "load_reward_model", "make_trainer"]

HEAD = "score_head.safetensors"
State = SimpleNamespace


class _Stage:
    """What the stages share: a state of model, head, optimiser and generator, changed in place.

    Attributes:
        config: the stage's configuration.
        tokenizer: the model's.
        donates: True, `step` changes the state that it is given.
    """

    donates = True
    headlines: Sequence[str] = ("loss",)

    def __init__(self, config: TrainConfig, device: str = "cpu"):
        self.config, self.device = config, device
        self.model, self.tokenizer = load_model(config.model, kind="causal", device=device, dtype="float32")
        if self.tokenizer.eos_token_id is None:
            raise UserError(f"{config.model}: the tokeniser has no end token, so no response could end.")
        self.end = self.tokenizer.eos_token_id
        self.pad = self.end if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id
        limit = context_limit(self.model)
        if limit is not None and config.length >= limit:
            raise UserError(f"{config.model}: responses of {config.length} tokens do not fit its context of {limit}.")
        self.prompt_length = config.prompt_length if limit is None else min(config.prompt_length, limit - config.length)

    def init(self, seed: int) -> State:
        """Return the state before the first step."""
        model = copy.deepcopy(self.model)
        model.requires_grad_(True)
        freeze(model, self.config.frozen)
        head = ScoreHead(model.get_input_embeddings().weight.shape[1]).to(self.device)
        trained = [p for module in (model, head) for p in module.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(trained, lr=self.config.stage.lr, weight_decay=0.0)
        generator = torch.Generator().manual_seed(seed)
        return State(model=model, head=head, optimiser=optimiser, generator=generator, updates=0, responses=0)

    def progress(self, state: State) -> Mapping[str, int]:
        """Return counters."""
        return {"updates": state.updates, "responses": state.responses}

    def save(self, state: State, folder: Path) -> None:
        """Write the whole state."""
        save_objects(vars(state), folder)

    def restore(self, folder: Path, like: State) -> State:
        """Read it back."""
        return State(**load_objects(vars(like), folder))

    def step(self, state: State) -> tuple[State, dict[str, Any]]:
        """Do one step."""
        raise NotImplementedError

    def _update(self, state: State, loss: Tensor, factor: float) -> Tensor:
        for group in state.optimiser.param_groups:
            group["lr"] = self.config.stage.lr * factor
        state.optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_([p for g in state.optimiser.param_groups for p in g["params"]], 1.0)
        state.optimiser.step()
        return norm

    def _linear(self, state: State, per_step: int = 1) -> float:
        """The learning rate's factor: from 1 linearly to 0 over the configured steps."""
        return max(0.0, 1 - state.updates / (self.config.steps * per_step))

    def _rows(self, state: State, total: int, batch: int) -> Tensor:
        return torch.randint(total, (batch,), generator=state.generator)

    def _responses(self, prompts: list[list[int]], texts: list[str]) -> Responses:
        found = encode_responses(self.tokenizer, prompts, texts, length=self.config.length, end=self.end, pad=self.pad)
        return found.to(self.device)


class SFTTrainer(_Stage):
    """Next-token cross entropy on the completion, its end token included; on the prompt only if `whole` is set."""

    def __init__(self, config: TrainConfig, device: str = "cpu"):
        super().__init__(config, device)
        self.stage: Any = config.stage
        rows = read_rows(self.stage.data, ("prompt", "completion"))
        prompts = [row["prompt"] for row in rows]
        self.prompts = encode_prompts(self.tokenizer, prompts, length=self.prompt_length, where=str(self.stage.data))
        self.completions = [row["completion"] for row in rows]

    def step(self, state: State) -> tuple[State, dict[str, Any]]:
        """Do one update."""
        rows = self._rows(state, len(self.prompts), self.stage.batch).tolist()
        batch = self._responses([self.prompts[i] for i in rows], [self.completions[i] for i in rows])
        if self.stage.whole:  # the prompt counts as response: every token that has one before it is predicted
            pairs = batch.attention[:, 1:] * batch.attention[:, :-1]
            batch = Responses(batch.tokens, batch.attention, pairs.float())
        logits, _ = policy_and_values(state.model, state.head, batch)
        loss = -masked_mean(response_log_probs(logits, batch), batch.mask)
        norm = self._update(state, loss, self._linear(state))
        state.updates += 1
        state.responses += len(rows)
        return state, {"loss": loss.detach(), "gradient_norm": norm}


class RewardTrainer(_Stage):
    """A Bradley-Terry reward model; its accuracy on held-out pairs is part of every step's metrics when logged."""

    headlines = ("loss", "accuracy")

    def __init__(self, config: TrainConfig, device: str = "cpu"):
        super().__init__(config, device)
        self.stage: Any = config.stage
        rows = read_rows(self.stage.data, ("prompt", "chosen", "rejected"))
        prompts = [row["prompt"] for row in rows]
        encoded = encode_prompts(self.tokenizer, prompts, length=self.prompt_length, where=str(self.stage.data))
        cut = max(1, round(self.stage.held_out * len(rows)))
        if cut >= len(rows):
            raise UserError(f"{self.stage.data} has too few pairs to hold {cut} of {len(rows)} out.")
        everything = [(prompt, row["chosen"], row["rejected"]) for prompt, row in zip(encoded, rows, strict=True)]
        self.pairs, self.held_out = everything[cut:], everything[:cut]

    def scores(self, state: State, pairs: list[tuple[list[int], str, str]]) -> Tensor:
        """Return the scores [pairs, 2] of the chosen and the rejected responses."""
        prompts = [prompt for prompt, _, _ in pairs]
        texts = [chosen for _, chosen, _ in pairs] + [rejected for _, _, rejected in pairs]
        batch = self._responses(prompts + prompts, texts)
        return reward_scores(state.model, state.head, batch).view(2, -1).T

    def step(self, state: State) -> tuple[State, dict[str, Any]]:
        """Do one update."""
        rows = self._rows(state, len(self.pairs), self.stage.batch).tolist()
        scores = self.scores(state, [self.pairs[i] for i in rows])
        loss = preference_loss(scores[:, 0], scores[:, 1])
        norm = self._update(state, loss, self._linear(state))
        state.updates += 1
        state.responses += 2 * len(rows)
        accuracy = (scores[:, 0] > scores[:, 1]).float().mean()
        return state, {"loss": loss.detach(), "accuracy": accuracy, "gradient_norm": norm}

    @torch.no_grad()
    def held_out_scores(self, state: State, batch: int = 32) -> Tensor:
        """Return the scores of all held-out pairs, [pairs, 2]."""
        parts = [self.scores(state, self.held_out[i : i + batch]) for i in range(0, len(self.held_out), batch)]
        return torch.cat(parts)


class HeldOutAccuracy:
    """Accuracy of a reward model on its held-out pairs."""

    def __init__(self, trainer: RewardTrainer):
        self.trainer = trainer

    def __call__(self, state: State, seed: int) -> dict[str, Any]:
        """Return the accuracy; nothing is random."""
        scores = self.trainer.held_out_scores(state)
        return {"accuracy": (scores[:, 0] > scores[:, 1]).float().mean()}


class PPOTrainer(_Stage):
    """PPO on a reward model's score minus a KL penalty to the starting policy."""

    headlines = ("reward", "kl")

    def __init__(self, config: TrainConfig, device: str = "cpu"):
        super().__init__(config, device)
        self.stage: Any = config.stage
        prompts = [row["prompt"] for row in read_rows(self.stage.data, ("prompt",))]
        self.prompts = encode_prompts(self.tokenizer, prompts, length=self.prompt_length, where=str(self.stage.data))
        self.reference = frozen_copy(self.model)
        self.judge, self.judge_head, judge_tokenizer = load_reward_model(self.stage.reward, device)
        if judge_tokenizer.get_vocab() != self.tokenizer.get_vocab():
            raise UserError(f"{self.stage.reward} has another vocabulary than {config.model}.")

    def step(self, state: State) -> tuple[State, dict[str, Any]]:
        """Sample a batch of responses, score them, and update on them several times."""
        stage = self.stage
        with torch.no_grad():
            batch, rewards, kl, scores = self._rollout(state)
            logits, old_values = policy_and_values(state.model, state.head, batch)
            old = response_log_probs(logits, batch)
            advantages, returns = gae(rewards, old_values, batch.mask, discount=stage.discount, trace=stage.trace)
            advantages = whiten(advantages, batch.mask)
        updates = stage.epochs * stage.batch // stage.minibatch
        policy_losses, value_losses, norms = [], [], []
        for _ in range(stage.epochs):
            order = torch.randperm(stage.batch, generator=state.generator)
            for rows in order.split(stage.minibatch):
                part = batch.take(rows)
                logits, values = policy_and_values(state.model, state.head, part)
                new = response_log_probs(logits, part)
                policy = clipped_surrogate(new, old[rows], advantages[rows], part.mask, clip=stage.clip)
                value = clipped_value_loss(values, old_values[rows], returns[rows], part.mask, clip=stage.value_clip)
                norms.append(self._update(state, policy + stage.value_weight * value, self._linear(state, updates)))
                state.updates += 1
                policy_losses.append(policy.detach())
                value_losses.append(value.detach())
        state.responses += stage.batch
        return state, {
            "reward": scores.mean(),
            "reward_std": scores.std(unbiased=False),
            "equal_rewards": float(equal_groups(scores[None])),  # 1: the step could only learn from the KL
            "kl": (kl * batch.mask).sum(1).mean(),
            "length": batch.mask.sum(1).mean(),
            "ended": (batch.responses == self.end).any(1).float().mean(),
            "policy_loss": torch.stack(policy_losses).mean(),
            "value_loss": torch.stack(value_losses).mean(),
            "gradient_norm": torch.stack(norms).mean(),
        }

    def _rollout(self, state: State) -> tuple[Responses, Tensor, Tensor, Tensor]:
        """Return responses, rewards [B, T], the KL by k1 [B, T], and the reward model's scores [B]."""
        stage = self.stage
        chosen = self._rows(state, len(self.prompts), stage.batch).tolist()
        tokens, attention = (x.to(self.device) for x in pad_left([self.prompts[i] for i in chosen], self.pad))
        batch = sample(
            state.model,
            tokens,
            attention,
            length=self.config.length,
            end=self.end,
            pad=self.pad,
            temperature=stage.temperature,
            generator=state.generator,
        )
        own, _ = policy_and_values(state.model, state.head, batch)
        base, _ = policy_and_values(self.reference, state.head, batch)
        log_probs, reference = (response_log_probs(logits, batch) for logits in (own, base))
        scores = reward_scores(self.judge, self.judge_head, batch)
        if not torch.isfinite(scores).all():
            raise UserError(f"{stage.reward} gives scores that are not finite.")
        kl = kl_estimate(log_probs, reference, estimator="k1")
        if float((kl * batch.mask).sum(1).mean()) > stage.max_kl:
            error = UserError(f"the KL to the starting policy exceeds {stage.max_kl}; lower the rate or raise beta.")
            error.intact_state = state  # ty: ignore[missing-attribute]
            raise error
        penalty = kl_estimate(log_probs, reference, estimator=stage.estimator)
        return batch, token_rewards(scores, penalty, batch.mask, beta=stage.beta), kl, scores


def make_trainer(config: TrainConfig, device: str = "cpu") -> _Stage:
    """Return the trainer of the configured stage."""
    if isinstance(config.stage, SFT):
        return SFTTrainer(config, device)
    return (RewardTrainer if isinstance(config.stage, Reward) else PPOTrainer)(config, device)


def export(trainer: Any, state: State, folder: Path) -> None:
    """Write a model folder that `transformers` can read; a reward model's head goes next to it, normalised.

    Raises:
        UserError: the folder is not empty, or a reward model scores all held-out responses alike.
    """
    from safetensors.torch import save_file

    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; give a new folder.")
    if isinstance(trainer, RewardTrainer):
        state.head.normalise(trainer.held_out_scores(state).flatten())
    folder.mkdir(parents=True, exist_ok=True)
    state.model.save_pretrained(folder)
    trainer.tokenizer.save_pretrained(folder)
    if isinstance(trainer, RewardTrainer):
        save_file({name: value.contiguous() for name, value in state.head.state_dict().items()}, folder / HEAD)


def load_reward_model(folder: Path, device: str = "cpu") -> tuple[Any, ScoreHead, Any]:
    """Return (frozen model, head, tokeniser) of an exported reward model.

    Raises:
        UserError: the folder is not one.
    """
    from safetensors.torch import load_file

    path = Path(folder) / HEAD
    if not path.exists():
        raise UserError(f"{folder} has no {HEAD}: give the folder of an exported reward model.")
    model, tokenizer = load_model(folder, kind="causal", device=device, dtype="float32")
    head = ScoreHead(model.get_input_embeddings().weight.shape[1])
    head.load_state_dict(load_file(path))
    return frozen_copy(model), head.to(device).requires_grad_(False), tokenizer
