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

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otr.training.config import SCHEMA, TrainConfig
from otr.training.folder import ORIGIN, check_folder, check_origin, is_complete, origin_of, remove_all
from otr.training.inputs import read_inputs, semantics_of
from otr.training.labelled import label_all, load_labelled
from otr.training.labels import read_labels
from otr.training.programs import make_programs, offline_config
from otr.training.report import CONFIG_FILE, ArmResult, listed, read_arms, report
from paperloop.cli import Device, start_jax
from paperloop.errors import NonFiniteError, setting
from paperloop.files import write_json
from paperloop.loop.folder import RunFolder
from paperloop.seeds import check_seed
from paperloop.settings import config_document
from paperloop_data import EpisodeDataset

if TYPE_CHECKING:
    from policy_finetune.config import OfflineConfig
    from policy_finetune.envs.spec import EnvSpec

__all__ = ["train"]


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
    check_folder(out, config, seed)
    if not all(is_complete(out / program.name, config) for program in programs):
        start_jax(device, config.devices)
        spec, data, demos = read_inputs(config, programs, quiet=quiet)
        paths = {name: config.label_files[name] for name in config.used_labels if name in config.label_files}
        given = {name: read_labels(path, data, config.data) for name, path in paths.items()}
        origin = origin_of(config, data, demos, given)
        check_origin(out, config, origin)
        offline = [offline_config(p, config, spec.env_id, out / "data", semantics=semantics_of(data)) for p in programs]
        with RunFolder(out).lock():
            check_folder(out, config, seed)
            check_origin(out, config, origin)  # another process may have been faster
            write_json(out / CONFIG_FILE, {**config_document(config, SCHEMA), "seed": seed, ORIGIN: origin})
            remove_all(out.glob(f".{CONFIG_FILE}.*.tmp"))
            sources = tuple(dict.fromkeys(name for program in programs for name in program.sources))
            files = label_all(out / "data", sources, config, data, demos, given, origin, quiet=quiet)
            del data, demos, given
            datasets = {name: load_labelled(spec, path, config, key) for name, (path, key) in files.items()}
            diverged: dict[str, NonFiniteError] = {}
            for program, one in zip(programs, offline, strict=True):
                if not is_complete(out / program.name, config):
                    try:
                        _run(
                            out / program.name, one, spec, [datasets[name] for name in program.sources],
                            eval_at=config.evaluation_steps, seed=seed, progress=not quiet,
                            log_every=log_every, save_every=save_every, sinks=sinks,
                        )  # fmt: skip
                    except NonFiniteError as error:  # the others do not depend on it
                        diverged[program.name] = error
        if diverged:
            if any(is_complete(out / program.name, config) for program in programs):
                report(out, quiet=quiet)
            raise _divergence(out, diverged)
    report(out, quiet=quiet)
    return read_arms(out)


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
