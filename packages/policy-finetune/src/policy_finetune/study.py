"""Running a study: pre-training, then fine-tuning, each as a sweep of run folders; then the report.

    OUT/study.json         the configuration
    OUT/pretrain/<id>/     one run folder for each pre-trainer
    OUT/finetune/<id>/     one for each group of arms that share a program
    OUT/report/            tables, figures and every number

Killed at any moment and called again, it does what is left.
"""

from __future__ import annotations

import os
from pathlib import Path

from outerloop.config import config_document, load_config, save_config
from outerloop.errors import UserError
from outerloop.sweep import SweepRun
from outerloop.sweep_engines import LocalEngine
from outerloop.sweep_loop import run_sweep
from policy_finetune.study_config import StudyConfig, offline_runs, online_runs

__all__ = ["run_study"]


def run_study(study: StudyConfig, out: Path, *, seed: int = 0, jobs: int = 1, device: str = "auto") -> None:
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
        raise UserError("No dataset is given: name at least one with --data FILE.")
    out.mkdir(parents=True, exist_ok=True)
    record = out / "study.json"
    if record.exists():
        if load_config(StudyConfig, record) != study:
            raise UserError(f"{out} holds another study (study.json differs): choose another folder.")
    else:
        save_config(study, record)
    args = {"seed": seed, "device": device, "quiet": True}
    pretraining = {
        name: SweepRun(("policy-finetune", "pretrain"), config_document(config), args)
        for name, config in offline_runs(study).items()
    }
    _sweep(list(pretraining.values()), out / "pretrain", jobs)
    starts = {name: str(out / "pretrain" / run.id) for name, run in pretraining.items()}
    finetuning = [
        SweepRun(("policy-finetune", "finetune"), config_document(config), args)
        for config in online_runs(study, starts)
    ]
    _sweep(finetuning, out / "finetune", jobs)


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
        raise UserError(f"The study stopped ({why}). Run the same command again to go on.")
