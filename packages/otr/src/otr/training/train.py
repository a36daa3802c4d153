"""What `otr train` does: label in several ways, train every learner on each, evaluate, report (extra `train`).

    OUT/train.json       the configuration, the seed, and digests of data and demonstrations; others are refused
    OUT/data/            a labelled file for each labeller, and the data as it was for the learners that clone
    OUT/<learner>/       one run folder of policy-finetune for each learner: all labels and seeds, in one program
    OUT/report.json      every number (`otr.training.report`)
    OUT/plots/arms.png   the figure

Killed at any moment and called again, also after OUT was moved, it resumes, and the result is the same bit for bit.
The learners are those of policy-finetune, and so are the run folders, which `policy-finetune evaluate OUT/iql` and
`finetune --start OUT/iql` take.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from otr.config import ORILConfig
from otr.episodes.demonstrations import Score, demonstrations_by, load_demonstrations
from otr.episodes.features import check_compatible
from otr.episodes.files import is_minari, noted_warnings, read_dataset
from otr.episodes.truth import ORIGINAL_REWARDS, with_true_rewards
from otr.labellers import make_labeller
from otr.labels.labelling import label, otr_version, solver_name, with_facts
from otr.labels.output import save_dataset
from otr.training.config import CLONING, ORIGINAL, SCHEMA, TrainConfig
from otr.training.labels import GivenLabels, content_digest, read_labels
from otr.training.report import CONFIG_FILE, ArmResult, listed, read_arms, report
from paperloop.cli import Device, start_jax
from paperloop.errors import NonFiniteError, UserError, printable, setting
from paperloop.files import write_json
from paperloop.loop.folder import RunFolder
from paperloop.seeds import check_seed
from paperloop.settings import config_document, did_you_mean, fault, json_hash, load_config, read_json, to_dict
from paperloop_data import EpisodeDataset, environment_of, next_rows

if TYPE_CHECKING:
    from policy_finetune.config import LearnerConfig, OfflineConfig
    from policy_finetune.envs.pool import EnvSpec

__all__ = ["Arm", "Program", "learner_config", "make_programs", "offline_config", "train"]

#: The attribute of a file in OUT/data that says what it was made from.
KEY = "otr_train"
#: The key of train.json that says what the labels are made from.
ORIGIN = "made_from"
#: What a call may change of an `otr train` that resumes: nothing that results depend on.
FREE = ("devices",)
BEST = 0.1


class Arm(NamedTuple):
    """A learner on a dataset; it has an agent for each seed.

    Attributes:
        learner: its name in `TrainConfig.learners`.
        labels: the name of the labels it learns from or is ranked by, "oracle" for true returns; "" for bc.
        source: the file in OUT/data without its suffix.
        top_fraction: the share of best episodes it learns from.
    """

    learner: str
    labels: str
    source: str
    top_fraction: float = 1.0

    @property
    def text(self) -> str:
        """Learner and labels, as agents are called in run folders."""
        return f"{self.learner} {self.labels}".strip()


class Program(NamedTuple):
    """Arms that are trained together, as agents of one compiled program in one run folder.

    Attributes:
        name: of the folder below OUT.
        learner: the configuration that all agents have.
        arms: in the order of the agents, each with all seeds.
    """

    name: str
    learner: LearnerConfig
    arms: tuple[Arm, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """The files that the arms learn from, each once."""
        return tuple(dict.fromkeys(arm.source for arm in self.arms))


def train(
    config: TrainConfig,
    out: Path,
    *,
    seed: int = 0,
    device: Device = "auto",
    quiet: bool = False,
    log_every: int | None = None,
    save_every: int | None = None,
    sinks: Sequence[Any] = (),
) -> list[ArmResult]:
    """Train every learner on every labelling of a dataset, and report; resumes from what is in the folder.

    A training that resumes demands the data and demonstrations that it began with, otr's version and the solvers. A
    complete one is only reported: its data is not read, so a file that has changed since is not noticed. Where a
    learner diverges the others continue, and the error comes at the end.

    Args:
        config: what to train.
        out: the folder; made if absent.
        seed: everything random follows from it and the agents' own numbers.
        device: where to compute.
        quiet: neither bars nor notes nor table.
        log_every: dispatches between rows of metrics; None for about 100 rows.
        save_every: dispatches between checkpoints; None for one every ten minutes.
        sinks: names of where metrics go in addition to metrics.jsonl, see `paperloop_lab.sinks.make_sinks`.

    Returns:
        The arms; see `otr.training.report`.

    Raises:
        UserError: policy-finetune is missing, data, demonstrations, environment and configuration do not fit together,
            or the folder holds something else. Nothing is written then, where that can be known before.
        NonFiniteError: learners diverged; all others are trained and reported.
    """
    out, seed = Path(out), check_seed(seed)
    programs = make_programs(config)
    _check_folder(out, config, seed)
    if not all(_is_complete(out / program.name, config) for program in programs):
        start_jax(device, config.devices)
        spec, data, demos = _read(config, programs, quiet=quiet)
        paths = {name: config.label_files[name] for name in config.used_labels if name in config.label_files}
        given = {name: read_labels(path, data, config.data) for name, path in paths.items()}
        origin = _origin(config, data, demos, given)
        _check_origin(out, config, origin)
        offline = [offline_config(p, config, spec.env_id, out / "data", semantics=_semantics(data)) for p in programs]
        with RunFolder(out).lock():
            _check_folder(out, config, seed)
            _check_origin(out, config, origin)  # another process may have been faster
            write_json(out / CONFIG_FILE, {**config_document(config, SCHEMA), "seed": seed, ORIGIN: origin})
            _remove(out.glob(f".{CONFIG_FILE}.*.tmp"))
            sources = tuple(dict.fromkeys(name for program in programs for name in program.sources))
            files = _label_all(out / "data", sources, config, data, demos, given, origin, quiet=quiet)
            del data, demos, given
            datasets = {name: _load(spec, path, config, key) for name, (path, key) in files.items()}
            diverged: dict[str, NonFiniteError] = {}
            for program, one in zip(programs, offline, strict=True):
                if not _is_complete(out / program.name, config):
                    try:
                        _run(
                            out / program.name, one, spec, [datasets[name] for name in program.sources],
                            eval_at=config.evaluation_steps, seed=seed, progress=not quiet,
                            log_every=log_every, save_every=save_every, sinks=sinks,
                        )  # fmt: skip
                    except NonFiniteError as error:  # the others do not depend on it
                        diverged[program.name] = error
        if diverged:
            if any(_is_complete(out / program.name, config) for program in programs):
                report(out, quiet=quiet)
            raise _divergence(out, diverged)
    report(out, quiet=quiet)
    return read_arms(out)


# --------------------------------------------------------------------------------------- who learns from what


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
        if config.dispatch % learner.policy_delay:
            field = "updates" if config.updates < config.updates_per_step else "updates_per_step"
            delay = learner.policy_delay
            raise fault(
                config, field,
                f"a multiple of {delay}, because the actor of the learner {name!r} is updated once in {delay} updates",
            )  # fmt: skip
        if name == "bc":
            cloning.append(Arm("bc", "", ORIGINAL))
        elif name == "bc10":
            cloning.append(Arm("bc10", "oracle", ORIGINAL, BEST))
        elif name == "bc10-labels":
            cloning += [Arm(name, labels, labels, BEST) for labels in config.used_labels]
        else:
            programs.append(Program(name, learner, tuple(Arm(name, labels, labels) for labels in config.used_labels)))
    if cloning:
        programs.insert(0, Program("bc", learner_config("bc", config), tuple(cloning)))
    return programs


def learner_config(name: str, config: TrainConfig) -> LearnerConfig:
    """Return policy-finetune's learner of that name, with the sizes of `config`.

    IQL takes its published settings for the domain (Kostrikov et al. 2021 and Luo et al. 2023): AntMaze expectile 0.9
    and temperature 10, Adroit temperature 0.5 and dropout 0.1 in the actor; its actor's learning rate falls to 0 by a
    cosine over the run.

    Raises:
        UserError: policy-finetune is missing, or it knows no such learner.
    """
    try:
        from policy_finetune.presets import LEARNERS, offline_presets
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "policy_finetune":  # it is there, and lacks something
            raise
        raise UserError("otr train needs the learners of policy-finetune: pip install 'otr[train]'.") from None
    known = dict.fromkeys((*CLONING, *offline_presets()))
    if name not in known:
        raise UserError(f"There is no learner {name!r}{did_you_mean(name, known)}")
    if name in CLONING:
        base = LEARNERS["bc"]
    elif name == "iql" and config.domain == "antmaze":
        base = LEARNERS["iql-antmaze"]
    else:
        base = LEARNERS[name]
    network = dataclasses.replace(base.network, hidden=config.hidden)
    changes: dict[str, Any] = {}
    if name == "iql" and config.domain == "adroit":
        network = dataclasses.replace(network, actor_dropout=0.1)
        changes["temperature"] = 0.5
    if base.name == "iql":
        changes["actor_lr_steps"] = config.num_steps * config.dispatch // base.policy_delay
    return dataclasses.replace(base, network=network, batch_size=config.batch_size, **changes)


def offline_config(
    program: Program, config: TrainConfig, env_id: str, folder: Path, *, semantics: str = "exact"
) -> OfflineConfig:
    """Return policy-finetune's configuration of a program.

    Rewards are not normalised once more: the labels are scaled already.

    Args:
        program: which.
        config: the whole.
        env_id: gymnasium's name of the environment.
        folder: where the labelled files are.
        semantics: "exact", or "d4rl" for data without next observations.
    """
    from policy_finetune.config import DataOptions, OfflineAgent, OfflineConfig

    agents = tuple(
        OfflineAgent(
            label=arm.text,
            learner=program.learner,
            dataset=program.sources.index(arm.source),
            seed=number,
            top_fraction=arm.top_fraction,
        )
        for arm in program.arms
        for number in range(config.seeds)
    )
    return OfflineConfig(
        learner=program.learner,
        data=tuple(str(folder / f"{name}.hdf5") for name in program.sources),
        loading=DataOptions(semantics="d4rl" if semantics == "d4rl" else None),
        env_id=env_id,
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


# ------------------------------------------------------------------------------------------------- what is there


def _check_folder(out: Path, config: TrainConfig, seed: int) -> None:
    """Refuse a folder that holds anything but this training; nothing is written."""
    path = out / CONFIG_FILE
    if not path.exists():
        if out.exists() and (not out.is_dir() or not all(_may_precede(p) for p in out.iterdir())):
            raise UserError(
                f"{out} exists and is not a folder of otr train (no {CONFIG_FILE}): choose another {setting('out')}."
            )
        return
    before, here = to_dict(load_config(TrainConfig, path, SCHEMA)), to_dict(config)
    names = [name for name in here if before[name] != here[name] and name not in FREE]
    changed = [f"{setting(name)} ({_shown(before[name])} there, {_shown(here[name])} here)" for name in names]
    stated = read_json(path).get("seed")
    if stated != seed:
        changed.append(f"{setting('seed')} ({stated} there, {seed} here)")
    if changed:
        changed = changed if len(changed) < 6 else [*changed[:5], f"and {len(changed) - 5} more"]
        raise UserError(
            f"{out} holds another training, which differs in {', '.join(changed)}: choose another "
            f"{setting('out')}, or give {setting('out')} "
            "alone, which resumes it and shows its settings."
        )


def _shown(value: Any) -> str:
    """A value in the words of the command line; "none" for an empty one."""
    words = value if isinstance(value, list | tuple) else [] if value in ("", None) else [value]
    return " ".join(map(str, words)) or "none"


def _may_precede(path: Path) -> bool:
    """Whether a process killed before train.json was there leaves such a file."""
    return path.name == ".lock" or (path.name.startswith(f".{CONFIG_FILE}.") and path.name.endswith(".tmp"))


def _remove(leftovers: Iterable[Path]) -> None:
    """Remove what killed processes left; the lock is held, so that no process is writing it."""
    for path in leftovers:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _is_complete(folder: Path, config: TrainConfig) -> bool:
    record = RunFolder(folder).record()
    return record is not None and record["status"] == "complete" and record.get("step") == config.num_steps


# --------------------------------------------------------------------------------------------------------- the data


def _read(
    config: TrainConfig, programs: Sequence[Program], *, quiet: bool
) -> tuple[EnvSpec, EpisodeDataset, EpisodeDataset]:
    """Return environment, data and demonstrations, held against one another before anything is written."""
    from policy_finetune.data.checks import load_for
    from policy_finetune.envs.pool import EnvSpec

    if not config.data:
        raise UserError(f"No dataset is given: name one with {setting('data')}.")
    spec = EnvSpec.of(config.env_id) if config.env_id else None
    limit = config.max_episode_steps
    if limit is None and spec is not None and not is_minari(config.data):
        limit = spec.max_episode_steps  # makes a difference only where the file has no time-outs
    parts = {"observation_keys": config.observation_keys, "action_keys": config.action_keys}
    keys: dict[str, Any] = {name: value or None for name, value in parts.items()}
    with noted_warnings():
        data = read_dataset(
            config.data, episode_ends=config.episode_ends, max_episode_steps=limit,
            drop_nonfinite=config.drop_nonfinite, **keys,
        )  # fmt: skip
        notes = []
        restored = with_true_rewards(data)
        if restored is not data:
            data = restored
            notes.append("The data was labelled before: the rewards that it had before that count as the true ones.")
        _need_truth(data, config)
        reading = {**keys, "drop_nonfinite": config.drop_nonfinite}
        demos = load_demonstrations(config.demos, data, score=_score(config), **{k: v for k, v in reading.items() if v})
    spec = spec or EnvSpec.of(_environment(data, config))
    checked, findings = load_for(spec, data, batch_size=config.batch_size)
    _need_batches(checked, config, programs)
    _need_labels(data, demos, config)
    if not quiet:
        for note in (*notes, *findings):
            print(printable(f"note: {note}"), file=sys.stderr)
    return spec, data, demos


def _score(config: TrainConfig) -> Score:
    """What top:K ranks by."""
    return config.demo_score or ("antmaze" if config.domain == "antmaze" else "return")


def _environment(data: EpisodeDataset, config: TrainConfig) -> str:
    """The environment that the data states."""
    found = environment_of(data)
    if found is None:
        raise UserError(f"{config.data} does not say which environment it is of: name it with {setting('env_id')}.")
    return found.id


def _need_truth(data: EpisodeDataset, config: TrainConfig) -> None:
    """Refuse what needs true rewards where there are none."""
    if data.rewards.any():
        return
    needy = [f"the labels {name!r}" for name in config.used_labels if name == "oracle"]
    needy += [f"the learner {name!r}" for name in config.learners if name == "bc10"]
    needy += [f"the labels {name!r}" for name in config.used_labels if name == "uds"]
    if needy:
        raise UserError(
            f"{config.data}: every reward is 0, so the true rewards, which {needy[0]} needs, are not known: leave it "
            "out, or give data that has them."
        )


def _semantics(data: EpisodeDataset) -> Literal["exact", "d4rl"]:
    """Which steps learners learn from: without stored next observations the last of an episode has none."""
    return "d4rl" if next_rows(data) is None else "exact"


def _need_batches(data: EpisodeDataset, config: TrainConfig, programs: Sequence[Program]) -> None:
    """Refuse a batch that transitions, or those of the best episodes by true return, do not fill.

    Of the best by labels only the trainer can know.
    """
    episodes = data.episode_of_row[data.transitions(_semantics(data)).rows]
    wanted = {arm.top_fraction for program in programs for arm in program.arms if arm.learner != "bc10-labels"}
    ranked = np.argsort(-data.returns(), kind="stable")
    for fraction in sorted(wanted, reverse=True):
        best = ranked[: int(np.ceil(fraction * data.num_episodes - 1e-9))]
        count = int(np.isin(episodes, best).sum())
        if count < config.batch_size:
            what = "it has" if fraction == 1 else f"the best {fraction:.0%} of its episodes have"
            raise UserError(
                f"{config.data}: {what} {count} transitions, fewer than the batch size of {config.batch_size}: give a "
                f"smaller {setting('batch_size')}{'' if fraction == 1 else ', or leave bc10 out'}."
            )


def _need_labels(data: EpisodeDataset, demos: EpisodeDataset, config: TrainConfig) -> None:
    """Refuse labels that data and demonstrations lack something for, before anything is written."""
    settings = {name: config.label_config(name) for name in config.used_presets}
    compared = {name: one.features for name, one in settings.items() if hasattr(one, "features")}
    needy = [name for name, one in compared.items() if "next" in one.inputs and one.missing_next == "error"]
    for part in (data, demos):
        if needy and next_rows(part) is None:
            names, verb = listed([repr(name) for name in needy]), "compares" if len(needy) == 1 else "compare"
            raise UserError(
                f"{part.where}: no next observations are stored, which {names} {verb}: "
                f"leave {names} out of {setting('labels')}, or give {'data' if part is data else 'demonstrations'} "
                "with next observations."
            )
    one_episode = data.select([0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say is said when the whole is labelled
        for name, one in settings.items():
            if isinstance(one, ORILConfig):  # its fit is the training of a network
                check_compatible(data, demos, one.features)
            else:  # whoever compares features can do with little data here; UDS searches all of it
                make_labeller(one).fit(demos, one_episode if name in compared else data)


def _origin(
    config: TrainConfig, data: EpisodeDataset, demos: EpisodeDataset, given: Mapping[str, GivenLabels]
) -> dict[str, Any]:
    """What labels are made from, apart from the configuration: contents, version, solvers; JSON-ready."""
    solvers = {name: solver_name(config.label_config(name)) for name in config.used_presets}
    files = {name: one.digest for name, one in given.items()}
    return {
        "data": content_digest(data),
        "demonstrations": content_digest(demos),
        "otr": otr_version(),
        "solvers": {name: solver for name, solver in solvers.items() if solver},
        **({"label_files": files} if files else {}),
    }


def _check_origin(out: Path, config: TrainConfig, here: Mapping[str, Any]) -> None:
    """Refuse to resume with other data than a training began with: its arms could not be compared."""
    path = out / CONFIG_FILE
    if not path.exists():
        return
    before = read_json(path).get(ORIGIN)
    files = before.get("label_files", {}) if isinstance(before, dict) else None
    if not isinstance(before, dict) or before.keys() != here.keys() or not isinstance(files, dict):
        raise UserError(f"{path} does not say which data it began with: choose another {setting('out')}.")
    for what, name in (("data", config.data), ("demonstrations", config.demos)):
        if before[what] != here[what]:
            raise UserError(
                f"{name}: the {what} are not those that the training in {out} began with: restore the {what}, or "
                f"choose another {setting('out')}."
            )
    for name, digest in here.get("label_files", {}).items():
        if files.get(name) != digest:
            raise UserError(
                f"{config.label_files[name]}: the labels are not those that the training in {out} began with: restore "
                f"the file, or choose another {setting('out')}."
            )
    if before["otr"] != here["otr"]:
        raise UserError(
            f"{out} was begun with otr {before['otr']}, and this is {here['otr']}, whose labels may differ: resume "
            f"with that version, or choose another {setting('out')}."
        )
    if before["solvers"] != here["solvers"]:
        raise UserError(
            f"{out} was begun with the solvers {before['solvers']}, and here they are {here['solvers']}: resume where "
            f"it was begun ({setting('device')}, extra numba), or choose another {setting('out')}."
        )


def _label_all(
    folder: Path, sources: Iterable[str], config: TrainConfig, data: EpisodeDataset, demos: EpisodeDataset,
    given: Mapping[str, GivenLabels], origin: Mapping[str, Any], *, quiet: bool,
) -> dict[str, tuple[Path, str]]:  # fmt: skip
    """Write the files that are missing; returns name -> (path, key that it has to have)."""
    folder.mkdir(exist_ok=True)
    # A killed process leaves a partial file, or the chunks of a complete one. From other chunks labelling resumes.
    _remove(folder.glob(".*.hdf5.*.tmp"))
    _remove(folder / f".{name}.labels" for name in sources if (folder / f"{name}.hdf5").exists())
    contents = [origin["data"], origin["demonstrations"], origin["otr"]]
    files = {}
    with noted_warnings():
        for name in sources:
            path = folder / f"{name}.hdf5"
            labeller = None if name == ORIGINAL or name in given else config.label_config(name)
            made_by = None if labeller is None else [to_dict(labeller), origin["solvers"].get(name, "")]
            made_by = given[name].digest if name in given else made_by
            key = json_hash([*contents, name, made_by])
            files[name] = path, key
            if path.exists():
                continue
            dataset = given[name].on(data, ORIGINAL_REWARDS) if name in given else data
            if labeller is not None:
                store = folder / f".{name}.labels"
                dataset = label(data, demos, labeller, store=store, progress=not quiet).dataset
                by = demonstrations_by(config.demos, _score(config))
                dataset = with_facts(dataset, {"domain": config.domain, "demonstrations_by": by})
            attributes = {**dataset.attributes, KEY: {"key": key}}
            dataset = dataset.replace(attributes=attributes, provenance=dataset.provenance)
            save_dataset(dataset, path, "d4rl", overwrite=False, compress=False)
            shutil.rmtree(folder / f".{name}.labels", ignore_errors=True)
    return files


def _load(spec: EnvSpec, path: Path, config: TrainConfig, key: str) -> EpisodeDataset:
    """Return what the learners get to see of a file in OUT/data: read as policy-finetune itself reads it."""
    from policy_finetune.data.checks import load_for

    # What is worth saying of the data was said of the data itself; its states are not replayed for rewards that are
    # not the simulator's.
    data, _ = load_for(spec, path, batch_size=config.batch_size, replay=False, extras=False)
    if data.attributes.get(KEY) != {"key": key}:
        raise UserError(
            f"{path} is not the file that this training made there: restore it, or choose another {setting('out')}."
        )
    return data


# ------------------------------------------------------------------------------------------------------ the training


def _run(
    folder: Path,
    config: OfflineConfig,
    spec: EnvSpec,
    datasets: Sequence[EpisodeDataset],
    *,
    sinks: Sequence[Any],
    **arguments: Any,
) -> None:
    """Train one program in its run folder."""
    from paperloop.loop.runner import run
    from paperloop_lab.sinks import make_sinks
    from policy_finetune.trainers.evaluators import EvaluationReturns
    from policy_finetune.trainers.offline import OfflineTrainer

    trainer: Any = OfflineTrainer(config, datasets, spec=spec)
    # Where the files lie is another text once OUT is moved or spelled otherwise; that they are the same is checked by
    # their keys, and by the digest of the rows in every checkpoint.
    trainer.resume_ignores = (*OfflineTrainer.resume_ignores, "data")
    evaluators = {"evaluation": EvaluationReturns(trainer, spec, episodes=config.eval_episodes)}
    run(
        trainer, folder, steps=trainer.num_steps, evaluators=evaluators, sinks=make_sinks(sinks),
        **arguments,
    )  # fmt: skip


def _divergence(out: Path, diverged: Mapping[str, NonFiniteError]) -> NonFiniteError:
    """What is said of learners that diverged, once all others are trained."""
    verb, them = ("is", "it") if len(diverged) == 1 else ("are", "them")
    why = " and ".join(f"{name}: {str(error).split(';')[0]}" for name, error in diverged.items())
    return NonFiniteError(
        f"{listed(list(diverged))} diverged and {verb} not in the report of {out} ({why}): train again in "
        f"another {setting('out')} with a smaller {setting('reward_scale')}, or without {them}."
    )
