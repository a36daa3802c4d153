"""The command `paperloop`: reports, checks of run folders, grids and sweeps."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

from paperloop.cli import App, Positional
from paperloop.errors import CheckpointError, UserError, printable, setting
from paperloop.settings import Count, CountOrZero, Gt, Lt, fault, settings

__all__ = ["main"]

app = App(
    "paperloop",
    "Works on run folders: reports, checks of checkpoints, grids and sweeps.",
    distribution="paperloop-lab",
)


@settings
class ReportOptions:
    """What `paperloop report` takes.

    Attributes:
        runs: run folders, or folders that hold run folders
        out: where to write table and figures; none given: the run's plots/, or report/ next to several runs
        metrics: names of the metrics to show; none given: what the trainer names as its headlines
        group_by: which runs may be pooled: those of equal configuration, or none
        ignore: settings in which repetitions may differ, such as data.path
        statistic: what is computed over the agents of a group
        confidence: coverage of the intervals
        x: the horizontal axis: step, wall or a counter such as env_steps
        html: also write report.html, one page with tables that sort, all figures and each run's pictures
    """

    runs: Positional[tuple[Path, ...]]
    out: Path | None = None
    metrics: tuple[str, ...] = ()
    group_by: Literal["config", "run"] = "config"
    ignore: tuple[str, ...] = ()
    statistic: Literal["iqm", "mean", "median"] = "iqm"
    confidence: Annotated[float, Gt(0), Lt(1)] = 0.95
    x: str = "step"
    html: bool = False


@settings
class FolderOptions:
    """What the commands on one folder take.

    Attributes:
        folder: a run folder, or one of its checkpoints
    """

    folder: Positional[Path]


@settings
class SweepOptions:
    """What `paperloop sweep` takes.

    Attributes:
        file: the sweep file: one complete run per line
        out: the folder that holds the run folders
        engine: where the runs are executed
        jobs: how many run at the same time
        dry_run: list the runs with their states and command lines, and run none
        cpus: CPU cores for a run (slurm, ray)
        gpus: GPUs for a run (slurm, ray)
        wait: wait until all runs have ended; --no-wait only submits the jobs, and the same command later waits for
            them and runs again what failed (slurm)
        slurm_cluster: slurm; or local, submitit's processes on this machine, to try a sweep
        slurm_partition: the partition to submit to
        slurm_minutes: time limit of a job; at its end the run saves and is queued again
        slurm_extra: more sbatch options, as name=value
        ray_address: a Ray cluster's address, or auto; none given: Ray is started here
    """

    file: Positional[Path]
    out: Path = Path("runs/sweep")
    engine: Literal["local", "slurm", "ray"] = "local"
    jobs: Count = 1
    dry_run: bool = False
    cpus: Count = 1
    gpus: CountOrZero = 0
    wait: bool = True
    slurm_cluster: Literal["slurm", "local"] = "slurm"
    slurm_partition: str | None = None
    slurm_minutes: Count = 24 * 60
    slurm_extra: tuple[str, ...] = ()
    ray_address: str | None = None

    def __post_init__(self) -> None:
        if not self.wait and (self.engine, self.slurm_cluster) != ("slurm", "slurm"):
            needed = f"{setting('wait', False)} needs {setting('engine', 'slurm')}"
            raise UserError(f"{needed}: elsewhere the runs end with the sweep.")
        if not all(item.partition("=")[2] for item in self.slurm_extra):
            raise fault(self, "slurm_extra", "a list of name=value, such as account=lab")


@settings
class GridOptions:
    """What `paperloop grid` takes.

    Attributes:
        command: after --, the command as you would type it, such as minimax-ued train --preset small
        vary: options of that command and their values, such as ppo.lr=1e-3,1e-4 n_envs=16,32
        seeds: number of runs of each combination, with seeds from 0
        out: the sweep file to write; none given: standard output
    """

    command: Positional[tuple[str, ...]]
    vary: tuple[str, ...] = ()
    seeds: Count | None = None
    out: Path | None = None

    def __post_init__(self) -> None:
        if not all(name and values for name, _, values in (item.partition("=") for item in self.vary)):
            raise fault(self, "vary", "a list of option=value,value,..., such as ppo.lr=1e-3,1e-4")


@app.command(options=ReportOptions)
def report(options: ReportOptions) -> int | None:
    """Write a table and figures from run folders."""
    from paperloop_lab.report import report_command

    choices = {name: getattr(options, name) for name in ("group_by", "ignore", "statistic", "confidence", "x", "html")}
    return report_command(options.runs, out=options.out, metrics=options.metrics or None, **choices)


@app.command(options=FolderOptions)
def verify(options: FolderOptions) -> int:
    """Check every byte of a run's checkpoints, or of one checkpoint, and that they and the metrics belong to it."""
    from paperloop.loop.checkpoint import Checkpoints
    from paperloop.loop.checkpoint import verify as check
    from paperloop.loop.folder import foreign
    from paperloop.settings import read_json
    from paperloop_lab.report.checks import rows_fault

    folder, record = options.folder, {}
    if (folder / "manifest.json").exists() or (folder / "DONE").exists():
        folders = [folder]
    else:
        inside = folder / "checkpoints" if (folder / "checkpoints").is_dir() else folder
        checkpoints = Checkpoints(inside)
        folders = [checkpoints.path(step) for step in checkpoints.steps()]
        if (folder / "run.json").exists() and not isinstance(record := read_json(folder / "run.json"), dict):
            raise UserError(f"{folder / 'run.json'} is not the record of a run: restore it.")
    if not folders:
        raise UserError(f"{folder} holds no complete checkpoint: give a run folder or a checkpoint's folder.")
    held = (("method", "method"), ("seed", "seed"), ("config", "resume_hash"))
    facts = {name: record[key] for name, key in held if key in record}
    damaged = 0
    for checkpoint in folders:
        try:
            fault = foreign(check(checkpoint), facts)
            damaged += bool(fault)
            print(printable(f"foreign  {checkpoint}: it {fault}." if fault else f"intact   {checkpoint}"))
        except CheckpointError as error:
            damaged += 1
            print(printable(f"damaged  {checkpoint}: {error}"))
    if record:
        fault = rows_fault(folder, record)
        damaged += bool(fault)
        print(printable(f"changed  {fault}" if fault else f"intact   {folder / 'metrics.jsonl'}"))
    return 2 if damaged else 0


@app.command(options=GridOptions, essentials=("vary", "seeds"))
def grid(options: GridOptions) -> None:
    """Write a sweep file: every combination of some options of a command, as complete configurations."""
    from paperloop_lab.sweep.grid import grid_of_command
    from paperloop_lab.sweep.plan import counted, line, write_sweep

    vary = {}
    for item in options.vary:
        name, _, values = item.partition("=")
        name = name.removeprefix("--").replace("_", "-")
        if name in vary:
            raise fault(options, "vary", f"given once for each option, with all of its values; {name} is there twice")
        vary[name] = values.split(",")
    if options.seeds is not None:
        if "seed" in vary:
            raise UserError(f"{setting('seeds', options.seeds)} and the seed in {setting('vary')} exclude each other.")
        vary["seed"] = [str(seed) for seed in range(options.seeds)]
    runs = grid_of_command(options.command, vary)
    if options.out is None:
        sys.stdout.writelines(map(line, runs))
    else:
        write_sweep(runs, options.out)
    product = " x ".join(f"{len(values)} of {name}" for name, values in vary.items())
    print(f"{counted(len(runs))}{': ' * bool(product)}{product}", file=sys.stderr)


@app.command(options=SweepOptions)
def sweep(options: SweepOptions) -> int:
    """Run what is missing or incomplete of a sweep file."""
    from paperloop_lab.sweep.loop import plan, run_sweep
    from paperloop_lab.sweep.plan import read_sweep

    runs = read_sweep(options.file)
    if options.dry_run:
        for run, label, status in plan(runs, options.out):
            print(printable(f"{status:<11} {run.id}  {label}"))
            print(printable(f"{'':<11} {shlex.join(run.argv(options.out / run.id))}"))
        return 0
    engine = _engine(options)
    try:
        return run_sweep(runs, options.out, engine, wait=options.wait).exit_code
    finally:
        engine.close()


def _engine(options: SweepOptions):
    from paperloop_lab.sweep.engines import LocalEngine, RayEngine, SlurmEngine

    if options.engine == "local":
        return LocalEngine(options.jobs)
    if options.engine == "ray":
        return RayEngine(options.jobs, options.ray_address, options.cpus, options.gpus)
    parameters = {
        "name": "paperloop",
        "timeout_min": options.slurm_minutes,
        "cpus_per_task": options.cpus,
        "gpus_per_node": options.gpus or None,
        "slurm_partition": options.slurm_partition,
        "slurm_additional_parameters": dict(item.split("=", 1) for item in options.slurm_extra) or None,
    }
    parameters = {name: value for name, value in parameters.items() if value is not None}
    return SlurmEngine(options.out, options.jobs, options.slurm_cluster, parameters)


main = app.main
