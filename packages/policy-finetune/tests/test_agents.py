"""Agents side by side, one after another, and over several devices: the same numbers."""

import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from paperloop.errors import UserError
from policy_finetune.agents.programs import AgentLayout

CODE = """
import jax, numpy as np
from policy_finetune.config import GuardConfig, NetworkConfig, OfflineConfig, OnlineConfig, SwitchConfig, TD3Config
from policy_finetune.envs.pool import EnvSpec
from policy_finetune.trainers.offline import OfflineTrainer
from policy_finetune.trainers.online import OnlineTrainer
from policy_finetune.trainers.pretrained import Pretrained
from paperloop_data import EpisodeDataset
rng = np.random.default_rng(0)
ends = np.arange(100) % 10 == 9
data = EpisodeDataset(
    observations=rng.normal(size=(100, 3)), actions=rng.uniform(-1, 1, (100, 1)), rewards=rng.normal(size=100),
    terminated=np.zeros(100), truncated=ends, next_observations=rng.normal(size=(100, 3)))
net = NetworkConfig(hidden=(16,))
learner = TD3Config(network=net, batch_size=8)
out = {}
for devices in (1, 2):
    trainer = OfflineTrainer(OfflineConfig(learner=learner, updates_per_step=4, seeds=4, devices=devices), data)
    state, metrics = trainer.step(trainer.init(0))
    assert len(state.key.sharding.device_set) == devices
    start = Pretrained.of(trainer, state)
    config = OnlineConfig(learner=learner, block=4, env_steps=40, switch=SwitchConfig(warmup_env_steps=8),
                          devices=devices, guard=GuardConfig())
    online = OnlineTrainer(config, EnvSpec.of("Pendulum-v1"), start=start, data=data)
    now = online.init(0)
    for _ in range(5):
        now, info = online.step(now)
    assert len(now.device.replay.rows.sharding.device_set) == devices
    out[devices] = jax.device_get((start.learner, metrics, now.device.learner, now.device.replay, info))
a, b = (jax.tree.leaves(out[d]) for d in (1, 2))
assert len(a) == len(b) > 60
for x, y in zip(a, b):
    np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
print("equal")
"""


def test_side_by_side_in_groups_and_one_after_another_are_equal():
    own = {"x": jnp.arange(5.0), "y": jnp.ones((5, 2))}
    function = lambda shared, own: {"z": own["x"] * shared + own["y"].sum()}  # noqa: E731
    for together in (1, 2, 5):
        layout = AgentLayout(5, together=together)
        np.testing.assert_array_equal(layout.over_agents(function)(jnp.float32(3), own)["z"], 3 * np.arange(5.0) + 2)
    alone = AgentLayout(1).over_agents(function)(jnp.float32(3), {"x": jnp.ones(1), "y": jnp.ones((1, 2))})
    np.testing.assert_array_equal(alone["z"], [5.0])


def test_what_cannot_be_laid_out_is_refused():
    with pytest.raises(UserError, match=r"devices is 99, but JAX sees .*xla_force_host_platform_device_count"):
        AgentLayout(99, devices=99)


@pytest.mark.slow
def test_two_devices_equal_one():
    environment = dict(os.environ, XLA_FLAGS="--xla_force_host_platform_device_count=2", JAX_PLATFORMS="cpu")
    result = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.strip() == "equal"
    assert "donated" not in result.stderr
