"""Configurations: what is refused, in which words; presets; what is data and what is structure."""

import dataclasses
import json

import pytest

from paperloop.errors import UserError
from paperloop.settings import from_dict, to_dict
from policy_finetune.agents.structure import structure_of, weights_of
from policy_finetune.config import (
    ActorNetwork,
    AppendReplay,
    BCConfig,
    Best,
    CQLConfig,
    DataOptions,
    DecayReplay,
    DropReplay,
    DualConstraint,
    Fade,
    FixedPenalty,
    Growth,
    GuardConfig,
    IQLConfig,
    NetworkConfig,
    Offline,
    OfflineAgent,
    OfflineConfig,
    OnlineAgent,
    OnlineConfig,
    SACConfig,
    SwitchConfig,
    SymmetricReplay,
    Target,
    TD3Config,
)
from policy_finetune.presets import LEARNER_HELP, LEARNERS, learner, offline_presets, online_presets


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: DualConstraint(epsilon=0.0),
            r"DualConstraint.epsilon is 0.0; it must be above 0",
        ),
        (lambda: DualConstraint(epsilon=float("nan")), "epsilon is nan"),
        (lambda: DualConstraint(nu0=-20.0), r"nu0 is -20.0; it must be at least DualConstraint.nu_min = -18"),
        (lambda: Growth(steps=0), "steps is 0; it must be from 1 to"),
        (lambda: DualConstraint(reference={"type": "last"}), "reference.type is 'last'; it must be one of 'target'"),
        (lambda: Target(tau=0.0), "tau is 0.0; it must be above 0 and at most 1, or None"),
        (lambda: TD3Config(bc_fade=Fade()), "bc_weight is 0.0; it must be above 0, because TD3Config.bc_fade is given"),
        (lambda: TD3Config(tau=0.0), "TD3Config.tau is 0.0; it must be above 0 and at most 1"),
        (lambda: TD3Config(tau=1.5), "tau is 1.5"),
        (lambda: TD3Config(policy_delay=0), "policy_delay is 0; it must be at least 1"),
        (lambda: TD3Config(batch_size=2.5), "batch_size is 2.5; it must be an integer"),
        (lambda: TD3Config(discount=1.1), "discount is 1.1; it must be from 0 to 1"),
        (lambda: TD3Config(actor_lr=-1e-3), "actor_lr is -0.001; it must be at least 0"),
        (lambda: TD3Config(critic_lr=float("inf")), "critic_lr is inf"),
        (lambda: IQLConfig(expectile=1.0), "expectile is 1.0; it must be above 0 and below 1"),
        (
            lambda: TD3Config(target_subset=3),
            "target_subset is 3; it must be at most TD3Config.network.critics = 2",
        ),
        (lambda: IQLConfig(constraint=DualConstraint()), 'there is no setting "constraint"'),
        (lambda: TD3Config(expectile=0.9), 'there is no setting "expectile"'),
        (lambda: BCConfig(network=ActorNetwork(), discount=0.9), 'there is no setting "discount"'),
        (lambda: from_dict(OfflineConfig, {"learner": {"type": "ppo"}}), 'learner.type is "ppo"; it must be one of'),
        (lambda: from_dict(OnlineConfig, {"learner": {"type": "bc"}}), 'learner.type is "bc"; it must be one of'),
        (lambda: AppendReplay(rho=0.2), 'there is no setting "rho"'),
        (lambda: NetworkConfig(hidden=()), "hidden is .*at least one width"),
        (lambda: NetworkConfig(hidden=(16, 0)), "hidden is"),
        (lambda: NetworkConfig(hidden=(16.5,)), "hidden is"),
        (lambda: SymmetricReplay(rho=1.2), "rho is 1.2; it must be from 0 to 1"),
        (lambda: AppendReplay(top_fraction=0.0), "top_fraction is 0.0"),
        (lambda: GuardConfig(episodes=0), "episodes is 0"),
        (lambda: SwitchConfig(critic_warmup=-1), "critic_warmup is -1"),
        (lambda: OfflineConfig(updates_per_step=3), "updates_per_step is 3; it must be a multiple of"),
        (
            lambda: OfflineConfig(learner=TD3Config(constraint=DualConstraint(reference=Best()))),
            "reference.type is best, which offline would stay the untrained",
        ),
        (
            lambda: OnlineConfig(env_steps=5000, switch=SwitchConfig(critic_warmup=4000)),
            "critic_warmup is 4000, but OnlineConfig.env_steps 5000 makes 4000 critic updates: the actor would",
        ),
        (lambda: OnlineConfig(utd=0.0), "utd is 0.0; it must be above 0"),
        (
            lambda: OnlineConfig(block=1),
            "1 x 1 critic updates are whole rounds of OnlineConfig.learner.policy_delay = 2",
        ),
        (
            lambda: OnlineConfig(switch=SwitchConfig(warmup_env_steps=30)),
            "switch.warmup_env_steps is 30; .*multiple of",
        ),
        (lambda: OnlineConfig(reward_bias=float("nan")), "reward_bias is nan; it must be a finite number"),
        (
            lambda: OnlineConfig(random_env_steps=10),
            "steps is 10; it must be a multiple of OnlineConfig.block = 50",
        ),
        (
            lambda: OnlineConfig(random_env_steps=50.5),
            "random_env_steps is 50.5; it must be an integer",
        ),
        (
            lambda: OnlineConfig(env_steps=2000, random_env_steps=2000),
            "env_steps is 2000; it must be above 2000, because the first 2000 steps have no updates",
        ),
        (lambda: DataOptions(semantics="next"), "semantics is 'next'; it must be one of 'exact', 'd4rl', or None"),
        (lambda: DataOptions(episode_ends="time"), "episode_ends is 'time'; it must be one of 'auto', 'flags'"),
        (
            lambda: OnlineConfig(replay=DropReplay(), switch=SwitchConfig(warmup_env_steps=100)),
            "first batch of 256 would be drawn from 150 online transitions alone: raise OnlineConfig.switch.warmup_env",
        ),
    ],
)
def test_what_is_out_of_range_is_refused_in_one_sentence(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_agents_decide_what_a_configuration_with_agents_is():
    slow = TD3Config(policy_delay=4, batch_size=16)
    with pytest.raises(UserError, match=r"multiple of OfflineConfig\.learner\.policy_delay = 4"):
        OfflineConfig(updates_per_step=10, agents=(OfflineAgent(learner=slow),))
    late = SwitchConfig(warmup_env_steps=200)
    config = OnlineConfig(block=20, agents=(OnlineAgent(learner=slow, switch=late),))
    assert config.rounds_per_block == 5
    assert config.first_update == 200
    with pytest.raises(UserError, match="warmup_env_steps is 30"):
        OnlineConfig(block=20, agents=(OnlineAgent(learner=slow, switch=SwitchConfig(warmup_env_steps=30)),))
    agent = OnlineAgent(learner=slow, replay=DropReplay(), switch=SwitchConfig(warmup_env_steps=0))
    with pytest.raises(UserError, match="first batch of 16"):
        OnlineConfig(block=4, agents=(agent,))


@pytest.mark.parametrize(
    "config", [*offline_presets().values(), *online_presets().values()], ids=lambda c: c.learner.type
)
def test_presets_survive_json(config):
    assert from_dict(type(config), json.loads(json.dumps(to_dict(config), allow_nan=False))) == config


def test_learners_by_name():
    assert LEARNERS.keys() == LEARNER_HELP.keys()
    assert learner("td3bc").q_weight == 2.5
    with pytest.raises(UserError, match='There is no learner "td3b"; did you mean "td3bc"'):
        learner("td3b")


def test_presets_of_methods_that_need_more_than_a_learner():
    offline, online = offline_presets(), online_presets()
    assert offline["iql-antmaze"].reward_bias == -1.0
    assert offline["iql"].reward_bias == 0.0
    assert LEARNERS["proto"].constraint.penalize_target
    for name in ("calql", "calql-redq"):
        assert (online[name].replay.type, online[name].replay.rho) == ("symmetric", 0.5)
    for name in ("calql-redq", "iql-redq"):  # these can be gone on from with wsrl
        assert offline[name].learner.network == online["wsrl"].learner.network
    assert structure_of(offline["calql-redq"].learner).cql.calibrated
    assert offline["td3bc-level"].initial_value == "mean"
    assert structure_of(offline["td3bc-level"].learner) == structure_of(online["td3bc-loose"].learner)
    assert "td3bc-loose" not in offline


def test_how_files_are_read_is_inherited_option_by_option():
    before = DataOptions(semantics="d4rl", drop_nonfinite=True)
    assert DataOptions().over(before) == before
    mine = DataOptions(semantics="exact", out_of_bounds="error").over(before)
    assert mine == DataOptions(semantics="exact", out_of_bounds="error", drop_nonfinite=True)
    assert DataOptions(drop_nonfinite=False).over(before).drop_nonfinite is False
    config = OfflineConfig(loading=mine)
    assert from_dict(OfflineConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_random_steps():
    assert (OnlineConfig().random_steps, OnlineConfig().first_update) == (0, 1000)
    config = OnlineConfig(random_env_steps=5000)
    assert (config.random_steps, config.first_update) == (5000, 5000)


def test_steps_and_rounds():
    assert OfflineConfig(updates=3000).num_steps == 3
    assert OfflineConfig(updates=100).num_steps == 1  # rounded up to whole dispatches
    assert OfflineConfig(updates=1001).num_steps == 2
    config = OnlineConfig(env_steps=1010, utd=4.0)
    assert (config.num_steps, config.rounds_per_block) == (21, 100)
    assert online_presets()["rlpd"].rounds_per_block == 1


@pytest.mark.parametrize("base", [TD3Config(), IQLConfig(), BCConfig(), SACConfig(cql=CQLConfig())])
def test_every_number_of_a_learner_is_data_or_structure(base):
    # Whatever field is changed, two agents either differ in their data, or cannot share a program.
    for field in dataclasses.fields(base):
        value = getattr(base, field.name)
        if isinstance(value, bool):
            other = not value
        elif isinstance(value, float):
            other = value / 2 + 0.07
        elif isinstance(value, int):
            other = value + 1
        else:
            continue
        changed = dataclasses.replace(base, **{field.name: other})
        same_data = weights_of(base, act_dim=2) == weights_of(changed, act_dim=2)
        same_structure = structure_of(base) == structure_of(changed)
        assert not (same_data and same_structure), field.name
        assert same_data or same_structure, field.name


def test_data_of_the_arms():
    plain = weights_of(TD3Config(), AppendReplay(), act_dim=3)
    assert (plain["constrained"], plain["rho"], plain["append"]) == (0.0, 0.0, 1.0)
    assert weights_of(SACConfig(), act_dim=3)["target_entropy"] == -3.0
    symmetric = weights_of(TD3Config(), SymmetricReplay(rho=0.3), act_dim=3)
    assert (symmetric["rho"], symmetric["rho_final"], symmetric["append"]) == (0.3, 0.3, 0.0)
    decay = weights_of(TD3Config(), DecayReplay(rho=0.8, rho_final=0.1, decay_steps=7), act_dim=3)
    assert (decay["rho"], decay["rho_final"], decay["rho_steps"]) == (0.8, 0.1, 7.0)
    assert weights_of(TD3Config(), DropReplay(), act_dim=3)["append"] == 0.0
    assert weights_of(TD3Config(), switch=SwitchConfig(critic_warmup=9), act_dim=3)["critic_warmup"] == 9.0
    held = weights_of(TD3Config(constraint=DualConstraint(reference=Offline())), act_dim=3)
    assert (held["constrained"], held["dual"], held["reference_tau"]) == (1.0, 1.0, 0.0)
    fixed = FixedPenalty(coefficient=3.0, fade=Fade(steps=7, floor=0.5))
    fading = weights_of(TD3Config(constraint=fixed), act_dim=3)
    assert (fading["dual"], fading["coefficient_floor"], fading["coefficient_steps"]) == (0.0, 1.5, 7.0)
    assert weights_of(TD3Config(constraint=DualConstraint()), act_dim=3)["reference_tau"] == 0.005
