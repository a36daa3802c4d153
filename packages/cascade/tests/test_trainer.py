"""The trainer: its contract, frozen policies, rewards that cannot leak, gradients of the cascade, tasks."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cascade_explore.config import (
    Actor,
    Cascade,
    FourRooms,
    Gym,
    InfoGain,
    LogDet,
    NearestNeighbours,
    Plan2Explore,
    TrainConfig,
    Variance,
    WorldModel,
)
from cascade_explore.deploy import measures, replay
from cascade_explore.deploy.acting import fingerprint
from cascade_explore.envs.spec import Actions, Symbols
from cascade_explore.explore import payment
from cascade_explore.explore.diversity import variance
from cascade_explore.explore.imagination import Imagined, imagine
from cascade_explore.explore.learner import one_by_one
from cascade_explore.reports.runs import explored_report
from cascade_explore.trainer import ExploreTrainer
from cascade_explore.world import nets
from cascade_explore.world.losses import disagreement
from paperloop import UserError
from paperloop.conformance import check_trainer
from paperloop.settings import replace_in, save_config

WORLD = WorldModel(deter=8, groups=2, classes=3, hidden=8, units=8, layers=1, heads=2, batch=2, length=6)
ACTOR = Actor(horizon=3, starts=4, units=8, layers=1)
TINY = TrainConfig(
    env=FourRooms(layouts=2, max_steps=12), world=WORLD, explorer=Cascade(agents=3, share=0.5, actor=ACTOR),
    deployments=4, env_steps=96, envs=2, updates=4, explorers_every=2, updates_per_step=2,
)  # fmt: skip


@cache
def shared(config):
    """Return one trainer for a configuration, so that its programs are compiled once."""
    return ExploreTrainer(config)


def make(config):
    return shared(config)


@pytest.fixture(scope="module")
def trainer():
    return make(TINY)


@pytest.fixture(scope="module")
def advanced(trainer):
    """A state after one deployment and its training, one after two, and the metrics of all steps."""
    state, rows, kept = trainer.init(0), [], []
    for _ in range(2 * TINY.dispatches):
        state, metrics = trainer.step(state)
        rows.append(jax.device_get(metrics))
        kept.append(jax.device_get(state._replace(key=jax.random.key_data(state.key))))
    return kept, rows


def test_the_trainer_meets_the_contract(tmp_path):
    # Two steps end within the first training, four with the second deployment.
    passed = check_trainer(make, TINY, folder=tmp_path, steps=2, kills=0)
    assert len(passed) >= 5


@pytest.mark.slow
def test_a_run_killed_in_any_phase_resumes_bit_for_bit(tmp_path):
    check_trainer(make, TINY, folder=tmp_path, steps=2, kills=3)


def test_deployments_are_entered_and_training_leaves_them(trainer, advanced):
    kept, rows = advanced
    before, after = kept[TINY.dispatches - 1].ledger, kept[-1].ledger
    assert before.env_steps.tolist() == [[96, 0, 0, 0]]
    assert after.env_steps.tolist() == [[96, 96, 0, 0]]
    for name, old in before._asdict().items():
        np.testing.assert_array_equal(getattr(after, name)[:, 0], old[:, 0])
    assert after.policies[0, 0] != after.policies[0, 1]
    assert after.coverage[0, 1] >= after.coverage[0, 0] > 0
    assert rows[-1]["kl"].shape == (1,)
    assert kept[-1].visits.sum() == 2 * 96


def test_policies_are_frozen_while_deployed(trainer, advanced):
    kept, _ = advanced
    trained, deployed = kept[TINY.dispatches - 1], kept[TINY.dispatches]
    for name in ("world", "agents", "ensemble", "world_opt"):
        jax.tree.map(np.testing.assert_array_equal, getattr(trained, name), getattr(deployed, name))
    one = jax.tree.map(lambda x: jnp.asarray(x[0]), (trained.world, trained.agents.actors))
    checksum = jax.jit(fingerprint)
    assert int(checksum(one)) == int(deployed.ledger.policies[0, 1])
    leaves, structure = jax.tree.flatten(one)
    leaves[3] = leaves[3].at[(0,) * leaves[3].ndim].add(1e-6)
    assert int(checksum(jax.tree.unflatten(structure, leaves))) != int(checksum(one))


def test_what_is_stored_is_what_happened(trainer, advanced):
    kept, _ = advanced
    rows = kept[-1].replay
    first, terminal = rows.first[0, :2], rows.terminal[0, :2]
    assert first[..., 0].all()
    assert not rows.first[0, 2:].any()
    ended = np.roll(first, -1, -1)[..., :-1]
    assert (ended | ~terminal[..., :-1]).all()  # a new episode follows a terminal row
    starts = {tuple(o) for o in rows.observation[0, :2][first]}
    layouts = {tuple(o) for o in np.asarray(jax.vmap(trainer.env.observe)(trainer.env.starts))}
    assert starts <= layouts
    lengths = np.diff(np.flatnonzero(first[0, 0]))
    assert (lengths <= 13).all()  # twelve steps and the first row


def test_rewards_of_any_kind_leave_everything_as_it_is(trainer, advanced):
    """NaN, infinity or noise in the rewards: world model, ensemble and explorers stay bit-identical."""
    kept, _ = advanced
    state = jax.tree.map(jnp.asarray, kept[0]._replace(key=trainer.init(0).key))

    def after(reward):
        given = state._replace(replay=state.replay._replace(reward=reward))
        return jax.device_get(trainer.step(jax.tree.map(jnp.copy, given))[0]._replace(key=None))

    clean = after(state.replay.reward)
    for value in (jnp.nan, jnp.inf, 1e9):
        dirty = after(jnp.full_like(state.replay.reward, value))
        for name in ("world", "world_opt", "ensemble", "ensemble_opt", "agents", "scales", "shown"):
            jax.tree.map(np.testing.assert_array_equal, getattr(clean, name), getattr(dirty, name))
    changed = jax.tree.map(lambda a, b: bool((np.asarray(a) != np.asarray(b)).any()), clean.world, kept[0].world)
    assert any(jax.tree.leaves(changed))


def test_what_went_wrong_is_noted(trainer, advanced):
    kept, _ = advanced
    assert trainer.final_notes(kept[-1]) == []
    shown = {**kept[-1].shown, "kl": np.zeros(1), "entropy": np.zeros(1)}
    notes = trainer.final_notes(kept[-1]._replace(shown=shown))
    assert len(notes) == 2
    assert "latents" in notes[0]
    assert "explorers" in notes[1]


SCRIPT = """
import sys
import jax, numpy as np
from cascade_explore.config import TrainConfig
from cascade_explore.trainer import ExploreTrainer
from paperloop.settings import load_config
trainer = ExploreTrainer(load_config(TrainConfig, sys.argv[1]))
state = trainer.init(0)
assert len(jax.devices()) == 2
for _ in range(4):
    state, metrics = trainer.step(state)
assert len(state.done.sharding.device_set) == trainer.config.devices
np.savez(sys.argv[2], *jax.tree.leaves(jax.device_get((state.world, state.agents, state.visits, metrics))))
"""


@pytest.mark.slow
def test_two_devices_equal_one(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    found = []
    for devices in (1, 2):
        file, out = tmp_path / f"{devices}.json", tmp_path / f"{devices}.npz"
        save_config(replace(TINY, seeds=2, devices=devices), file)
        subprocess.run([sys.executable, tmp_path / "script.py", file, out], env=environment, check=True)
        found.append(list(np.load(out).values()))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert any((array[0] != array[1]).any() for array in found[0])


def test_a_run_is_reported_in_a_folder_that_need_not_be_there(trainer, advanced, tmp_path, capsys):
    kept, _ = advanced
    explored_report(trainer, kept[-1], tmp_path / "new" / "plots")
    rows = json.loads((tmp_path / "new" / "plots" / "ledger.json").read_text())
    assert [row["env_steps"] for row in rows] == [[96], [96]]
    assert rows[0]["policies"] != rows[1]["policies"]
    for name in ("coverage.png", "who-went-where.png"):
        assert (tmp_path / "new" / "plots" / name).stat().st_size > 1000
    assert "| 2 | 96 |" in capsys.readouterr().out
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be made"):
        explored_report(trainer, kept[-1], tmp_path / "file" / "plots")


# What explorers are paid


def paid_loss(trainer, state, explorer, key):
    """Return the actors' loss as a function of the diversity that a bonus `[B, S]` adds."""
    learner, world = trainer.learner, trainer.world
    start = world.start((4,))
    scales = payment.start_scales(3)

    def loss(actors, bonus):
        pay = payment.make_reward(world, state.ensemble, scales, explorer)

        def reward(seen):
            paid, shown = pay(seen)
            return paid.at[-1].add(bonus), shown

        return learner.actor_loss(actors, state.agents, state.world, start, jnp.ones(4), reward, key)[0]

    return loss


@pytest.fixture(scope="module")
def one_seed(trainer, advanced):
    kept, _ = advanced
    return jax.tree.map(lambda x: jnp.asarray(x[0]), kept[-1])


def test_the_diversity_of_the_last_state_reaches_the_actors_gradient(trainer, one_seed):
    loss = paid_loss(trainer, one_seed, TINY.explorer, jax.random.key(0))
    none = jnp.zeros((3, 4))
    slope = jax.jit(jax.grad(loss))
    plain = slope(one_seed.agents.actors, none)
    bonus = none.at[1].set(jnp.array([1.0, -1.0, 2.0, 0.5]))
    paid = slope(one_seed.agents.actors, bonus)
    differs = [np.abs(np.asarray(a - b)).reshape(3, -1).max(-1) for a, b in
               zip(jax.tree.leaves(plain), jax.tree.leaves(paid), strict=True)]  # fmt: skip
    most = np.max(differs, 0)
    assert most[1] > 1e-4  # the agent that is paid learns from it
    assert (most[[0, 2]] < 1e-7).all()  # and no other


def test_a_population_is_the_cascade_without_its_share(trainer, one_seed):
    key, none = jax.random.key(1), jnp.zeros((3, 4))
    actors = one_seed.agents.actors
    with_share, without = (
        jax.jit(jax.grad(paid_loss(trainer, one_seed, Cascade(agents=3, share=s, actor=ACTOR), key)))(actors, none)
        for s in (0.5, 0.0)
    )
    other = jax.jit(jax.grad(paid_loss(trainer, one_seed, Plan2Explore(actor=ACTOR), key)))(actors, none)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), without, other)
    gap = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), with_share, without)
    assert max(jax.tree.leaves(gap)) > 1e-4


def test_all_agents_at_once_equal_one_after_another(trainer, one_seed):
    """The prefix form against a loop over agents: same imagined sequences, gradients equal to 1e-5."""
    world, learner = trainer.world, trainer.learner
    key, sg = jax.random.key(3), jax.lax.stop_gradient

    def finals(actors):
        seen = imagine(world, one_seed.world, learner.policies, actors, world.start((4,)), key, horizon=3)
        return seen.h[-1]

    def together(actors):
        return variance(finals(actors)).sum()

    def serial(actors):
        h, total = finals(actors), 0.0
        for i in range(3):
            group = jnp.concatenate([sg(h[:i]), h[i : i + 1]])
            total += group.var(0).mean(-1).sum()
        return total

    actors = one_seed.agents.actors
    (value, one), (loop, other) = (jax.jit(jax.value_and_grad(f))(actors) for f in (together, serial))
    np.testing.assert_allclose(value, loop, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one, other)
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(one)) > 1e-6


def test_agents_learn_one_by_one_what_they_learn_together(trainer, one_seed):
    """Gradients of actors and critics, agent after agent as on a CPU, against those of all at once: to 1e-6."""
    learner, start = trainer.learner, trainer.world.start((4,))
    reward = payment.make_reward(trainer.world, one_seed.ensemble, payment.start_scales(3), TINY.explorer)
    imagined = (one_seed.agents, one_seed.world, start, jnp.ones(4), reward, jax.random.key(2))

    def together(actors):
        grad = jax.value_and_grad(learner.actor_loss, has_aux=True)
        (loss, (ahead, _)), slope = grad(actors, *imagined)
        critic = jax.grad(learner.critic_loss)(one_seed.agents.critics, ahead.feat, ahead.returns, ahead.weights)
        return loss, slope, critic

    def serial(actors):
        ahead = learner.look_ahead(actors, *imagined)
        agents = (actors, one_seed.agents.critics, ahead.scale)
        (loss, slope, _, critic), (entropy, _) = one_by_one(learner.learn, agents, ahead.rows)
        assert entropy.shape == (3, 3, 4)
        return loss.sum(), slope, critic

    one, other = (jax.jit(f)(one_seed.agents.actors) for f in (together, serial))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one, other)
    assert min(float(jnp.abs(x).max()) for x in jax.tree.leaves(one)) > 1e-6


def test_blocks_of_rows_give_what_all_rows_give(trainer, one_seed, monkeypatch):
    """The ensemble's disagreement and its gradient, with a block that does not divide the rows: to 1e-6."""
    feat = jax.random.normal(jax.random.key(0), (5, 3, trainer.world.width))
    action = jax.nn.one_hot(jnp.arange(15).reshape(5, 3) % 7, 7)

    def curious(*row):
        return disagreement(trainer.world.predict(one_seed.ensemble, *row))

    monkeypatch.setattr(nets, "BLOCK", 4)
    blocks = jax.jit(jax.value_and_grad(lambda f: nets.block_by_block(curious, f, action).sum()))(feat)
    whole = jax.jit(jax.value_and_grad(lambda f: curious(f, action).sum()))(feat)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), blocks, whole)


def test_both_terms_are_combined_as_the_settings_say():
    curious = jnp.array([[[2.0, 2.0], [4.0, 4.0]], [[4.0, 4.0], [6.0, 6.0]]])  # two steps of two agents, two starts
    diverse = jnp.array([[0.0, 0.0], [4.0, 8.0]])
    raw = payment.combine(curious, diverse, share=0.25, scales=None)
    np.testing.assert_allclose(raw[:, 1, 0], [3.0, 4.5 + 1.0])
    scales = payment.track(payment.start_scales(2), curious, diverse)
    even = payment.combine(curious, diverse, share=0.25, scales=scales)
    # Disagreement is 3 and 5 on average, 4 over both agents; the second agent's diversity is 6.
    np.testing.assert_allclose(even[:, 0, 0], [0.75 * -1 / 4, 0.75 * 1 / 4], rtol=1e-5)
    np.testing.assert_allclose(even[:, 1, 1], [0.75 * -1 / 4, 0.75 * 1 / 4 + 0.25 * 2 * 2 / 6], rtol=1e-5)
    np.testing.assert_allclose(even.sum((0, 2)), 0.0, atol=1e-6)  # centred, for each agent
    scales = payment.track(payment.start_scales(2), curious, 0 * diverse)  # as for agents that all end in one place
    alone = payment.combine(curious, 0 * diverse, share=0.25, scales=scales)
    np.testing.assert_allclose(alone[:, 0, 0], [0.75 * -1 / 4, 0.75 * 1 / 4], rtol=1e-5)


def test_the_size_of_large_rewards_does_not_reach_the_actors(trainer, one_seed):
    """Returns of a range above 1 are divided by it, so that rewards 50 times as large give the same gradient."""
    learner, start = trainer.learner, trainer.world.start((4,))
    none = jax.tree.map(jnp.zeros_like, (one_seed.agents.critics, one_seed.agents.slow))
    state = one_seed.agents._replace(critics=none[0], slow=none[1], spread=jnp.zeros(3), updates=jnp.zeros(3, int))

    def slope(size):
        def reward(seen):
            return size * jnp.cos(jnp.arange(36.0)).reshape(3, 3, 4), {}

        def loss(actors):
            return learner.actor_loss(
                actors, state, one_seed.world, start, jnp.ones(4), reward, jax.random.key(0)
            )[0]  # fmt: skip

        return jax.grad(loss)(state.actors)

    for leaf in jax.tree.leaves(jax.jit(jax.vmap(slope))(jnp.array([10.0, 500.0, 0.0]))):
        np.testing.assert_allclose(leaf[0], leaf[1], rtol=1e-3, atol=1e-6)
        assert np.abs(leaf[0] - leaf[2]).max() > 1e-5 or np.abs(leaf[0]).max() == 0  # they are what it learns from


def test_explorers_learn_in_every_other_update_where_asked(trainer, advanced):
    kept, rows = advanced
    assert TINY.explorers_every == 2
    assert [state.agents.updates[0, 0] for state in kept[: TINY.dispatches]] == [0, 1, 2]  # of 0, 2 and 4 updates
    assert 0 < float(rows[1]["entropy"][0]) <= np.log(7) + 1e-5  # a mean over the updates that the explorers had


@pytest.mark.slow
def test_the_model_learns_alike_however_often_the_explorers_do(trainer):
    worlds = []
    for one in (trainer, ExploreTrainer(replace(TINY, explorers_every=1))):
        state = one.init(0)
        for _ in range(2):
            state, _ = one.step(state)
        worlds.append(jax.device_get(state.world))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), *worlds)


KINDS = {
    "variance": Variance(),
    "variance, marginal": Variance(marginal=True),
    "knn": NearestNeighbours(k=2, pool=3),
    "log_det": LogDet(),
    "log_det, marginal": LogDet(marginal=True),
    "info_gain": InfoGain(marginal=False),
    "info_gain, marginal": InfoGain(),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_estimator_reads_imagined_sequences(kind):
    one, two = jax.random.split(jax.random.key(0))
    h = jax.random.normal(one, (4, 3, 5, 6))  # three steps of three agents from five starts
    predicted = jax.random.normal(two, (4, 3, 5, 2))
    seen = Imagined(h, h, jnp.zeros((3, 3, 5, 2)))
    found = payment.diversity_of(seen, predicted, kind)
    assert found.shape == (3, 5)
    assert bool((found >= -1e-6).all()) or isinstance(kind, Variance)  # a marginal variance can be negative
    assert float(found[2].max()) > 0
    if isinstance(kind, InfoGain | LogDet):
        other = payment.diversity_of(seen, predicted, replace(kind, marginal=not kind.marginal))
        whole, parts = (other, found) if kind.marginal else (found, other)
        np.testing.assert_allclose(jnp.cumsum(parts, 0), whole, rtol=1e-5)
    else:
        np.testing.assert_array_equal(found[0], 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [NearestNeighbours(k=2, pool=3), LogDet(), InfoGain()], ids=lambda kind: kind.type)
def test_every_estimator_trains(kind):
    explorer = Cascade(agents=3, share=0.5, actor=ACTOR, diversity=kind)
    trainer = ExploreTrainer(replace(TINY, explorer=explorer))
    state = trainer.init(0)
    for _ in range(2):
        state, metrics = trainer.step(state)
    assert all(np.isfinite(value).all() for value in jax.device_get(metrics).values())
    assert float(metrics["diversity"][0]) > 0


@pytest.mark.slow
def test_continuous_actions_are_trained_through_the_model():
    pytest.importorskip("gymnasium")
    gym = {"env.type": "gym", "env.id": "Pendulum-v1"}
    trainer = ExploreTrainer(replace_in(TINY, gym))
    assert trainer.learner.through_model
    state = trainer.init(0)
    before = jax.device_get(state.agents.actors)
    for _ in range(3):
        state, metrics = trainer.step(state)
    assert all(np.isfinite(value).all() for value in jax.device_get(metrics).values())
    after = jax.device_get(state.agents.actors)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).reshape(3, -1).max(-1), before, after)
    assert (np.max(jax.tree.leaves(moved), 0) > 0).all()
    assert np.abs(state.replay.action).max() <= 1


# Replay and measures


def test_sequences_come_from_what_was_collected_and_stay_in_their_stream():
    kind, actions = Symbols(((1, 200),)), Actions(3, discrete=True)
    data = replay.empty(3, 4, 5, kind, actions)
    number = jnp.arange(2 * 4 * 5).reshape(2, 4, 5, 1).astype(jnp.uint8)
    data = data._replace(observation=data.observation.at[:2].set(number).at[2].set(199))
    rows = jax.jit(lambda d: replay.draw(d, jnp.int32(2), jax.random.key(0), batch=300, length=3))(data)
    seen = np.asarray(rows.observation[..., 0]).astype(int)
    assert (np.diff(seen, axis=0) == 1).all()
    assert (seen[0] // 5 == seen[-1] // 5).all()
    assert set(seen[0] % 5) == {0, 1, 2}
    assert seen.max() == 39
    written = replay.write(data, jax.tree.map(lambda x: jnp.ones_like(jnp.swapaxes(x[0], 0, 1)), data), jnp.int32(1))
    assert written.observation[1].min() == 1
    np.testing.assert_array_equal(written.observation[0], data.observation[0])


def test_measures_of_visits_known_by_hand():
    reachable = jnp.array([[[True, True], [True, False]], [[True, False], [False, False]]])
    visits = jnp.array([[[1, 0], [1, 9]], [[0, 0], [0, 0]]])
    assert float(measures.coverage(visits, reachable)) == pytest.approx((2 / 3 + 0) / 2)
    assert float(measures.visitation_entropy(jnp.array([[[1, 1], [1, 1]]]))) == pytest.approx(2.0)
    apart = jnp.eye(4, dtype=jnp.int32).reshape(4, 1, 2, 2) * 7
    assert float(measures.distinct_explorers(apart)) == pytest.approx(4.0, rel=1e-5)
    assert float(measures.distinct_explorers(jnp.ones((4, 1, 2, 2)))) == pytest.approx(1.0, rel=1e-5)


# Other settings


def test_a_gymnasium_environment_on_the_host_resumes_as_well(tmp_path):
    pytest.importorskip("gymnasium")
    config = replace_in(TINY, {"env.type": "gym", "env.id": "CartPole-v1", "explorer.type": "p2e", "deployments": 2,
                               "env_steps": 24, "explorer.actor": {"horizon": 3, "starts": 4, "units": 8, "layers": 1},
                               "updates": 0})  # fmt: skip
    trainer = ExploreTrainer(config)
    state = trainer.init(0)
    state, metrics = trainer.step(state)
    saved = jax.tree.map(jnp.copy, state)
    state, _ = trainer.step(state)
    again, _ = trainer.step(saved)
    one, other = (jax.device_get(s.replay) for s in (state, again))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert metrics["env_reward"][0] + state.replay.first[0, 0].sum() == pytest.approx(24)  # a reward of 1 each step


def test_random_actions_need_no_explorer():
    config = replace_in(TINY, {"explorer.type": "random", "envs": 6})
    state = ExploreTrainer(config).init(0)
    assert state.agents == ()
    assert config.agents == 1
    assert "entropy" not in state.shown


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"env_steps": 97}, "multiple of"),
        ({"env_steps": 30}, "at least 36"),
        ({"updates": 3}, "divisor"),
        ({"devices": 2}, "divisor"),
        ({"explorers_every": 3}, "divisor"),
        ({"explorer.actor.starts": 13}, "at most"),
        ({"explorer.share": 1.5}, "from 0 to 1"),
        ({"explorer.diversity.type": "knn", "explorer.diversity.k": 9, "explorer.diversity.pool": 4}, "at most"),
        ({"env.type": "maze"}, "env"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        replace_in(TINY, changes)


def test_environments_that_cannot_be_explored_are_refused():
    pytest.importorskip("gymnasium")
    with pytest.raises(UserError, match="cannot be made"):
        ExploreTrainer(replace_in(TINY, {"env.type": "gym", "env.id": "NoSuch-v0"}))
    with pytest.raises(UserError, match="shows a Discrete"):
        ExploreTrainer(replace_in(TINY, {"env.type": "gym", "env.id": "Taxi-v4"}))
    assert isinstance(TINY.env, FourRooms)
    assert isinstance(Gym().id, str)
