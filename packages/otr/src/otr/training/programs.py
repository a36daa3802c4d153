"""Who learns from what: the arms of a training, and the programs of policy-finetune that train them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from otr.training.config import CLONING, ORIGINAL, TrainConfig
from paperloop.errors import UserError
from paperloop.settings import did_you_mean, fault

if TYPE_CHECKING:
    from policy_finetune import OfflineConfig

__all__ = ["Arm", "Program", "learner_config", "make_programs", "offline_config"]

#: The share of best episodes that bc10 and bc10-labels clone.
BEST = 0.1


class Arm(NamedTuple):
    """A learner on a dataset; it has an agent for each seed.

    Attributes:
        text: learner and labels, as agents are called in run folders.
        source: the file in OUT/data without its suffix.
        top_fraction: the share of best episodes it learns from.
    """

    text: str
    source: str
    top_fraction: float = 1.0


class Program(NamedTuple):
    """Arms that are trained together, as agents of one compiled program in one run folder.

    Attributes:
        name: of the folder below OUT.
        learner: the configuration that all agents have.
        arms: in the order of the agents, each with all seeds.
    """

    name: str
    learner: Any
    arms: tuple[Arm, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """The files that the arms learn from, each once."""
        return tuple(dict.fromkeys(arm.source for arm in self.arms))


def make_programs(config: TrainConfig) -> list[Program]:
    """Return the programs of a configuration: one for all that clone, one for each other learner.

    Raises:
        UserError: policy-finetune is missing, it knows no such learner, or a dispatch is not a whole number of a
            learner's rounds.
    """
    cloning: list[Arm] = []
    programs = []
    for name in config.learners:
        learner = learner_config(name, config)
        if config.dispatch % (delay := learner.policy_delay):
            field = "updates" if config.updates < config.updates_per_step else "updates_per_step"
            raise fault(
                config, field,
                f"a multiple of {delay}, because the actor of the learner {name!r} is updated once in {delay} updates",
            )  # fmt: skip
        if name == "bc":
            cloning.append(Arm("bc", ORIGINAL))
        elif name == "bc10":
            cloning.append(Arm("bc10 oracle", ORIGINAL, BEST))
        elif name == "bc10-labels":
            cloning += [Arm(f"{name} {labels}", labels, BEST) for labels in config.used_labels]
        else:
            programs.append(Program(name, learner, tuple(Arm(f"{name} {one}", one) for one in config.used_labels)))
    if cloning:
        programs.insert(0, Program("bc", learner_config("bc", config), tuple(cloning)))
    return programs


def learner_config(name: str, config: TrainConfig) -> Any:
    """Return policy-finetune's learner of that name, with the sizes of `config`.

    IQL takes its published settings for the domain (Kostrikov et al. 2021 and Luo et al. 2023): AntMaze expectile 0.9
    and temperature 10, Adroit temperature 0.5 and dropout 0.1 in the actor; its actor's learning rate falls to 0 by a
    cosine over the run.

    Raises:
        UserError: policy-finetune is missing, or it knows no such learner.
    """
    try:
        from policy_finetune import LEARNERS
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "policy_finetune":  # it is there, and lacks something
            raise
        raise UserError("otr train needs the learners of policy-finetune: pip install 'otr[train]'.") from None
    known = dict.fromkeys((*CLONING, *LEARNERS))
    if name not in known:
        raise UserError(f"There is no learner {name!r}{did_you_mean(name, known)}")
    named = "bc" if name in CLONING else "iql-antmaze" if (name, config.domain) == ("iql", "antmaze") else name
    base = LEARNERS[named]
    network = dataclasses.replace(base.network, hidden=config.hidden)
    changes: dict[str, Any] = {}
    if name == "iql" and config.domain == "adroit":
        changes = {"actor_dropout": 0.1, "temperature": 0.5}
    if named.startswith("iql"):
        changes["actor_lr_steps"] = config.num_steps * config.dispatch // base.policy_delay
    return dataclasses.replace(base, network=network, batch_size=config.batch_size, **changes)


def offline_config(program: Program, config: TrainConfig, semantics: Literal["d4rl"] | None = None) -> OfflineConfig:
    """Return policy-finetune's configuration of a program.

    Its data are named by their paths from OUT, where policy-finetune looks for them wherever OUT is moved. Rewards are
    not normalised once more: the labels are scaled already.

    Args:
        program: which.
        config: the whole.
        semantics: "d4rl" for data without next observations.
    """
    from policy_finetune import OfflineAgent, OfflineConfig

    agents = tuple(
        OfflineAgent(
            label=arm.text, learner=program.learner, dataset=program.sources.index(arm.source), seed=number,
            top_fraction=arm.top_fraction,
        )
        for arm in program.arms
        for number in range(config.seeds)
    )  # fmt: skip
    made = OfflineConfig(
        learner=program.learner,
        data=tuple(f"data/{name}.hdf5" for name in program.sources),
        env_id=config.env_id,
        updates=config.updates,
        updates_per_step=config.dispatch,
        seeds=config.seeds,
        agents=agents,
        normalize_observations=config.normalize_observations,
        reward_scale=config.reward_scale,
        reward_bias=config.reward_bias,
        initial_value=config.initial_value,
        eval_episodes=config.eval_episodes,
        devices=max(n for n in range(1, config.devices + 1) if len(agents) % n == 0),
    )
    return dataclasses.replace(made, loading=dataclasses.replace(made.loading, semantics=semantics))
