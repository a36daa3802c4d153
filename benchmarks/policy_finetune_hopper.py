"""Why fine-tuning on Hopper loses its start, and which recipe of the literature keeps it and improves.

    python -m benchmarks.policy_finetune_hopper --out runs/hopper            # trains what is missing, then reports
    python -m benchmarks.policy_finetune_hopper --out runs/hopper --report   # reports what is finished

One narrow dataset of a medium policy (100,000 steps), 128x128 networks, TD3+BC pre-training of 30,000 updates, and
20,000 environment steps of fine-tuning. Four ways of pre-training differ in the critics:

- `plain`, and `ln` with LayerNorm: two critics that begin at zero, targets moving with the actor, as published.
- `level`, and `level-ln`: they begin at the data's mean discounted return to go, targets moving at every update.
- `ten`: as `level-ln`, with ten critics, of which a random two make the target (REDQ, RLPD, WSRL).

**The critic's error.** At every evaluation each policy plays whole episodes. At all of their states the critic's Q(s,
π(s)) is compared with the discounted return that the policy then gets in the simulator, up to the end of the episode
and beyond its time limit. `level` is mean Q / mean return, `spread` the standard deviation of Q - return, `correlation`
that of the two over states. A critic that begins at zero approaches its fixed point no faster than its target does: with
a Polyak factor τ at every d-th update, level = 1 - exp(-(1 - γ) τ n / d) after n updates, which is 0.53 after 30,000.
`climbed` is the return of a policy that adds to each action a step of 0.1 along the critic's gradient: what the actor
is about to do.

**The arms.** WSRL: offline data dropped, 5000 steps with the frozen policy first, four updates a step. RLPD: the same
with half of each batch offline; without pre-training it is the control that says what that was good for; with a BC
term that fades over the first half. All with TD3's deterministic actor, because the pre-trained one is. TD3 and TD3+BC
at one update a step are the controls from the other starts, and policies without training say what noise does.

An arm *does both* when each of its agents keeps at least 0.8 of what no training keeps of minimum / start, and ends,
over 50 episodes, above its start over 50 episodes with 95 % intervals apart.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import policy_finetune_data as data
from benchmarks.harness import figure_path, record, table, write_result
from paperloop.cli import start_jax
from paperloop.loop.metrics_file import read_metrics
from paperloop.loop.runner import run
from paperloop.seeds import fold_seed
from paperloop_lab import plots
from paperloop_lab.stats import Interval
from policy_finetune.config import (
    AppendReplay, DropReplay, Fade, NetworkConfig, OfflineConfig, OnlineAgent, OnlineConfig, ReplayConfig, SwitchConfig,
    SymmetricReplay, TD3Config,
)  # fmt: skip
from policy_finetune.data.saved_policies import load_policies
from policy_finetune.diagnosis.measures import mean_of
from policy_finetune.envs.acting import HostPolicy
from policy_finetune.envs.rollouts import RolloutEnvs, evaluate
from policy_finetune.envs.spec import EnvSpec, as_vector
from policy_finetune.learners.base import value_to_climb
from policy_finetune.measures.collapse import collapse_metrics
from policy_finetune.presets import LEARNERS
from policy_finetune.trainers.sessions import evaluation_blocks, offline_trainer, online_trainer

#: Size of the step along the critic's gradient, a root mean square over action dimensions.
CLIMB = 0.1

#: States at which a critic is compared with returns, drawn from those met.
STATES = 2000

#: Share of the minimum / start without training that counts as kept.
KEEPS = 0.8


@dataclass(frozen=True)
class Tier:
    """What is trained, and how long."""

    env_id: str
    hidden: tuple[int, ...]
    seeds: int
    updates: int
    env_steps: int
    warmup: int
    eval_env_steps: int
    eval_episodes: int
    again: int
    data_steps: int
    batch_size: int
    per_step: int = 1000


TIERS = {
    "cpu": Tier("Hopper-v5", (128, 128), 2, 30_000, 20_000, 5000, 5000, 10, 50, 100_000, 256),
    "smoke": Tier(data.ENV, (8, 8), 1, 200, 600, 250, 200, 2, 2, 1000, 32, per_step=100),
}


@dataclass(frozen=True)
class Start:
    """A way of pre-training: its learner without sizes, and where its critics begin."""

    learner: TD3Config
    initial_value: str = "zero"
    batch_share: int = 1


_LEVEL = replace(LEARNERS["td3bc"], target_update="every_step")
_TEN = NetworkConfig(critics=10, layer_norm=True)
_MANY = replace(_LEVEL, network=_TEN, target_subset=2, actor_q="mean", policy_delay=4)

STARTS = {
    "plain": Start(LEARNERS["td3bc"]),
    "ln": Start(LEARNERS["td3bc-ln"]),
    "level": Start(_LEVEL, "mean"),
    "level-ln": Start(replace(_LEVEL, network=NetworkConfig(layer_norm=True)), "mean"),
    "ten": Start(_MANY, "mean", batch_share=2),
}


@dataclass(frozen=True)
class Group:
    """Arms that go out from one way of pre-training (or from none) and share a program."""

    start: str
    arms: dict[str, tuple[TD3Config, ReplayConfig]]
    warmup_share: int
    utd: float = 1.0
    scratch: bool = False


def groups(tier: Tier) -> dict[str, Group]:
    """Return the groups of arms by name; the TD3 of a start has its critics and targets."""

    def td3(learner: TD3Config) -> TD3Config:
        return replace(learner, bc_weight=0.0, q_weight=1.0)

    def few(start: str) -> dict[str, tuple[TD3Config, ReplayConfig]]:
        learner = STARTS[start].learner
        return {
            f"TD3, {start}": (td3(learner), DropReplay()),
            f"TD3+BC, data kept, {start}": (learner, AppendReplay()),
        }

    many, half = td3(_MANY), SymmetricReplay()
    fading = replace(_MANY, bc_fade=Fade(steps=2 * (tier.env_steps - tier.warmup)))
    ten = {"WSRL": (many, DropReplay()), "RLPD": (many, half), "RLPD, BC fading": (fading, half)}
    return {
        "plain": Group("plain", few("plain"), 5),
        "level": Group("level", few("level"), 5),
        "level-ln": Group("level-ln", few("level-ln"), 5),
        "ten": Group("ten", ten, 1, utd=4.0),
        "ln": Group("ln", dict([*few("ln").items()][:1]), 5),
        "scratch": Group("ten", {"RLPD from scratch": (many, half)}, 1, utd=4.0, scratch=True),
    }


# The critic's error


def values_of(
    policy: HostPolicy, spec: EnvSpec, envs: RolloutEnvs, *, episodes: int, seed: int, discount: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the observations (n, obs) that one policy meets, their discounted returns (n,), and episode returns (E,).

    Episodes go on beyond the time limit, so that the returns of states before it are whole (less than 1 % is missing).
    """
    limit, tail = spec.max_episode_steps, math.ceil(math.log(0.01) / math.log(discount))
    together = [env.unwrapped for env in envs.take(episodes)]  # without the wrapper that keeps the time limit
    seen = np.stack([as_vector(e.reset(seed=fold_seed(seed, "values", i))[0], spec) for i, e in enumerate(together)])
    observations, rewards = np.zeros((limit, *seen.shape), np.float32), np.zeros((limit + tail, episodes))
    lengths, alive = np.zeros(episodes, int), np.ones(episodes, bool)
    for step in range(limit + tail):
        if not alive.any():
            break
        observations[min(step, limit - 1)] = seen if step < limit else observations[-1]
        commands = spec.to_env(np.clip(policy(seen[None])[0], np.float32(-1), np.float32(1)))
        for i in np.flatnonzero(alive):
            found, rewards[step, i], terminated, _, _ = together[i].step(commands[i])
            seen[i] = as_vector(found, spec)
            lengths[i], alive[i] = step + 1, not terminated
    to_go = np.zeros_like(rewards)
    for t in reversed(range(limit + tail)):
        to_go[t] = rewards[t] + (discount * to_go[t + 1] if t + 1 < limit + tail else 0.0)
    rows = np.arange(limit)[:, None] < lengths
    return observations[rows], to_go[:limit][rows], rewards[:limit].sum(0)


_value = jax.jit(value_to_climb, static_argnames="how")


@partial(jax.jit, static_argnames="how")
def _uphill(critics: Any, obs: jax.Array, action: jax.Array, how: str) -> jax.Array:
    """Return actions [B, act] after a step of CLIMB along the gradient of the value that the actor climbs."""
    slope = jax.grad(lambda a: value_to_climb(critics, obs, a, how=how).sum())(action)
    return action + CLIMB * slope * jax.lax.rsqrt(jnp.square(slope).mean(-1, keepdims=True) + 1e-12)


class Climber:
    """A policy whose actions take a step along its critic's gradient."""

    num_agents = 1

    def __init__(self, critics: Any, policy: HostPolicy, how: str) -> None:
        self._critics, self._policy, self._how = critics, policy, how

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Return actions (1, n, act) for observations (1, n, obs)."""
        seen, action = self._policy.normalised(observations)[0], self._policy(observations)[0]
        return np.asarray(_uphill(self._critics, seen, action, self._how))[None]


class CriticError:
    """Evaluator: return of each agent, and how far its critic is from the returns that its policy gets.

    Metrics, (A,) each: `return`; `value`, the mean discounted return of the states met; `level`, `spread` and
    `correlation` of the critic (the module says what these are); `climbed`.
    """

    def __init__(self, trainer: Any, spec: EnvSpec, *, episodes: int) -> None:
        self.trainer, self.spec, self.episodes = trainer, spec, episodes
        self._envs = RolloutEnvs(spec)

    def __call__(self, state: Any, seed: int) -> dict[str, np.ndarray]:
        """Return the metrics of `state`."""
        learner = state.learner if hasattr(state, "learner") else state.device.learner
        policies, config = self.trainer.canonical_policy(state), self.trainer.learner.config
        rows = []
        for i in range(policies.num_agents):
            policy, critics = policies.agent(i), jax.tree.map(lambda x, i=i: x[i], learner.params["critic"])
            obs, value, returns = values_of(
                policy, self.spec, self._envs, episodes=self.episodes, seed=seed, discount=config.discount
            )
            some = np.random.default_rng(seed).integers(len(obs), size=STATES)  # of one number: compiled once
            obs, value = obs[some], value[some]
            q = np.asarray(_value(critics, policy.normalised(obs[None])[0], policy(obs[None])[0], how=config.actor_q))
            climber = Climber(critics, policy, config.actor_q)
            up = evaluate(climber, self.spec, episodes=-(-self.episodes // 2), seed=seed, envs=self._envs)
            rows.append(
                {
                    "return": returns.mean(), "value": value.mean(), "level": q.mean() / value.mean(),
                    "spread": (q - value).std(), "correlation": _correlation(q, value), "climbed": up.mean[0],
                }
            )  # fmt: skip
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).mean() / max(x.std() * y.std(), 1e-12))


# Training


def offline_config(tier: Tier, name: str, file: Path) -> OfflineConfig:
    """Return the configuration of a way of pre-training."""
    start = STARTS[name]
    return OfflineConfig(
        learner=_sized(start.learner, tier, start.batch_share), data=(str(file),), env_id=tier.env_id,
        updates=tier.updates, updates_per_step=tier.per_step, initial_value=start.initial_value,
        eval_episodes=tier.eval_episodes,
    )  # fmt: skip


def online_config(tier: Tier, group: Group, file: Path, before: Path, seed: int) -> OnlineConfig:
    """Return the configuration of a group's fine-tuning from the pre-trained agent of one seed."""
    warmup = tier.warmup // group.warmup_share
    switch = SwitchConfig(warmup_env_steps=warmup)
    share = STARTS[group.start].batch_share
    agents = tuple(
        OnlineAgent(label=label, learner=_sized(learner, tier, share), replay=replay, switch=switch, seed=seed)
        for label, (learner, replay) in group.arms.items()
    )
    return OnlineConfig(
        env_id=tier.env_id, learner=agents[0].learner, replay=agents[0].replay, switch=switch,
        start="" if group.scratch else str(before), data=(str(file),), env_steps=tier.env_steps, utd=group.utd,
        random_env_steps=warmup if group.scratch else None, agents=agents, eval_episodes=tier.eval_episodes,
        eval_env_steps=tier.eval_env_steps,
    )  # fmt: skip


def _sized(learner: TD3Config, tier: Tier, share: int) -> TD3Config:
    network = replace(learner.network, hidden=tier.hidden)
    return replace(learner, network=network, batch_size=tier.batch_size // share)


def train(tier: Tier, out: Path, file: Path) -> None:
    """Train what is missing: one pre-trained agent of each kind and all that goes out from it, then the next seed."""
    for seed in range(tier.seeds):
        for name, group in groups(tier).items():
            before = out / f"pretrain-{group.start}-{seed}"
            config = offline_config(tier, group.start, file)
            _run(offline_trainer(config, quiet=True), before, seed, config.eval_episodes, max(1, config.num_steps // 3))
            tuned = online_config(tier, group, file, before, seed)
            at = evaluation_blocks(tuned)
            _run(online_trainer(tuned, quiet=True), out / f"{name}-{seed}", seed, tuned.eval_episodes, None, at)


def _run(made: tuple[Any, EnvSpec], folder: Path, seed: int, episodes: int, every: int | None, at: Any = ()) -> None:
    trainer, spec = made
    check = CriticError(trainer, spec, episodes=episodes)
    run(
        trainer, folder, steps=trainer.num_steps, seed=seed, evaluators={"evaluation": check}, eval_every=every,
        eval_at=at, save_minutes=4, progress=False,
    )  # fmt: skip


# What it came to


def curves_of(folder: Path) -> dict[str, np.ndarray] | None:
    """Return what a complete run measured, each (T, A), and `step` (T,) in dispatches; None if it is not complete."""
    if not (folder / "run.json").exists() or '"complete"' not in (folder / "run.json").read_text():
        return None
    rows = [row for row in read_metrics(folder) if row["split"] == "evaluation"]
    names = ("return", "value", "level", "spread", "correlation", "climbed")
    return {"step": np.array([row["step"] for row in rows])} | {n: np.array([row[n] for row in rows]) for n in names}


def agents_of(tier: Tier, out: Path) -> list[dict[str, Any]]:
    """Return one record for each pre-trained and each fine-tuned agent of the runs that are complete."""
    found = []
    for seed in range(tier.seeds):
        for name in STARTS:
            folder = out / f"pretrain-{name}-{seed}"
            curves = curves_of(folder)
            if curves is not None:
                steps = curves.pop("step") * tier.per_step
                found.append(_record(tier, folder, 0, "no training", name, seed, steps, curves) | {"phase": "offline"})
        for name, group in groups(tier).items():
            folder = out / f"{name}-{seed}"
            curves = curves_of(folder)
            if curves is not None:
                steps = curves.pop("step") * 50
                start = "none" if group.scratch else group.start
                found += [
                    _record(tier, folder, i, label, start, seed, steps, curves) | {"phase": "online"}
                    for i, label in enumerate(group.arms)
                ]
    return found


def _record(
    tier: Tier, folder: Path, agent: int, arm: str, start: str, seed: int, steps: np.ndarray, curves: dict[str, Any]
) -> dict[str, Any]:
    policy, _ = load_policies(folder)
    again = evaluate(policy.canonical.agent(agent), policy.spec, episodes=tier.again, seed=fold_seed(seed, "again"))
    own = {name: values[:, agent] for name, values in curves.items()}
    return {"arm": arm, "start": start, "seed": seed, "steps": steps, **own, "again": list(mean_of([again.returns[0]]))}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy_finetune_hopper")
    parser.add_argument("--out", type=Path, default=Path("runs/hopper"))
    parser.add_argument("--smoke", action="store_true", help="a tiny pendulum: everything runs, nothing is claimed")
    parser.add_argument("--report", action="store_true", help="train nothing")
    options = parser.parse_args(arguments)
    tier = TIERS["smoke" if options.smoke else "cpu"]
    file = narrow(tier, options.out / "data")
    if not options.report:
        start_jax("cpu")
        train(tier, options.out, file)
    return 0


def narrow(tier: Tier, folder: Path) -> Path:
    """Return the narrow dataset, made if it is missing."""
    file = folder / f"{tier.env_id.lower()}-medium.hdf5"
    folder.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        options = ["--quality", "medium", "--steps", tier.data_steps, "--out", file, "--quiet"]
        data.command("make-data", "--env-id", tier.env_id, *options)
    return file


if __name__ == "__main__":
    sys.exit(main())
