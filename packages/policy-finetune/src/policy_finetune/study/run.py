"""Running a study: pre-training, then fine-tuning, each as a sweep of run folders; then the report.

    OUT/study.json         the configuration
    OUT/plan.json          the seed, and which run folders belong to the study
    OUT/pretrain/<id>/     one run folder for each pre-trainer
    OUT/finetune/<id>/     one for each group of arms that share a program
    OUT/report/            tables, figures and every number

Killed at any moment and called again, it does what is left.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from paperloop.errors import UserError, setting
from paperloop.files import write_json
from paperloop.settings import config_document, load_config, read_json, save_config
from paperloop_lab.sweep.engines import LocalEngine
from paperloop_lab.sweep.loop import run_sweep
from paperloop_lab.sweep.plan import SweepRun
from policy_finetune.config import SCHEMA
from policy_finetune.study.config import StudyConfig, offline_runs, online_runs

__all__ = ["run_study"]


def run_study(study: StudyConfig, out: str | Path, *, seed: int = 0, jobs: int = 1, device: str = "auto") -> None:
    """Run what is missing of a study in `out`.

    Args:
        study: what to run.
        out: the study's folder.
        seed: everything random follows from it.
        jobs: programs at once; on a CPU as many as cores, with as many `study.parts`.
        device: where to compute.

    Raises:
        UserError: no dataset is given, the folder holds another study, or a run failed.
    """
    if not study.data:
        raise UserError(f"No dataset is given: name at least one with {setting('data')}.")
    out = Path(out)
    record = out / "study.json"
    if record.exists() and load_config(StudyConfig, record, SCHEMA) != study:
        raise UserError(f"{out} holds another study (study.json differs): choose another folder.")
    args = {"seed": seed, "quiet": True} | ({} if device == "auto" else {"device": device})
    pretraining = {
        name: SweepRun(("policy-finetune", "pretrain"), config_document(config, SCHEMA), args)
        for name, config in offline_runs(study).items()
    }
    starts = {name: str(out / "pretrain" / run.id) for name, run in pretraining.items()}
    finetuning = [
        SweepRun(("policy-finetune", "finetune"), config_document(config, SCHEMA), args)
        for config in online_runs(study, starts)
    ]
    plan = {
        "seed": seed,
        "pretrain": {name: run.id for name, run in pretraining.items()},
        "finetune": [run.id for run in finetuning],
    }
    # Only now, when every configuration of the study is known to be a sound one.
    out.mkdir(parents=True, exist_ok=True)
    save_config(study, record, SCHEMA)
    _check_plan(out / "plan.json", plan)
    _sweep(list(pretraining.values()), out / "pretrain", jobs)
    _sweep(finetuning, out / "finetune", jobs)


def _check_plan(path: Path, plan: dict[str, Any]) -> None:
    """Write the plan, or refuse one that differs: its runs and the ones that are there must not be counted together."""
    if not path.exists():
        write_json(path, plan)
        return
    before = read_json(path)
    if not isinstance(before, dict) or "seed" not in before:
        raise UserError(f"{path} does not hold the plan of a study: restore it, or choose another folder.")
    if before["seed"] != plan["seed"]:
        raise UserError(
            f"{path.parent} was begun with {setting('seed', before['seed'])}: give that, or choose another folder."
        )
    if before != plan:
        raise UserError(
            f"{path.parent} was begun under another path, on another device or by another version, and its runs "
            f"differ: give {setting('out')} as it was given then, or choose another folder."
        )


def _sweep(runs: list[SweepRun], out: Path, jobs: int) -> None:
    before = os.environ.get("XLA_FLAGS")
    if jobs > 1:  # each program keeps to its core: threads of several that wait for one another waste both
        os.environ["XLA_FLAGS"] = f"{before or ''} --xla_cpu_multi_thread_eigen=false".strip()
    try:
        result = run_sweep(runs, out, LocalEngine(jobs))
    finally:
        if jobs > 1:
            if before is None:
                del os.environ["XLA_FLAGS"]
            else:
                os.environ["XLA_FLAGS"] = before
    if result.exit_code:
        failed = result.failed[0] if result.failed else None
        why = f"{failed.label}: {failed.reason}; its log is {failed.log}" if failed else "it was interrupted"
        raise UserError(f"The study stopped ({why}). Run the same command again to continue.")
