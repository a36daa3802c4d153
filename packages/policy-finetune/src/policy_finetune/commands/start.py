"""What `finetune` takes over from the run that it starts from without being told."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from paperloop.errors import setting
from policy_finetune.config import NetworkConfig, OnlineConfig

__all__ = ["with_network_of_start"]


def with_network_of_start(config: OnlineConfig, given: Collection[str]) -> tuple[OnlineConfig, list[str]]:
    """Return the configuration with the network of the pre-trained agents, and a note of what that changed.

    What was typed, and what a preset has chosen (10 critics of rlpd), stays as it is; so do all widths where
    `switch.allow_new` lets networks start from scratch, and the critics where `switch.critic_reinit` does.

    Args:
        config: the configuration, whose `start` is a run folder.
        given: paths of the settings that were typed.
    """
    from policy_finetune.trainers.runs import run_config

    network, default = config.learner.network, NetworkConfig()
    if config.agents or config.switch.allow_new:
        return config, []
    before = run_config(config.start).structure.network
    names = ("hidden",) if config.switch.critic_reinit else ("hidden", "critics", "layer_norm")
    taken = {
        name: getattr(before, name)
        for name in names
        if getattr(network, name) == getattr(default, name) != getattr(before, name, getattr(default, name))
        and f"learner.network.{name}" not in given
    }
    if not taken:
        return config, []
    said = ", ".join(setting(f"learner.network.{name}", value) for name, value in taken.items())
    learner = dataclasses.replace(config.learner, network=dataclasses.replace(network, **taken))
    return dataclasses.replace(config, learner=learner), [f"the networks are those of {config.start}: {said}"]
