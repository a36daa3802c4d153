"""What `otr train` does: label in several ways, train every learner on each, evaluate, report (extra `train`).

    OUT/train.json       the configuration, the seed, and digests of what the labels are made from; others are refused
    OUT/data/            a labelled file for each labeller, and the data as it was for the learners that clone
    OUT/<learner>/       one run folder of policy-finetune for each learner: all labels and seeds, in one program
    OUT/report.json      every number (`otr.training.report`)
    OUT/plots/           figures

Killed at any moment and called again, also after OUT was moved, it resumes, and the result is the same bit for bit.
The learners are those of policy-finetune, and so are the run folders, which `policy-finetune evaluate OUT/iql` and
`finetune --start OUT/iql` take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from otr.training.config import SCHEMA, TrainConfig
from otr.training.data import Inputs, read_inputs, write_labelled
from otr.training.programs import Program, make_programs, offline_config
from otr.training.report import CONFIG_FILE, ArmResult, listed, read_arms, report, saved_training
from paperloop.cli import Device, start_jax
from paperloop.errors import NonFiniteError, UserError, setting
from paperloop.files import write_json
from paperloop.loop.folder import RunFolder
from paperloop.seeds import check_seed
from paperloop.settings import config_document, read_json, to_dict
from paperloop_data import EpisodeDataset

__all__ = ["train"]

#: The key of train.json that says what the labels are made from.
ORIGIN = "made_from"


def train(
    config: TrainConfig, out: Path, *, seed: int = 0, device: Device = "auto", quiet: bool = False,
    log_every: int | None = None, save_every: int | None = None, sinks: Sequence[Any] = (),
) -> list[ArmResult]:  # fmt: skip
    """Train every learner on every labelling of a dataset, and report; resumes from what is in the folder.

    A training that resumes demands the data, demonstrations, version of otr and solvers that it began with. A complete
    one is only reported: its data is not read, so a file that has changed since is not noticed. Where a learner
    diverges the others continue, and the error comes at the end.

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
    left = [program for program in programs if not _is_complete(out / program.name, config)]
    diverged: dict[str, NonFiniteError] = {}
    if left:
        start_jax(device, config.devices)
        inputs = read_inputs(config, dict.fromkeys(name for one in programs for name in one.sources), quiet=quiet)
        _check_folder(out, config, seed, inputs.keys)
        with RunFolder(out).lock():
            _check_folder(out, config, seed, inputs.keys)  # another process may have been faster
            document = {**config_document(config, SCHEMA), "seed": seed, ORIGIN: dict(inputs.keys)}
            write_json(out / CONFIG_FILE, document)
            datasets = write_labelled(out / "data", config, inputs, quiet=quiet)
            for program in left:
                try:
                    _run(
                        out / program.name, program, config, inputs, datasets, seed=seed, progress=not quiet,
                        log_every=log_every, save_every=save_every, sinks=sinks,
                    )  # fmt: skip
                except NonFiniteError as error:  # the others do not depend on it
                    diverged[program.name] = error
    if len(diverged) < len(programs):
        report(out, quiet=quiet)
    if diverged:
        why = " and ".join(f"{name}: {str(error).split(';')[0]}" for name, error in diverged.items())
        raise NonFiniteError(
            f"{listed(list(diverged))} diverged and is not in the report of {out} ({why}): train again in another "
            f"{setting('out')} with a smaller {setting('reward_scale')}, or leave it out."
        )
    return read_arms(out)


def _run(
    folder: Path, program: Program, config: TrainConfig, inputs: Inputs, datasets: Mapping[str, EpisodeDataset], *,
    sinks: Sequence[Any], **arguments: Any,
) -> None:  # fmt: skip
    """Train one program in its run folder."""
    from paperloop.loop.runner import run
    from paperloop_lab.sinks import make_sinks
    from policy_finetune import EvaluationReturns, OfflineTrainer

    offline = offline_config(program, config, inputs.semantics)
    trainer = OfflineTrainer(offline, [datasets[name] for name in program.sources], spec=inputs.spec)
    evaluators = {"evaluation": EvaluationReturns(trainer, inputs.spec, episodes=config.eval_episodes)}
    run(
        trainer, folder, steps=trainer.num_steps, evaluators=evaluators, eval_at=config.evaluation_steps,
        sinks=make_sinks(sinks), **arguments,
    )  # fmt: skip


def _is_complete(folder: Path, config: TrainConfig) -> bool:
    record = RunFolder(folder).record()
    return record is not None and record["status"] == "complete" and record.get("step") == config.num_steps


def _check_folder(out: Path, config: TrainConfig, seed: int, keys: Mapping[str, str] | None = None) -> None:
    """Refuse a folder that holds anything but this training; `devices` may differ, which no result depends on."""
    path = out / CONFIG_FILE
    if not path.exists():
        if out.exists() and (not out.is_dir() or any(not one.name.startswith(".") for one in out.iterdir())):
            raise UserError(
                f"{out} exists and is not a folder of otr train (no {CONFIG_FILE}): choose another {setting('out')}."
            )
        return
    saved, began_with = saved_training(out)
    before, here = {**to_dict(saved), "seed": began_with}, {**to_dict(config), "seed": seed}
    changed = [
        f"{setting(name)} ({_shown(before[name])} there, {_shown(here[name])} here)"
        for name in here
        if before[name] != here[name] and name != "devices"
    ]
    if changed:
        raise UserError(
            f"{out} holds another training, which differs in {', '.join(changed[:5])}: choose another "
            f"{setting('out')}, or give {setting('out')} alone, which resumes it and shows its settings."
        )
    other = [name for name, key in (keys or {}).items() if read_json(path).get(ORIGIN, {}).get(name) != key]
    if other:
        raise UserError(
            f"{out} began with other data, demonstrations, labels, solvers or version of otr, for {listed(other)}: "
            f"restore them, or choose another {setting('out')}."
        )


def _shown(value: Any) -> str:
    """A value in the words of the command line; "none" for an empty one."""
    words = value if isinstance(value, list | tuple) else [] if value in ("", None) else [value]
    return " ".join(map(str, words)) or "none"
