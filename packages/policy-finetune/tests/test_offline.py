"""Learning from datasets: programs of several agents equal their parts, and what is refused."""

import dataclasses

import jax
import numpy as np
import pytest

from paperloop.errors import CheckpointError, NonFiniteError, UserError
from paperloop.loop.runner import restore, run
from policy_finetune.config import (
    CQLConfig,
    DualConstraint,
    NetworkConfig,
    OfflineAgent,
    OfflineConfig,
    SACConfig,
    TD3Config,
)
from policy_finetune.presets import LEARNERS
from policy_finetune.replay.packing import OfflineData
from policy_finetune.trainers.offline import OfflineTrainer

NET = NetworkConfig(hidden=(16,))
TD3 = TD3Config(network=NET, batch_size=8)
TD3BC = TD3Config(network=NET, batch_size=8, q_weight=2.5, bc_weight=1.0)
TD3C = TD3Config(network=NET, batch_size=8, constraint=DualConstraint(nu0=0.3))


@pytest.fixture(scope="module")
def data(make_dataset):
    return OfflineData.pack([make_dataset(0), make_dataset(1, episodes=4)])


@pytest.fixture(scope="module")
def program(data):
    """Three arms on two datasets in one program, after two steps."""
    agents = tuple(OfflineAgent(learner=c, dataset=d, seed=d) for d in range(2) for c in (TD3, TD3BC, TD3C))
    trainer = OfflineTrainer(OfflineConfig(learner=TD3, updates_per_step=4, agents=agents), data)
    state = trainer.init(0)
    for _ in range(2):
        state, metrics = trainer.step(state)
    return trainer, state, metrics


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), a, b)


@pytest.mark.slow
def test_arms_of_one_program_equal_programs_of_their_own(data, program):
    _, together, metrics = program
    for index, agent in ((0, 0), (1, 1), (5, 5)):
        config = OfflineConfig(updates_per_step=4, agents=(program[0].members[agent],))
        trainer = OfflineTrainer(config, data)
        state = trainer.init(0)
        for _ in range(2):
            state, alone = trainer.step(state)
        for name in ("actor", "critic"):
            close(
                *(jax.tree.map(lambda x, i=i: x[i], s.learner.params[name]) for s, i in ((together, index), (state, 0)))
            )
        for name in ("loss", "q", "actor_loss", "q_over_bound"):
            np.testing.assert_allclose(metrics[name][index], alone[name][0], rtol=1e-4)
    assert set(metrics) >= {"critic_loss", "actor_loss", "distance", "lambda", "parameter_norm", "bc_distance"}
    assert metrics["lambda"][0] == metrics["distance_over_epsilon"][0] == 0  # no constraint for this one


@pytest.mark.slow
def test_side_by_side_equals_one_after_another(data, program):
    trainer = OfflineTrainer(program[0].config, data, together=6)
    state = trainer.init(0)
    for _ in range(2):
        state, _ = trainer.step(state)
    close(state.learner, program[1].learner)


def test_equal_seeds_start_equal_and_meet_equal_batches(program):
    trainer, _, _ = program
    state = trainer.init(3)
    first, second, other = (jax.tree.map(lambda x, i=i: x[i], state.learner.params["actor"]) for i in (0, 1, 3))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert not np.array_equal(first["mean"]["w"], other["mean"]["w"])
    keys = jax.random.key_data(state.key)
    np.testing.assert_array_equal(keys[0], keys[2])
    np.testing.assert_allclose(state.learner.params["nu"][2], 0.3)


def test_the_policy_is_the_actor_with_its_own_normaliser_and_outlives_the_state(data, program):
    trainer = program[0]
    state = trainer.init(0)
    policy, obs = trainer.canonical_policy(state), np.ones((6, 4, 3), np.float32)
    before = policy(obs)
    for i in (0, 3):
        actor = jax.tree.map(lambda x, i=i: np.asarray(x[i]), state.learner.params["actor"])
        x = (obs[i] - data.mean[i // 3]) / data.std[i // 3]
        x = np.maximum(x @ actor["hidden"][0]["w"] + actor["hidden"][0]["b"], 0)
        np.testing.assert_allclose(
            before[i], np.tanh(x @ actor["mean"]["w"] + actor["mean"]["b"]), rtol=1e-4, atol=1e-6
        )
    trainer.step(state)  # consumes it, weights included
    np.testing.assert_array_equal(policy(obs), before)
    assert trainer.progress(trainer.init(0)) == {"updates": 0}


def test_one_compilation_and_nothing_else_moves(program):
    trainer = program[0]
    state = trainer.init(0)
    with jax.transfer_guard_device_to_host("disallow"), jax.log_compiles(False):
        for _ in range(3):
            state, _ = trainer.step(state)
    assert trainer._step._cache_size() == 1


def test_agents_that_do_not_fit_together_are_refused(data):
    def train(*agents, **changes):
        return OfflineTrainer(OfflineConfig(agents=agents, updates_per_step=4, **changes), data)

    wide = TD3Config(network=NetworkConfig(hidden=(32,)), batch_size=8)
    with pytest.raises(UserError, match=r"Agents of one program differ in learner\.network"):
        train(OfflineAgent(learner=TD3), OfflineAgent(learner=wide))
    with pytest.raises(UserError, match=r"Dataset 1 has 10 transitions to learn from, fewer than a batch of 16"):
        train(OfflineAgent(learner=TD3Config(network=NET, batch_size=16), dataset=1, top_fraction=0.2))
    with pytest.raises(UserError, match="learns from dataset 2, but there are 2"):
        train(OfflineAgent(learner=TD3, dataset=2))


def test_calibrated_agents_share_the_discount_of_the_returns(data):
    calql = SACConfig(network=NET, batch_size=8, cql=CQLConfig(weight=5.0, calibrated=True))
    agents = tuple(OfflineAgent(learner=dataclasses.replace(calql, discount=d)) for d in (0.99, 0.9))
    with pytest.raises(UserError, match=r"discount is 0.9, but the returns to go .* were packed with 0.99"):
        OfflineTrainer(OfflineConfig(updates_per_step=4, agents=agents), data)
    plain = tuple(OfflineAgent(learner=dataclasses.replace(TD3, discount=d)) for d in (0.99, 0.9))
    OfflineTrainer(OfflineConfig(updates_per_step=4, agents=plain), data)


def test_what_changes_a_curve_may_not_change_when_a_run_goes_on():
    assert set(OfflineTrainer.resume_ignores) == {"updates", "devices", "data"}


def test_a_checkpoint_of_another_dataset_is_refused(data, program, make_dataset, tmp_path):
    trainer, state, _ = program
    trainer.save(state, tmp_path)
    other = OfflineTrainer(trainer.config, OfflineData.pack([make_dataset(5), make_dataset(6, episodes=4)]))
    with pytest.raises(UserError, match="was written with another dataset"):
        other.restore(tmp_path, other.init(0))
    fewer = OfflineTrainer(OfflineConfig(learner=TD3C, updates_per_step=4), data)
    with pytest.raises(CheckpointError, match="has shape"):
        fewer.restore(tmp_path, fewer.init(0))


def test_a_state_is_saved_into_a_folder_that_is_not_there_yet(program, tmp_path):
    trainer, state, _ = program
    folder = tmp_path / "of" / "mine"
    trainer.save(state, str(folder))
    read = trainer.restore(str(folder), trainer.init(1))
    jax.tree.map(np.testing.assert_array_equal, read.learner.params, state.learner.params)
    with pytest.raises(UserError, match="holds a saved state already"):
        trainer.save(state, folder)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="cannot be made"):
        trainer.save(state, tmp_path / "file" / "below")


@pytest.mark.slow
def test_numbers_out_of_hand_stop_the_run_and_keep_the_last_good_checkpoint(data, tmp_path):
    # The learning rate is data: the first steps are taken at 0, then one at 1e30.
    learner = TD3Config(network=NET, batch_size=8, critic_lr=0.0)
    trainer = OfflineTrainer(OfflineConfig(learner=learner, updates_per_step=2), data)
    step, done = trainer.step, []

    def spoiled(state):
        done.append(1)
        if len(done) == 5:
            trainer._own["weights"]["critic_lr"] = trainer._own["weights"]["critic_lr"] + 1e30
        return step(state)

    trainer.step = spoiled
    with pytest.raises(
        NonFiniteError, match=r"parameter_norm.* not finite at step 5; the last checkpoint is at step 4"
    ):
        run(trainer, tmp_path / "run", steps=8, log_every=1, save_every=2, progress=False)
    state = restore(trainer, tmp_path / "run")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.learner))
    assert trainer.progress(state) == {"updates": 8}


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("td3", "sac")]


@pytest.mark.parametrize("name", ["iql", "bc", *SLOW])
def test_values_may_begin_at_the_mean_return_to_go(data, name):
    """Critics, targets and value are raised by one number each dataset has; nothing else differs."""
    network = dataclasses.replace(LEARNERS[name].network, hidden=(16,))
    learner = dataclasses.replace(LEARNERS[name], network=network, batch_size=8)
    starts = {
        kind: OfflineTrainer(OfflineConfig(learner=learner, updates_per_step=4, initial_value=kind), data).init(0)
        for kind in ("zero", "mean")
    }
    zero, mean = (starts[kind].learner for kind in ("zero", "mean"))
    wanted = [
        np.asarray(data.rows[o : o + n, -1], np.float64).mean() for o, n in zip(data.offset, data.size, strict=True)
    ]
    assert abs(wanted[0] - wanted[1]) > 1e-3  # each dataset has its own
    for before, after in ((zero.params, mean.params), (zero.target, mean.target)):
        for part in before:
            flat = zip(jax.tree.leaves_with_path(before[part]), jax.tree.leaves(after[part]), strict=True)
            moved = {jax.tree_util.keystr(path): np.asarray(b - a) for (path, a), b in flat}
            last = {key: by for key, by in moved.items() if part in ("critic", "value") and key.endswith("[1]['b']")}
            assert len(last) == (part in ("critic", "value"))
            for key, by in moved.items():
                if key not in last:
                    assert not by.any(), (part, key)
            for by in last.values():
                for dataset, value in enumerate(wanted):
                    np.testing.assert_allclose(by[dataset], value, rtol=1e-5)
