"""Advantages and losses of minimax-ued against rlax, on the same random rollouts.

rlax (DeepMind, Apache-2.0) is an independent implementation. It runs in an environment of its own, from the root of the
repository:

    uv venv .cache/peers/rlax --python 3.11
    uv pip install -p .cache/peers/rlax rlax==0.1.9 jax==0.10.2 jaxlib==0.10.2
    python benchmarks/parity_rlax.py

PAPERLOOP_PEER_RLAX names another Python that can import rlax. Without either, the script says so and is skipped. It
prints the largest difference of each quantity and exits with 1 if one is above its tolerance.

rlax knows no cut-off episodes: a discount of 0 is an end. Where an episode is cut off, its advantage is therefore
computed with the value of the last observation added to the reward, which is the same by definition.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

STEPS, ENVS, ACTIONS = 64, 8, 7
GAMMA, LAMBDA, CLIP = 0.995, 0.98, 0.2
TOLERANCE = 1e-5
NAMES = ("advantages", "policy_loss", "entropy", "log_probs")


def make_rollouts(n: int, seed: int) -> dict[str, np.ndarray]:
    """Random rollouts with ends, cut-offs, actions and two policies."""
    rng = np.random.default_rng(seed)
    shape = (n, STEPS, ENVS)
    over = rng.random(shape) < rng.choice([0.0, 0.02, 0.3], size=(n, 1, 1))
    truncated = over & (rng.random(shape) < 0.5)
    data = {
        "rewards": rng.normal(size=shape),
        "values": rng.normal(size=shape),
        "last_value": rng.normal(size=(n, ENVS)),
        "truncation_values": rng.normal(size=shape),
        "logits": rng.normal(size=(*shape, ACTIONS)),
        "old_logits": rng.normal(size=(*shape, ACTIONS)),
        "advantages": rng.normal(size=shape),
    }
    data = {name: x.astype(np.float32) for name, x in data.items()}
    actions = rng.integers(ACTIONS, size=shape)
    return data | {"terminated": over & ~truncated, "truncated": truncated, "actions": actions}


def run_ours(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The quantities, by minimax-ued: `ppo_loss` itself on a network that says the given logits."""
    import jax
    import jax.numpy as jnp

    from minimax_ued.config import PPOConfig
    from minimax_ued.learning.gae import generalized_advantages
    from minimax_ued.learning.ppo import Batch, ppo_loss
    from minimax_ued.learning.rollout import log_prob
    from minimax_ued.nets.students import StudentOutput

    class Parrot:
        """Says what it observes."""

        def apply(self, params, carry, observations, resets):
            return carry, StudentOutput(logits=observations, value=jnp.zeros(resets.shape))

    config = PPOConfig(clip=CLIP, clip_value=False, entropy_coef=0.0, value_coef=0.0)

    def one(d):
        advantages, _ = generalized_advantages(
            d["rewards"],
            d["values"],
            d["last_value"],
            terminated=d["terminated"],
            truncated=d["truncated"],
            truncation_values=d["truncation_values"],
            gamma=GAMMA,
            gae_lambda=LAMBDA,
        )
        zeros = jnp.zeros((STEPS, ENVS))
        batch = Batch(
            initial_carry=None,
            observations=d["logits"],
            resets=zeros.astype(bool),
            actions=d["actions"],
            log_probs=log_prob(d["old_logits"], d["actions"]),
            values=zeros,
            advantages=d["advantages"],
            targets=zeros,
        )
        _, parts = ppo_loss(config, Parrot(), None, batch)
        return {
            "advantages": advantages,
            "policy_loss": parts["policy_loss"],
            "entropy": parts["entropy"],
            "log_probs": log_prob(d["logits"], d["actions"]),
        }

    return jax.device_get(jax.jit(jax.vmap(one))({name: jnp.asarray(x) for name, x in data.items()}))


def run_peer(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The quantities, by rlax."""
    import jax
    import jax.numpy as jnp
    import rlax

    policy = rlax.softmax()

    def advantages(d, e):
        rewards = d["rewards"][:, e] + GAMMA * jnp.where(d["truncated"][:, e], d["truncation_values"][:, e], 0.0)
        discounts = GAMMA * (1.0 - (d["terminated"] | d["truncated"])[:, e])
        values = jnp.concatenate([d["values"][:, e], d["last_value"][e][None]])
        return rlax.truncated_generalized_advantage_estimation(rewards, discounts, LAMBDA, values)

    def one(d):
        logits, old, actions = (
            d[name].reshape(STEPS * ENVS, *d[name].shape[2:]) for name in ("logits", "old_logits", "actions")
        )
        log_probs = policy.logprob(actions, logits)
        normal = d["advantages"].reshape(-1)
        normal = (normal - normal.mean()) / (normal.std() + 1e-5)
        ratios = jnp.exp(log_probs - policy.logprob(actions, old))
        return {
            "advantages": jnp.stack([advantages(d, e) for e in range(ENVS)], axis=1),
            "policy_loss": rlax.clipped_surrogate_pg_loss(ratios, normal, CLIP),
            "entropy": -rlax.entropy_loss(logits, jnp.ones(STEPS * ENVS)),
            "log_probs": log_probs.reshape(STEPS, ENVS),
        }

    return jax.device_get(jax.jit(jax.vmap(one))({name: jnp.asarray(x) for name, x in data.items()}))


def find_peer() -> tuple[str | None, str]:
    """Return the peer's Python, or None and the reason."""
    default = Path(__file__).resolve().parents[1] / ".cache" / "peers" / "rlax" / "bin" / "python"
    python = os.environ.get("PAPERLOOP_PEER_RLAX", str(default))
    if not Path(python).exists():
        return None, f"there is no Python at {python}; this script's docstring says how to make it"
    found = subprocess.run([python, "-c", "import rlax"], capture_output=True, text=True, check=False)
    if found.returncode:
        return None, f"{python} cannot import rlax: {found.stderr.strip().splitlines()[-1]}"
    return python, ""


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description="Advantages and losses of minimax-ued against rlax.")
    parser.add_argument("--rollouts", type=int, default=200, help="random rollouts of 64 steps and 8 environments")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peer", nargs=2, metavar=("IN", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        np.savez(options.peer[1], **run_peer(dict(np.load(options.peer[0]))))
        return
    python, reason = find_peer()
    if python is None:
        print(f"skipped: {reason}")
        return
    data = make_rollouts(options.rollouts, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        given, answered = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(given, **data)
        subprocess.run([python, __file__, "--peer", str(given), str(answered)], check=True)
        peer = dict(np.load(answered))
    ours = run_ours(data)
    worst = {name: float(np.abs(ours[name] - peer[name]).max() / max(1.0, np.abs(peer[name]).max())) for name in NAMES}
    for name, difference in worst.items():
        print(f"{name:<12} largest difference {difference:.1e} (relative to the largest value, or 1)")
    if max(worst.values()) > TOLERANCE:
        sys.exit(1)


if __name__ == "__main__":
    main()
