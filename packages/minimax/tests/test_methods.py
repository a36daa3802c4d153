"""Every method on the one cycle: what it learns from, what it keeps, and that it resumes bit for bit."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimax_ued.config import (
    BufferConfig,
    EditorConfig,
    LSTMConfig,
    MazeConfig,
    MutationConfig,
    OwnConfig,
    PPOConfig,
    ReplayConfig,
    StudentConfig,
    TeacherConfig,
    TrainConfig,
)
from minimax_ued.curricula.choice import new_levels
from minimax_ued.curricula.edits import choose_parents
from minimax_ued.methods import METHODS
from minimax_ued.teachers.capabilities import check_capabilities, make_teaching
from minimax_ued.trainer import UEDTrainer
from paperloop.errors import UserError

BUFFER = BufferConfig(capacity=16, min_fill=0.3, replay_prob=0.6)
TEACHER = TeacherConfig(
    core=LSTMConfig(features=4),
    conv_filters=2,
    head_width=4,
    ppo=PPOConfig(epochs=1),
    editor=EditorConfig(n_walls=3, noise_dim=2),
)
TINY = TrainConfig(
    env=MazeConfig(height=4, width=4, n_walls=2, max_steps=6),
    student=StudentConfig(core=LSTMConfig(features=4), head_width=4, conv_filters=2),
    ppo=PPOConfig(lr=1e-2, epochs=1),
    n_envs=4,
    rollout_steps=12,
    levels_ahead=2,
    cycles_per_step=1,
)


def tiny(name):
    """The method of the literature with few of everything."""
    method, changes = METHODS[name].settings, {}
    if method.buffer is not None:
        prob = "parallel" if method.parallel else BUFFER.replay_prob
        changes["buffer"] = dataclasses.replace(BUFFER, replay_prob=prob)
    if method.mutation is not None:
        changes["mutation"] = MutationConfig(n_edits=3)
    if method.teacher is not None:
        changes["teacher"] = TEACHER
    if name == "sfl":
        changes = {"capacity": 6, "candidates": 12, "batch": 6, "steps": 12, "refresh_every": 3}
    if name == "ncc":
        changes = {"capacity": 8, "batch": 4, "refresh_every": 2}
    return dataclasses.replace(TINY, method=dataclasses.replace(method, **changes))


STEPS = 7


def leaves(tree):
    def data(x):
        return jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x

    return [np.asarray(data(x)) for x in jax.tree.leaves(tree)]


def same(a, b):
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(leaves(a), leaves(b), strict=True))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Method -> trainer, host copies of the states after 0, 1, ..., STEPS cycles, their metrics; made once each."""
    made = {}

    def run(method):
        if method not in made:
            trainer = UEDTrainer(tiny(method))
            folder = tmp_path_factory.mktemp(method)
            state = trainer.init(3)
            states, metrics = [jax.device_get(state)], []
            for i in range(STEPS):
                state, found = trainer.step(state)
                states.append(jax.device_get(state))
                metrics.append(jax.device_get(found))
                if i == STEPS // 2:
                    trainer.save(state, folder)
            made[method] = trainer, states, metrics, folder
        return made[method]

    return run


@pytest.mark.slow  # each compiles a cycle of its own, in 5 to 20 seconds; test_trainer.py has one that is always run
@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_learns_counts_its_steps_and_resumes_bit_for_bit(runs, method):
    trainer, states, metrics, folder = runs(method)
    spec, config = trainer.config.method, trainer.config
    assert spec.name == method
    assert all(np.isfinite(v).all() and v.shape == (1,) for m in metrics for v in m.values())
    assert len({frozenset(m) for m in metrics}) == 1

    # Students change exactly in the cycles that say so, all of them, and there are such cycles.
    for before, after, found in zip(states, states[1:], metrics, strict=False):
        learned = bool(found["learn"][0])
        for student in range(config.n_students):
            a, b = (trainer.student_params(s, student) for s in (before, after))
            assert same(a, b) is not learned
        if spec.alternates:
            source = "replay" if found["replay"][0] else "fresh"
            assert learned == (source in spec.gradient)
        if spec.teacher is not None:
            replayed = bool(found["replay"][0]) if spec.alternates else False
            assert same(before.teacher, after.teacher) is replayed
    assert trainer.progress(states[-1])["updates"] >= 2

    progress = trainer.progress(states[-1])
    explored = sum(int(m["replay"][0]) for m in metrics) if spec.explores else 0
    refreshes = -(-STEPS // spec.refresh_every) if spec.refresh_every else 0
    rollouts = STEPS * spec.parts * config.n_students + explored
    assert progress["cycles"] == STEPS
    assert progress["env_steps"] == rollouts * 48 + refreshes * config.steps_per_refresh

    resumed = trainer.restore(folder, trainer.init(9))
    for _ in range(STEPS - STEPS // 2 - 1):
        resumed, _ = trainer.step(resumed)
    assert same(resumed, states[-1])


@pytest.mark.slow
def test_parallel_methods_learn_once_the_buffer_is_warm(runs):
    for method in ("parallel_plr", "parallel_accel"):
        _, states, metrics, _ = runs(method)
        warm = [bool(m["replay"][0]) for m in metrics]
        assert warm[0] is False
        assert warm == sorted(warm)  # once warm, always warm
        assert warm[-1]
        assert [bool(m["learn"][0]) for m in metrics] == warm
        filled = [int(s.buffer.filled.sum()) for s in states]
        assert filled == sorted(filled)


@pytest.mark.slow
def test_mutations_carry_their_lineage(runs):
    for method in ("accel", "parallel_accel"):
        _, states, _, _ = runs(method)
        buffer = states[-1].buffer
        generations = buffer.n_mutations[buffer.filled]
        assert generations.max() >= 1
        assert (generations >= 0).all()
    _, states, _, _ = runs("parallel_plr")
    assert not states[-1].buffer.n_mutations.any()


@pytest.mark.slow
def test_a_teacher_is_rewarded_by_its_objective(runs):
    _, _, metrics, _ = runs("paired")
    assert all(m["teacher/reward"] >= 0 for m in metrics)  # regret
    assert all("student1/return" in m for m in metrics)
    _, _, metrics, _ = runs("minimax")
    for found in metrics:
        assert found["teacher/reward"] <= 0
    _, _, metrics, _ = runs("population_paired")
    assert "student2/return" in metrics[0]


@pytest.mark.slow
def test_students_of_one_teacher_start_apart_and_meet_the_same_levels(runs):
    trainer, states, metrics, _ = runs("paired")
    assert not same(trainer.student_params(states[0], 0), trainer.student_params(states[0], 1))
    for found in metrics:
        for name in ("n_walls", "path_length"):
            assert found[f"level/{name}"] == found[f"student1/level/{name}"]
    with pytest.raises(UserError, match="students 0 to 1"):
        trainer.student_params(states[0], 2)


@pytest.mark.slow
def test_repaired_students_replay_from_buffers_of_their_own(runs):
    _, states, metrics, _ = runs("repaired")
    assert {bool(m["replay"][0]) for m in metrics} == {True, False}
    scores = states[-1].buffer.scores[0]
    assert scores.shape == (2, 16)
    both = np.isfinite(scores).all(0)
    assert both.any()
    assert (scores[0] != scores[1])[both].any()


@pytest.mark.slow
def test_curators_are_refreshed_when_due(runs):
    for method, every in (("sfl", 3), ("ncc", 2)):
        _, states, _, _ = runs(method)
        changed = [not same(a.buffer, b.buffer) for a, b in itertools.pairwise(states)]
        assert changed == [i % every == 0 for i in range(STEPS)]


def test_easy_and_hard_parents():
    choice = new_levels(jnp.arange(4)).replace(slots=jnp.arange(4))
    ease = jnp.array([0.1, 0.9, 0.5, 0.2])
    for parents, slots in (("easy", [1, 1, 2, 2]), ("hard", [0, 0, 3, 3]), ("batch", [0, 1, 2, 3])):
        chosen = choose_parents(MutationConfig(parents=parents, n_parents=2), choice, ease, 4)
        np.testing.assert_array_equal(chosen.slots, slots)


def test_an_environment_of_the_users_own_is_named_so():
    config = dataclasses.replace(TINY, env=OwnConfig())
    with pytest.raises(UserError, match="give it to UEDTrainer"):
        UEDTrainer(config)
    assert UEDTrainer(config, env=UEDTrainer(TINY).env).env.max_steps == 6


def test_an_environment_that_lacks_what_the_method_takes_is_refused():
    class Bare:
        num_actions, max_steps = 3, 6
        sample_level = prepare = reset = step = observe = level_hash = level_metrics = None

    def scored(score):
        return dataclasses.replace(TINY, method=ReplayConfig(buffer=dataclasses.replace(BUFFER, score=score)))

    with pytest.raises(UserError, match="Bare is not an environment to train on, because it has no same_level"):
        check_capabilities(TINY, Bare())
    Bare.same_level = None

    for method, words in (("accel", "it must be a mutation of Bare: none"), ("paired", "no `editor`")):
        with pytest.raises(UserError, match=words):
            check_capabilities(tiny(method), Bare())
    with pytest.raises(UserError, match="does not know"):
        check_capabilities(scored("true_regret"), Bare())
    Bare.max_steps = 7
    with pytest.raises(UserError, match=r"rollout_steps is 12.*at least 14"):
        check_capabilities(scored("learnability"), Bare())
    Bare.max_steps = 600
    with pytest.raises(UserError, match="rollout_steps is 12; it must be at least 600"):
        check_capabilities(TINY, Bare())


@pytest.mark.slow
def test_chunks_are_the_same_experience_cut_up():
    """With one gradient step from the weights that acted, cutting changes nothing but gradients across the cuts."""
    from minimax_ued.learning.ppo import Batch
    from minimax_ued.learning.rollout import rollout

    trainer = UEDTrainer(TINY)
    cycle = trainer._cycle
    params = jax.tree.map(lambda x: x[0, 0], trainer.init(0).params)
    noisy = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(jax.random.key(5), x.shape), params)
    auto = cycle.playing.auto
    levels = auto.sample_levels(jax.random.key(1), 4)

    @jax.jit
    def batches(params):
        found = []
        for chunks in (1, 3):
            trajectory = rollout(auto, trainer.student, params, jax.random.key(2), levels, steps=12, chunks=chunks)
            batch = Batch.from_trajectory(trajectory, trajectory.values, trajectory.rewards)
            _, output = trainer.student.apply(params, batch.initial_carry, batch.observations, batch.resets)
            found.append((batch, output.value))
        return found

    (whole, values), (cut, cut_values) = batches(noisy)
    assert cut.actions.shape == (4, 12)
    np.testing.assert_allclose(values, whole.values, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(cut_values, cut.values, rtol=1e-4, atol=1e-5)  # stored memories are those that acted
    for env, chunk in itertools.product(range(4), range(3)):
        np.testing.assert_array_equal(cut.actions[:, env * 3 + chunk], whole.actions[chunk * 4 : chunk * 4 + 4, env])
    assert any(np.any(x) for x in jax.tree.leaves(cut.initial_carry))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["repaired", "accel"])
def test_of_several_seeds_only_those_that_want_a_part_take_it(method):
    """Seeds that replay and seeds that do not meet in one cycle."""
    seeds = 3
    buffer = dataclasses.replace(BUFFER, replay_prob=0.5, min_fill=0.1)
    config = tiny(method)
    config = dataclasses.replace(config, method=dataclasses.replace(config.method, buffer=buffer), seeds=seeds)
    trainer = UEDTrainer(config)
    state, mixed = trainer.init(1), 0
    for _ in range(6):
        before = jax.device_get(state)
        state, metrics = trainer.step(state)
        replay = np.asarray(metrics["replay"]).astype(bool)
        mixed += 0 < replay.sum() < seeds
        for i in range(seeds):
            old, new = (jax.tree.map(lambda x: x[i], s) for s in (before, jax.device_get(state)))  # noqa: B023
            assert same((old.params, old.opt_state), (new.params, new.opt_state)) is not bool(replay[i])
            if method == "repaired":
                assert same(old.teacher, new.teacher) is bool(replay[i])
                assert new.rollouts - old.rollouts == 2
            else:
                assert new.rollouts - old.rollouts == 1 + replay[i]
    assert mixed > 0


@pytest.mark.slow
def test_a_teacher_learns_to_build_the_level_that_was_rewarded():
    """Whose reward it is matters: after the update the rewarded level's actions alone have become more likely."""
    from minimax_ued.envs.maze import Maze
    from minimax_ued.learning.rollout import log_prob

    ppo = PPOConfig(lr=1e-2, epochs=3, entropy_coef=0.0, clip=10.0, gae_lambda=1.0, gamma=1.0)
    teaching = make_teaching(dataclasses.replace(TEACHER, ppo=ppo), Maze(TINY.env))
    teacher = teaching.init(jax.random.key(0))
    n = 6

    @jax.jit
    def gains(rewarded):
        _, record = teaching.build(teacher.params, jax.random.key(1), n)
        rewards = (jnp.arange(n) == rewarded).astype(jnp.float32)
        learned, _ = teaching.learn(teacher, record, rewards, jax.random.key(2), ppo.lr)
        first = jnp.zeros(record.actions.shape, bool).at[0].set(True)
        carry = teaching.network.initial_carry(n)
        _, output = teaching.network.apply(learned.params, carry, record.observations, first)
        return (log_prob(output.logits, record.actions) - record.log_probs).mean(0)

    for rewarded in (1, 4):
        gain = np.asarray(gains(rewarded))
        assert gain.argmax() == rewarded
        assert gain[rewarded] > 0
