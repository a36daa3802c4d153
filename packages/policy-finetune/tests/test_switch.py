"""What the online learner takes over from the pre-trained agent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from paperloop.errors import UserError
from policy_finetune.config import (
    ActorNetwork,
    BCConfig,
    DualConstraint,
    IQLConfig,
    NetworkConfig,
    SACConfig,
    SwitchConfig,
    TD3Config,
)
from policy_finetune.learners.registry import make_learner
from policy_finetune.trainers.switch import switch_notes, take_over

NET = NetworkConfig(hidden=(8,))
TD3C = TD3Config(network=NET, constraint=DualConstraint())


def trained(config, seed=1):
    """A state whose every number is its own: weights, targets behind them, moments that are not 0."""
    state = make_learner(config, 3, 2).init(jax.random.key(seed))
    state = jax.tree.map(lambda x: x + 1, state)
    return state.replace(target=jax.tree.map(lambda x: x + 0.5, state.target))


def equal(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def switch(old, new, **settings):
    fresh = make_learner(new, 3, 2).init(jax.random.key(2))
    state, notes = take_over(fresh, old, SwitchConfig(**settings))
    return fresh, state, notes


def test_td3bc_to_td3c_carries_networks_targets_and_moments():
    old = trained(TD3Config(network=NET, bc_weight=1.0))
    fresh, state, notes = switch(old, TD3C)
    assert notes == []
    assert equal(state.params["actor"], old.params["actor"])
    assert equal(state.params["critic"], old.params["critic"])
    assert equal(state.target, old.target)
    assert equal(state.opt["actor"], old.opt["actor"])
    assert equal(state.reference, old.params["actor"])  # the policy itself, not its trailing target
    assert equal(state.params["nu"], fresh.params["nu"])
    assert (int(state.updates), int(state.rounds)) == (0, 0)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(pointers)) == len(pointers)  # a donated state must not hold one buffer twice


def test_critics_are_forgotten_where_asked():
    old = trained(TD3Config(network=NET))
    fresh, state, _ = switch(old, TD3C, critic_reinit=True)
    for part in ("params", "target", "opt"):
        assert equal(getattr(state, part)["critic"], getattr(fresh, part)["critic"])
    assert equal(state.params["actor"], old.params["actor"])


def test_iql_to_td3_takes_the_mean_and_makes_targets():
    old = trained(IQLConfig(network=NET))
    _, state, notes = switch(old, TD3C)
    assert notes == [
        "Adam's moments of the actor start from scratch: the pre-trained ones are of another form",
        "the target actor starts as a copy of the actor: the pre-trained agent has none",
    ]
    assert set(state.params["actor"]) == {"hidden", "mean"}
    assert equal(state.params["actor"]["mean"], old.params["actor"]["mean"])
    assert equal(state.target["actor"], state.params["actor"])
    assert equal(state.target["critic"], old.target["critic"])


def test_what_cannot_be_taken_over_is_said():
    old = trained(BCConfig(network=ActorNetwork(hidden=(8,))))
    fresh, state, notes = switch(old, TD3C)
    assert notes == [
        "the target actor starts as a copy of the actor: the pre-trained agent has none",
        "the pre-trained agent has no critic: it starts from scratch",
    ]
    assert equal(state.target["actor"], state.params["actor"])
    assert equal(state.params["critic"], fresh.params["critic"])
    ensemble = SACConfig(network=NetworkConfig(hidden=(8,), critics=4))
    fresh, state, notes = switch(trained(TD3Config(network=NET)), ensemble, allow_new=True)
    assert notes == [
        "the actor's spread starts from scratch: the pre-trained one has another form of it",
        "Adam's moments of the actor start from scratch: the pre-trained ones are of another form",
        "the pre-trained critic starts from scratch: it has an ensemble of 2, not an ensemble of 4",
    ]
    assert equal(state.params["actor"]["log_std"], fresh.params["actor"]["log_std"])
    assert equal(state.opt["actor"], fresh.opt["actor"])
    wide = TD3Config(network=NetworkConfig(hidden=(16,)))
    fresh, state, notes = switch(trained(TD3Config(network=NET)), wide, allow_new=True)
    assert notes[0] == "the pre-trained actor starts from scratch: its hidden layers are of 8, not 16"
    assert equal(state.params, fresh.params)


def test_networks_that_do_not_fit_are_refused_with_the_option_that_mends_it():
    old = trained(TD3Config(network=NET))
    wide = TD3Config(network=NetworkConfig(hidden=(16, 4)))
    with pytest.raises(UserError, match=r"of 8, the online learner of 16 4: give learner.network.hidden=\(8,\)"):
        switch(old, wide)
    with pytest.raises(UserError, match="hidden layers of 8"):
        switch(old, wide, critic_reinit=True)  # that is for critics
    many = TD3Config(network=NetworkConfig(hidden=(8,), critics=4, layer_norm=True))
    with pytest.raises(UserError, match=r"give learner.network.critics=2 and .*layer_norm=False, .*reinit"):
        switch(old, many)
    fresh, state, notes = switch(old, many, critic_reinit=True)
    assert notes == []
    assert equal(state.params["critic"], fresh.params["critic"])
    other = make_learner(TD3Config(network=NET), 3, 1).init(jax.random.key(0))
    with pytest.raises(UserError, match="gives actions of 2 numbers, not 1: it is of another task"):
        take_over(other, old, SwitchConfig(allow_new=True))


def test_notes_come_from_shapes_alone():
    learner = make_learner(TD3C, 3, 2)
    shapes = jax.eval_shape(learner.init, jax.random.key(0))
    for config in (IQLConfig(network=NET), BCConfig(network=ActorNetwork(hidden=(8,))), TD3Config(network=NET)):
        old = trained(config)
        old_shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), old)
        _, _, notes = switch(old, TD3C)
        assert switch_notes(shapes, old_shapes, SwitchConfig()) == notes


def test_sac_to_sac_carries_its_temperature():
    config = SACConfig(network=NET)
    old = trained(config)
    _, state, notes = switch(old, config)
    assert notes == []
    assert equal(state.params, old.params)
    assert equal(state.opt, old.opt)
    assert jnp.ndim(state.params["log_alpha"]) == 0
