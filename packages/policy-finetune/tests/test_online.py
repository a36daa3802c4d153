"""Learning online: what is stored, when updates happen, who meets which noise, and exact equality of arms."""

import dataclasses
import sys

import gymnasium
import jax
import numpy as np
import pytest

from paperloop.conformance import fingerprint
from paperloop.errors import UserError
from policy_finetune.config import (
    AppendReplay,
    Best,
    DataOptions,
    DropReplay,
    DualConstraint,
    GuardConfig,
    NetworkConfig,
    OfflineConfig,
    OnlineAgent,
    OnlineConfig,
    SwitchConfig,
    SymmetricReplay,
    TD3Config,
)
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.replay.packing import OfflineData
from policy_finetune.trainers.offline import OfflineTrainer
from policy_finetune.trainers.online import OnlineTrainer
from policy_finetune.trainers.pretrained import Pretrained

NET = NetworkConfig(hidden=(16,))
TD3 = TD3Config(network=NET, batch_size=8)
TD3C = TD3Config(network=NET, batch_size=8, constraint=DualConstraint(reference=Best()))
SWITCH = SwitchConfig(warmup_env_steps=10)


class Corridor(gymnasium.Env):
    """Observes [step, last action, episode's start]; ends itself after three steps in every second episode."""

    episodes = 0

    def __init__(self):
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,))
        self.action_space = gymnasium.spaces.Box(-2, 2, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.start = 0, self.np_random.uniform()
        return np.array([0, 0, self.start], np.float32), {}

    def step(self, action):
        self.steps += 1
        ended = self.steps == 3 and self.start > 0.5
        return np.array([self.steps, action[0], self.start], np.float32), float(action[0]), ended, False, {}


@pytest.fixture(scope="module")
def spec():
    gymnasium.register("PfCorridor-v0", entry_point=Corridor, max_episode_steps=4)
    yield EnvSpec.of("PfCorridor-v0")
    del gymnasium.registry["PfCorridor-v0"]


@pytest.fixture(scope="module")
def start(make_dataset):
    """Two pre-trained agents, and their dataset."""
    data = make_dataset(0)
    trainer = OfflineTrainer(
        OfflineConfig(learner=TD3, updates_per_step=4, seeds=2, reward_scale=3.0, reward_bias=0.5), data
    )
    state, _ = trainer.step(trainer.init(0))
    return Pretrained.of(trainer, state), data


def advance(trainer, steps, seed=0, state=None):
    state = trainer.init(seed) if state is None else state
    history = []
    for _ in range(steps):
        state, metrics = trainer.step(state)
        history.append({name: np.asarray(value) for name, value in metrics.items()})
    return state, history


ARMS = (
    OnlineAgent(label="td3", learner=TD3, replay=AppendReplay(), switch=SWITCH, start=0, seed=0),
    OnlineAgent(label="td3c", learner=TD3C, replay=SymmetricReplay(rho=0.25), switch=SWITCH, start=0, seed=0),
    OnlineAgent(label="td3", learner=TD3, replay=DropReplay(), switch=SWITCH, start=1, seed=0),
    OnlineAgent(label="td3", learner=TD3, replay=AppendReplay(), switch=SWITCH, start=0, seed=1),
)


def build(spec, start, agents=ARMS, **changes):
    given = {"block": 5, "utd": 0.8, "env_steps": 100, "exploration_noise": 0.8, "agents": agents}
    config = OnlineConfig(**given | {k: v for k, v in changes.items() if k != "together"})
    return OnlineTrainer(config, spec, start=start[0], data=start[1], together=changes.get("together"))


@pytest.fixture(scope="module")
def program(spec, start):
    trainer = build(spec, start)
    state, history = advance(trainer, 6)
    return trainer, state, history


def test_the_policy_is_frozen_until_the_warm_up_is_over(spec, start, program):
    trainer, _, history = program
    assert [float(row["learning"][0]) for row in history] == [0, 0, 1, 1, 1, 1]
    state, rows = advance(trainer, 2)
    old = jax.tree.map(lambda x: x[np.array([0, 0, 1, 0])], start[0].learner.params["actor"])
    jax.tree.map(np.testing.assert_array_equal, state.device.learner.params["actor"], old)
    assert trainer.progress(state) == {"env_steps": 10, "updates": 0}
    state, _ = advance(trainer, 1, state=state)
    assert trainer.progress(state) == {"env_steps": 15, "updates": 4}
    assert {k: v.shape for k, v in rows[0].items()} == {k: v.shape for k, v in history[-1].items()}
    assert all((row["loss"] == 0).all() and (row["offline_share"] == 0).all() for row in rows)


def test_what_is_stored_is_what_happened(spec, start, program):
    trainer, state, _ = program
    batch = trainer.layout.split(np.asarray(state.device.replay.rows))
    mean, std = start[0].mean[0], start[0].std[0]
    obs, following = batch.obs[:, :30] * std + mean, batch.next_obs[:, :30] * std + mean
    action = batch.action[:, :30, 0]
    assert (np.abs(action) == 1).any()  # noise this large is clipped, and the clipped action is stored ...
    np.testing.assert_allclose(following[..., 1], 2 * action, atol=1e-4)  # ... the one that the environment was given
    np.testing.assert_allclose(batch.reward[:, :30], (2 * action) * 3.0 + 0.5, atol=1e-4)  # scaled as in pre-training
    np.testing.assert_allclose(following[..., 0], obs[..., 0] + 1, atol=1e-4)  # never the next episode's first one
    np.testing.assert_allclose(following[..., 2], obs[..., 2], atol=1e-4)
    ended = (np.round(following[..., 0]) == 3) & (obs[..., 2] > 0.5)
    np.testing.assert_array_equal(batch.mask[:, :30] == 0, ended)  # a time limit (after four steps) is not an end
    assert ended.any()
    assert (np.round(following[..., 0]) == 4).any()
    assert np.isneginf(batch.to_go[:, :30]).all()
    assert not np.asarray(state.device.replay.rows)[:, 30:].any()


def test_arms_with_one_start_and_seed_meet_the_same_world(program):
    trainer, state, _ = program
    batch = trainer.layout.split(np.asarray(state.device.replay.rows))
    # Until updates begin the arms are the same agent: everything is equal. Other seeds and starts differ.
    np.testing.assert_array_equal(batch.obs[0, :10], batch.obs[1, :10])
    np.testing.assert_array_equal(batch.action[0, :10], batch.action[1, :10])
    assert not np.array_equal(batch.obs[0, :10], batch.obs[3, :10])
    assert not np.array_equal(batch.action[0, :10], batch.action[2, :10])
    assert not np.array_equal(batch.action[0, 15:30], batch.action[1, 15:30])


def same(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), a, b)


@pytest.mark.slow
def test_an_arm_in_a_program_equals_the_arm_alone(spec, start, program):
    _, together, history = program
    for index in (0, 1):
        state, alone = advance(build(spec, start, (ARMS[index],)), 6)
        for name in ("actor", "critic"):
            mine = jax.tree.map(lambda x, i=index: x[i : i + 1], together.device.learner.params[name])
            same(mine, state.device.learner.params[name])
        same(together.device.replay.rows[index : index + 1], state.device.replay.rows)
        np.testing.assert_allclose(history[-1]["loss"][index], alone[-1]["loss"][0], rtol=1e-4)
    assert history[-1]["offline_share"][1] == 0.25
    assert history[-1]["offline_share"][2] == 0.0


@pytest.mark.slow
def test_side_by_side_equals_one_after_another(spec, start, program):
    state, _ = advance(build(spec, start, together=4), 6)
    same(state.device.learner, program[1].device.learner)
    same(state.device.replay.rows, program[1].device.replay.rows)


def test_one_compilation_without_copies_to_the_host_or_unused_donations(spec, start, program, recwarn):
    trainer = program[0]
    state, _ = advance(trainer, 5)
    assert trainer._program.update._cache_size() == 1
    assert trainer._program.collect._cache_size() == 1
    assert not [w for w in recwarn if "donated" in str(w.message)]
    fetched = []
    original = jax.device_get
    try:
        jax.device_get = lambda tree: fetched.append(sum(x.size for x in jax.tree.leaves(tree))) or original(tree)
        trainer.step(state)
    finally:
        jax.device_get = original
    actor = state.device.learner.params["actor"]
    assert fetched == [sum(np.prod(x.shape) for x in jax.tree.leaves(actor))]


def test_random_steps_first(spec):
    config = OnlineConfig(
        learner=TD3, block=50, env_steps=500, random_env_steps=200, switch=SwitchConfig(warmup_env_steps=0), seeds=2
    )
    trainer = OnlineTrainer(config, spec)
    state, history = advance(trainer, 4)
    action = trainer.layout.split(np.asarray(state.device.replay.rows)).action[:, :200, 0]
    assert [float(row["learning"][0]) for row in history] == [0, 0, 0, 0]
    np.testing.assert_allclose(np.sort(action.reshape(-1)), np.linspace(-1, 1, 400), atol=0.12)
    assert not np.array_equal(action[0], action[1])


@pytest.mark.slow
def test_the_guard_starts_where_the_policy_does(spec):
    guard = GuardConfig(episodes=2)
    config = OnlineConfig(
        learner=TD3, block=50, env_steps=500, random_env_steps=200, switch=SwitchConfig(warmup_env_steps=0), guard=guard
    )
    trainer = OnlineTrainer(config, spec)
    state, _ = advance(trainer, 4)
    assert state.guard.episodes[0] >= 50
    assert state.guard.start_count[0] == 0  # their actions were uniform
    state, _ = advance(trainer, 1, state=state)
    assert state.guard.start_count[0] == 2


def test_an_environment_that_crashes_leaves_a_state_that_can_be_saved(spec, start, monkeypatch):
    trainer = build(spec, start)
    state, _ = advance(trainer, 3)
    expected, _ = advance(trainer, 1, state=trainer.init(0))
    expected, _ = advance(trainer, 3, state=expected)
    module = sys.modules["policy_finetune.envs.pool"]
    step_env, calls = module.step_env, []

    def crash(env, command):
        calls.append(env)
        if len(calls) == 11:  # of four agents: in the third step of the block
            raise UserError("the simulator died.")
        return step_env(env, command)

    monkeypatch.setattr(module, "step_env", crash)
    with pytest.raises(UserError, match="the simulator died") as caught:
        trainer.step(state)
    monkeypatch.setattr(module, "step_env", step_env)
    after, _ = trainer.step(caught.value.intact_state)
    assert fingerprint(after) == fingerprint(expected)


@pytest.mark.slow
def test_the_guard_brings_the_policy_home(spec, start):
    guard = GuardConfig(episodes=2, drop=0.5, nu_boost=2.0)
    trainer = build(spec, start, ARMS[:2], guard=guard)
    state, _ = advance(trainer, 4)
    home = jax.device_get(state.device.home)
    orders = {"remember": [False, False], "go_home": [False, True], "best": [False, True]}
    orders = {name: np.array(value) for name, value in orders.items()}
    before = jax.device_get(state.device.learner)
    after = trainer._program.adjust(state.device, orders).learner
    pick = lambda tree, i: jax.tree.map(lambda x: np.asarray(x)[i], tree)  # noqa: E731
    jax.tree.map(np.testing.assert_array_equal, pick(after.params["actor"], 0), pick(before.params["actor"], 0))
    for tree in (after.params["actor"], after.target["actor"], after.reference):
        jax.tree.map(np.testing.assert_array_equal, pick(tree, 1), pick(home, 1))
    np.testing.assert_allclose(np.asarray(after.params["nu"]) - before.params["nu"], [0, 2], atol=1e-6)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(pick(after.opt["actor"], 1)))
    jax.tree.map(np.testing.assert_array_equal, after.params["critic"], before.params["critic"])


def test_two_states_of_one_trainer_do_not_disturb_each_other(program):
    trainer = program[0]
    one, other = trainer.init(0), trainer.init(7)
    other, _ = advance(trainer, 2, state=other)
    one, _ = advance(trainer, 6, state=one)
    same(one.device.learner, program[1].device.learner)


@pytest.mark.slow
def test_a_longer_run_goes_on_where_a_shorter_one_ended(spec, start, tmp_path):
    short, longer = (build(spec, start, ARMS[:2], env_steps=n) for n in (20, 100))
    state, _ = advance(short, 4)
    short.save(state, str(tmp_path / "of" / "mine"))
    state = longer.restore(str(tmp_path / "of" / "mine"), longer.init(1))
    assert state.device.replay.rows.shape[1] == 100
    went_on, _ = advance(longer, 2, state=state)
    straight, _ = advance(longer, 6)
    jax.tree.map(np.testing.assert_array_equal, went_on.device.learner, straight.device.learner)


@pytest.mark.slow
def test_from_scratch_online_data_is_treated_as_the_packed_data_was(spec, make_dataset):
    data = OfflineData.pack([make_dataset(0)], reward_scale=2.0)
    trainer = OnlineTrainer(
        OnlineConfig(learner=TD3, block=10, switch=SwitchConfig(warmup_env_steps=0)), spec, data=data
    )
    np.testing.assert_array_equal(trainer.units.mean, data.mean)
    state, _ = advance(trainer, 1)
    batch = trainer.layout.split(np.asarray(state.device.replay.rows[0, :10]))
    np.testing.assert_allclose(batch.reward, 2 * (2 * batch.action[:, 0]), atol=1e-4)
    np.testing.assert_allclose((batch.obs * data.std + data.mean)[0, :2], [0, 0], atol=1e-5)


def test_networks_of_another_shape_are_refused_before_anything_runs(spec, start):
    wide = TD3Config(network=NetworkConfig(hidden=(8,), critics=3), batch_size=8)
    agent = OnlineAgent(learner=wide, switch=SWITCH)
    with pytest.raises(UserError, match=r"layers of 16, the online learner of 8: give learner.network.hidden=\(16,\)"):
        build(spec, start, (agent,))
    allowed = dataclasses.replace(agent, switch=dataclasses.replace(SWITCH, allow_new=True))
    trainer = build(spec, start, (allowed, dataclasses.replace(allowed, seed=1)))
    assert trainer.start_notes == [
        "the pre-trained actor starts from scratch: its hidden layers are of 16, not 8",
        "the pre-trained critic starts from scratch: it has hidden layers of 16, not hidden layers of 8; an ensemble "
        "of 2, not an ensemble of 3",
    ]
    assert build(spec, start, ARMS[:1]).start_notes == []


def test_offline_data_is_read_as_for_the_pre_trained_agents(spec, make_dataset):
    data = make_dataset(0).replace(final_observations=None)
    config = OfflineConfig(learner=TD3, updates_per_step=4, loading=DataOptions(semantics="d4rl", time_limits=False))
    before = OfflineTrainer(config, data)
    start = Pretrained.of(before, before.init(0))
    trainer = build(spec, (start, data), ARMS[:1])
    np.testing.assert_array_equal(trainer.replay.size, before.data.size)
    assert before.data.size[0] < 60
    state = trainer.init(0)
    assert trainer.pretrained(state).loading == config.loading
    with pytest.raises(UserError, match="no next observations are stored"):
        build(spec, (start, data), ARMS[:1], loading=DataOptions(semantics="exact"))
    assert set(OnlineTrainer.resume_ignores) == {"env_steps", "devices", "eval_env_steps", "data"}


def test_what_does_not_fit_is_refused(spec, start, make_dataset):
    with pytest.raises(UserError, match=r"the same switch\.warmup_env_steps"):
        build(spec, start, (ARMS[0], dataclasses.replace(ARMS[1], switch=SwitchConfig(warmup_env_steps=20))))
    with pytest.raises(UserError, match="starts from pre-trained agent 2, but there are 2"):
        build(spec, start, (dataclasses.replace(ARMS[0], start=2),))
    with pytest.raises(UserError, match="observe 3 numbers, InvertedDoublePendulum-v5 gives 9"):
        build(EnvSpec.of("InvertedDoublePendulum-v5"), start)
    with pytest.raises(UserError, match=r"actions of 2 numbers, PfCorridor-v0 3 and 1"):
        build(spec, (start[0], make_dataset(0, act=2)))
    with pytest.raises(UserError, match="observations standardised or its rewards scaled otherwise"):
        build(spec, (start[0], OfflineData.pack([make_dataset(4)])))
    same_normaliser = OfflineData.pack([start[1]], mean=start[0].mean[:1], std=start[0].std[:1])
    with pytest.raises(UserError, match="rewards scaled otherwise"):
        build(spec, (start[0], same_normaliser))
    with pytest.raises(UserError, match="learned from 1 datasets and 0 are given"):
        build(spec, (start[0], []))
    wide = TD3Config(network=NetworkConfig(hidden=(8,)), batch_size=8)
    with pytest.raises(UserError, match=r"differ in learner\.network"):
        build(spec, start, (ARMS[0], dataclasses.replace(ARMS[1], learner=wide)))
