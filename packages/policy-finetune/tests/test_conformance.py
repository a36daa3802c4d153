"""The contract of `paperloop.Trainer`: exact resume, mid-episode, for every family of learners."""

import jax
import numpy as np
import pytest

from paperloop.conformance import check_trainer, fingerprint
from paperloop_data import EpisodeDataset
from policy_finetune.config import (
    ActorNetwork,
    AppendReplay,
    BalancedReplay,
    BCConfig,
    CQLConfig,
    DecayReplay,
    DropReplay,
    DualConstraint,
    GuardConfig,
    IQLConfig,
    NetworkConfig,
    OfflineAgent,
    OfflineConfig,
    OnlineAgent,
    OnlineConfig,
    SACConfig,
    SwitchConfig,
    SymmetricReplay,
    TD3Config,
)
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.trainers.offline import OfflineTrainer
from policy_finetune.trainers.online import OnlineTrainer
from policy_finetune.trainers.pretrained import Pretrained

NET = NetworkConfig(hidden=(16,))
SMALL = {"network": NET, "batch_size": 8}
REPLAYS = {
    "append": AppendReplay, "drop": DropReplay, "symmetric": SymmetricReplay, "decay": DecayReplay,
    "balanced": BalancedReplay,
}  # fmt: skip
ENSEMBLE = NetworkConfig(hidden=(16,), critics=3, layer_norm=True)
TD3 = TD3Config(**SMALL)
TD3BC = TD3Config(**SMALL, q_weight=2.5, bc_weight=1.0)
TD3C = TD3Config(**SMALL, constraint=DualConstraint())
OTHERS = {
    "iql": IQLConfig(network=NET, actor_dropout=0.1, batch_size=8),
    "bc": BCConfig(network=ActorNetwork(hidden=(16,)), batch_size=8, loss="mle"),
    "sac": SACConfig(**SMALL),
    "rlpd": SACConfig(policy_delay=5, target_subset=2, actor_q="mean", network=ENSEMBLE, batch_size=8),
    "calql": SACConfig(**SMALL, cql=CQLConfig(weight=5.0, actions=2, calibrated=True)),
}


def dataset():
    """60 transitions of Pendulum-v1's dimensions."""
    rng = np.random.default_rng(0)
    ends = np.arange(60) % 10 == 9
    return EpisodeDataset(
        observations=rng.normal(size=(60, 3)).astype(np.float32),
        actions=rng.uniform(-1, 1, (60, 1)).astype(np.float32),
        rewards=rng.normal(size=60), terminated=np.zeros(60, bool), truncated=ends,
        next_observations=rng.normal(size=(60, 3)).astype(np.float32),
    )  # fmt: skip


def offline(config):
    return OfflineTrainer(config, dataset())


def online(config):
    learner = config.structure
    before = offline(OfflineConfig(learner=learner, updates_per_step=2 * learner.policy_delay))
    start = Pretrained.of(before, before.init(0))  # untrained, which saves compiling another program
    return OnlineTrainer(config, EnvSpec.of("Pendulum-v1"), start=start, data=dataset())


FAMILY = OfflineConfig(
    updates_per_step=4, agents=tuple(OfflineAgent(label=str(i), learner=c) for i, c in enumerate((TD3, TD3BC, TD3C)))
)
ARMS = OnlineConfig(
    block=4,
    env_steps=4000,
    guard=GuardConfig(episodes=1),
    agents=tuple(
        OnlineAgent(label=str(i), learner=c, replay=REPLAYS[kind](), switch=SwitchConfig(warmup_env_steps=8))
        for i, (c, kind) in enumerate(((TD3, "append"), (TD3C, "symmetric")))
    ),
)


CLONES = OfflineConfig(learner=OTHERS["bc"], updates_per_step=4, seeds=2)


@pytest.mark.parametrize(
    ("make", "config", "kills"),
    [
        (offline, CLONES, 0),
        pytest.param(offline, FAMILY, 1, marks=pytest.mark.slow),
        pytest.param(online, ARMS, 1, marks=pytest.mark.slow),
    ],
    ids=["cloning", "offline", "online"],
)
def test_the_trainers_meet_the_contract(make, config, kills, tmp_path):
    passed = check_trainer(make, config, folder=tmp_path, steps=3, kills=kills)
    assert "N + N steps equal N, save, restore, N, bit for bit" in passed
    assert any("killed" in line for line in passed) == bool(kills)


def check_resume(trainer, folder):
    """4 steps, save, restore into another state, 2 steps: as 6 steps at once."""

    def advance(state, steps):
        for _ in range(steps):
            state, metrics = trainer.step(state)
        assert all(np.isfinite(value).all() for value in jax.device_get(dict(metrics)).values())
        return state

    state = advance(trainer.init(0), 4)
    trainer.save(state, folder)
    straight = fingerprint(advance(state, 2))
    again = advance(trainer.restore(folder, trainer.init(1)), 2)
    assert fingerprint(again) == straight


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_every_learner_resumes_exactly(name, tmp_path):
    learner = OTHERS[name]
    check_resume(offline(OfflineConfig(learner=learner, updates_per_step=2 * learner.policy_delay)), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("learner", "kind"),
    [(TD3C, "append"), (OTHERS["calql"], "decay"), (TD3C, "balanced")],
    ids=["td3c", "sac", "balanced"],
)
def test_every_online_family_resumes_exactly(learner, kind, tmp_path):
    replay = DecayReplay(decay_steps=10) if kind == "decay" else REPLAYS[kind]()
    config = OnlineConfig(
        learner=learner, replay=replay, block=4, env_steps=400, switch=SwitchConfig(warmup_env_steps=8)
    )
    check_resume(online(config), tmp_path)
