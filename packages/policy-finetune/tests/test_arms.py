"""Names of agents: equal where they repeat one arm, and nowhere else."""

import dataclasses

import numpy as np

from policy_finetune.config import DropReplay, OfflineAgent, OnlineAgent
from policy_finetune.presets import LEARNERS
from policy_finetune.trainers.arms import apart, offline_labels, online_labels
from policy_finetune.trainers.pretrained import Pretrained

TD3, TD3C, IQL = LEARNERS["td3"], LEARNERS["td3c"], LEARNERS["iql"]


def pretrained(*labels):
    return Pretrained(None, np.zeros(1), np.ones(1), tuple(range(len(labels))), labels, np.ones(1), 0.0)


def test_seeds_of_one_arm_share_a_name_and_learners_do_not():
    agents = [OfflineAgent(learner=learner, seed=s) for learner in (TD3, LEARNERS["td3bc"], IQL) for s in (0, 1)]
    assert offline_labels(agents, (), 1) == ("td3", "td3", "td3bc", "td3bc", "iql", "iql")
    assert offline_labels([OfflineAgent(label="mine", learner=TD3)], (), 1) == ("mine",)


def test_datasets_are_told_apart_by_their_files_or_their_numbers():
    agents = [OfflineAgent(learner=TD3, dataset=d) for d in (0, 1)]
    assert offline_labels(agents, ("d/medium.hdf5", "d/expert.hdf5"), 2) == ("td3 on medium", "td3 on expert")
    assert offline_labels(agents, ("a/data.npz", "b/data.npz"), 2) == ("td3 on dataset 0", "td3 on dataset 1")
    named = [dataclasses.replace(a, label=f"arm {a.dataset}") for a in agents]  # whose own labels say it already
    assert offline_labels(named, ("a", "b"), 2) == ("arm 0", "arm 1")


def test_settings_that_no_name_shows_get_a_number():
    slow = dataclasses.replace(TD3, actor_lr=1e-5)
    agents = [OfflineAgent(learner=learner, seed=s) for s in (0, 1) for learner in (TD3, slow)]
    assert offline_labels(agents, (), 1) == ("td3 (1)", "td3 (2)") * 2
    assert offline_labels([OfflineAgent(learner=TD3), OfflineAgent(learner=TD3, top_fraction=0.1)], (), 1) == (
        "td3 (1)", "td3 (2)",
    )  # fmt: skip
    assert apart(["a", "a", "b"], [1, 1, 2]) == ("a", "a", "b")


def test_online_arms_are_learner_and_replay():
    drop = DropReplay()
    agents = [OnlineAgent(learner=TD3), OnlineAgent(learner=TD3C, seed=1), OnlineAgent(learner=TD3C, replay=drop)]
    assert online_labels(agents, None) == ("td3 append", "td3c append", "td3c drop")


def test_pretrained_agents_of_one_arm_are_repetitions_and_others_are_not():
    agents = [OnlineAgent(learner=TD3C, start=p, seed=s) for p in (0, 1) for s in (0, 1)]
    assert online_labels(agents, pretrained("td3bc", "td3bc")) == ("td3c append",) * 4
    told = online_labels(agents, pretrained("td3bc on medium", "td3bc on expert"))
    assert told == ("td3c append from td3bc on medium",) * 2 + ("td3c append from td3bc on expert",) * 2
