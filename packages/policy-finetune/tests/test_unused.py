"""Settings without effect: each is named, and no preset has one."""

from dataclasses import replace

import pytest

from paperloop.errors import UserError
from policy_finetune.commands.unused import refuse_idle_constraint, unused_settings
from policy_finetune.config import (
    ConstraintConfig,
    GuardConfig,
    LearnerConfig,
    NetworkConfig,
    OfflineAgent,
    OfflineConfig,
    OnlineAgent,
    OnlineConfig,
    ReplayConfig,
    SwitchConfig,
)
from policy_finetune.presets import LEARNERS, offline_presets, online_presets


@pytest.mark.parametrize("presets", [offline_presets(), online_presets()], ids=["offline", "online"])
def test_presets_have_none(presets):
    for name, config in presets.items():
        assert unused_settings(config) == [], name
        refuse_idle_constraint(config)


@pytest.mark.parametrize(
    ("config", "sentences"),
    [
        (OfflineConfig(learner=LearnerConfig(expectile=0.9)), ["learner.expectile has no effect with td3."]),
        (
            OfflineConfig(learner=LearnerConfig(name="iql", bc_weight=1.0, init_alpha=0.5)),
            ["learner.bc_weight has no effect with iql.", "learner.init_alpha has no effect with iql."],
        ),
        (
            OfflineConfig(learner=LearnerConfig(name="bc", discount=0.9, network=NetworkConfig(layer_norm=True))),
            ["learner.discount has no effect with bc.", "learner.network.layer_norm has no effect with bc."],
        ),
        (
            OfflineConfig(learner=LearnerConfig(network=NetworkConfig(actor_dropout=0.1))),
            ["learner.network.actor_dropout has no effect with td3."],
        ),
        (
            OfflineConfig(learner=LearnerConfig(name="sac", cql_actions=4)),
            ["learner.cql_actions has no effect with a learner with cql_alpha 0."],
        ),
        (
            OfflineConfig(learner=LearnerConfig(bc_floor=0.5)),
            ["learner.bc_floor has no effect with a learner with bc_weight 0."],
        ),
        (
            OnlineConfig(
                learner=LearnerConfig(constraint=ConstraintConfig(enabled=True, penalty="fixed", epsilon=1e-3))
            ),
            ["learner.constraint.epsilon has no effect with the penalty fixed."],
        ),
        (
            OnlineConfig(
                learner=LearnerConfig(
                    constraint=ConstraintConfig(enabled=True, reference="periodic", reference_tau=0.1, kl_sigma=0.1)
                )
            ),
            [
                "learner.constraint.reference_tau has no effect with the reference periodic.",
                "learner.constraint.kl_sigma has no effect with the distance mse.",
            ],
        ),
        (
            OnlineConfig(replay=ReplayConfig(rho=0.3, capacity=500)),
            ["replay.rho has no effect with the replay append."],
        ),
        (
            OfflineConfig(learner=LearnerConfig(bc_weight=1.0, bc_floor=0.5)),
            ["learner.bc_floor has no effect with a learner with bc_decay_steps 0."],
        ),
        (
            OfflineConfig(learner=LEARNERS["td3"], updates=1000),
            [],
        ),
        (
            replace(offline_presets()["iql"], updates=40_000),
            [
                "learner.actor_lr_steps is 1000000: the actor's learning rate falls over so many of its updates, and "
                "this run has 40000; learner.actor_lr_steps=40000 lets it fall to the end."
            ],
        ),
        (
            OnlineConfig(learner=LearnerConfig(constraint=ConstraintConfig(enabled=True, epsilon_steps=10))),
            ["learner.constraint.epsilon_steps has no effect with no epsilon_final."],
        ),
        (
            OnlineConfig(
                learner=LearnerConfig(constraint=ConstraintConfig(enabled=True, penalty="fixed", coefficient_floor=0.1))
            ),
            ["learner.constraint.coefficient_floor has no effect with decay_steps 0."],
        ),
        (
            OnlineConfig(guard=GuardConfig(enabled=True, nu_boost=1.0)),
            ["guard.nu_boost has no effect with a learner without an adapting multiplier."],
        ),
        (
            OnlineConfig(switch=SwitchConfig(critic_reinit=True, critic_warmup=100)),
            ["switch.critic_reinit has no effect with learning from nothing."],
        ),
        (OnlineConfig(start="runs/pre", switch=SwitchConfig(critic_reinit=True)), []),
        (OnlineConfig(guard=GuardConfig(drop=0.3)), ["guard.drop has no effect with a guard that is not enabled."]),
        (
            OnlineConfig(learner=LEARNERS["sac"], exploration_noise=0.2),
            ["exploration_noise has no effect: sac samples its actions."],
        ),
    ],
)  # fmt: skip
def test_each_is_named(config, sentences):
    assert unused_settings(config) == sentences


def test_settings_in_use_are_not_named():
    best = ConstraintConfig(enabled=True, reference="best")
    config = OnlineConfig(learner=LearnerConfig(constraint=best), guard=GuardConfig(episodes=5))
    assert unused_settings(config) == []
    agents = tuple(OnlineAgent(learner=LearnerConfig(expectile=0.9), seed=i) for i in range(3))
    assert unused_settings(OnlineConfig(agents=agents)) == ["learner.expectile has no effect with td3."]  # said once


def test_a_constraint_that_is_not_enabled_is_refused_except_among_agents():
    idle = LearnerConfig(constraint=ConstraintConfig(epsilon=1e-3))
    with pytest.raises(
        UserError, match=r"constraint.epsilon is 0.001, but .*learner.constraint.enabled=True, or .*td3c"
    ):
        refuse_idle_constraint(OfflineConfig(learner=idle))
    refuse_idle_constraint(OfflineConfig(learner=replace(idle, constraint=ConstraintConfig(enabled=True, epsilon=1.0))))
    # TD3 next to TD3-C with a multiplier for each dimension: one program, one form of the constraint.
    refuse_idle_constraint(OfflineConfig(learner=idle, agents=(OfflineAgent(learner=idle),)))
