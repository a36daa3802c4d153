"""Keep the start *and* learn fast: which settings of TD3-C do both, and what makes the difference?

    python -m benchmarks.policy_finetune_improve --task pendulum --jobs 2
    python -m benchmarks.policy_finetune_improve --task hopper --jobs 2

Narrow data only, where plain TD3 collapses. The search crosses learner, multiplier schedule (ε growing fifty-fold over
the first half), critic warm-up, replay, and LayerNorm in all critics, offline and online alike. On Hopper, where none
of these does both, a second round keeps closer: offline data in the replay, a tenth of ε, the distance to the
pre-trained policy itself instead of the trailing one, a distance for each action, and a BC term next to the constraint,
kept or fading. A third has five critics with LayerNorm, all of whose minimum is the target and whose mean the actor
climbs, with the offline data kept.

For each arm: median of minimum / start, area under the curve and final return, with 95 % bootstrap intervals over
agents. The minimum of a dozen evaluations of few episodes may be low for a policy that hardly moves, so each kind of
network has an arm without training (`benchmarks.policy_finetune_controls`), and start and final are measured anew
over 50 episodes. An arm *does both* when its median minimum / start is at least 0.8 of that of no training, and the
interval of its final return, measured anew, lies above those of plain TD3 and TD3+BC. Whether LayerNorm alone
explains it is answered by the arms that have it without the constraint.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import policy_finetune_data as data
from benchmarks.harness import ROOT, figure_path, record, table, write_result
from benchmarks.policy_finetune_controls import FROZEN, frozen_curves, measured_again
from benchmarks.policy_finetune_study import Arm, Study, curves_figure, pooled, read_study, run_study, study_tables
from benchmarks.policy_finetune_verdicts import KEEPS
from policy_finetune.config import (
    AppendReplay,
    DropReplay,
    DualConstraint,
    Fade,
    Growth,
    Offline,
    SwitchConfig,
    SymmetricReplay,
    TD3Config,
)
from policy_finetune.presets import LEARNERS


@dataclasses.dataclass(frozen=True)
class Task:
    """What is fine-tuned, and how long."""

    env_id: str
    hidden: tuple[int, ...]
    pre_seeds: int
    seeds: int
    updates: int
    env_steps: int
    warmup: int
    eval_env_steps: int
    eval_episodes: int
    data_steps: int
    batch_size: int = 256
    closer: bool = False


#: Arms that the winner must be above.
BASELINES = ("td3", "td3bc", "td3bc append")

#: Episodes by which starts and finals are measured anew.
AGAIN = 50

#: Critics of the third round.
ENSEMBLE = 5

TASKS = {
    "pendulum": Task(data.ENV, (64, 64), 2, 1, 20_000, 10_000, 1000, 1000, 3, 20_000),
    "hopper": Task("Hopper-v5", (128, 128), 2, 2, 30_000, 20_000, 1000, 2500, 5, 100_000, closer=True),
    "smoke": Task(data.ENV, (8, 8), 1, 1, 100, 800, 200, 200, 1, 2000, 32),
}


def arms(task: Task, label: str) -> tuple[Arm, ...]:
    """Return the arms of one kind of network."""
    td3c, half = LEARNERS["td3c"], task.env_steps // 2
    ramp = TD3Config(constraint=DualConstraint(growth=Growth(to=1e-2, steps=half)))
    drop = DropReplay()
    warm = SwitchConfig(warmup_env_steps=task.warmup, critic_warmup=2 * task.warmup)
    out = [
        Arm(label=f"td3{label}", learner=LEARNERS["td3"], replay=drop),
        Arm(label=f"td3bc{label}", learner=LEARNERS["td3bc"], replay=drop),
        Arm(label=f"td3c{label}", learner=td3c, replay=drop),
        Arm(label=f"td3c ramp{label}", learner=ramp, replay=drop),
    ]
    if not label:
        out += [
            Arm(label="td3bc append", learner=LEARNERS["td3bc"], replay=AppendReplay()),
            Arm(label="td3c critic-warmup", learner=td3c, replay=drop, switch=warm),
            Arm(label="td3c symmetric", learner=td3c, replay=SymmetricReplay()),
        ]
    return tuple(out)


def closer_arms(task: Task, label: str) -> tuple[Arm, ...]:
    """Return the arms of the second round: nearer to the policy that is there, and to its data."""

    def td3c(bc_weight: float = 0.0, **constraint: Any) -> TD3Config:
        weights = {"bc_weight": bc_weight, "q_weight": 2.5} if bc_weight else {}
        return TD3Config(constraint=DualConstraint(**constraint), **weights)

    append = AppendReplay()
    both = Arm(label=f"td3bc+c append{label}", learner=td3c(1.0), replay=append)
    if label:
        return (Arm(label=f"td3bc append{label}", learner=LEARNERS["td3bc"], replay=append), both)
    fading = dataclasses.replace(td3c(1.0), bc_fade=Fade(steps=task.env_steps, floor=0.2))
    return (
        both,
        Arm(label="td3bc+c fading append", learner=fading, replay=append),
        Arm(label="td3c append", learner=td3c(), replay=append),
        Arm(label="td3c ε=1e-4 append", learner=td3c(epsilon=1e-4), replay=append),
        Arm(label="td3c offline reference append", learner=td3c(reference=Offline(), epsilon=1e-2), replay=append),
        Arm(label="td3c per action append", learner=td3c(distance="mse_per_dim"), replay=append),
    )


def ensemble_arms() -> tuple[Arm, ...]:
    """Return the arms of the third round, for several critics with LayerNorm."""
    append = AppendReplay()
    names = {"td3": (0.0, False), "td3bc": (1.0, False), "td3c": (0.0, True), "td3bc+c": (1.0, True)}
    out = []
    for name, (bc_weight, constrained) in names.items():
        base = LEARNERS["td3c" if constrained else "td3"]
        learner = dataclasses.replace(
            base, actor_q="mean", bc_weight=bc_weight, q_weight=2.5 if bc_weight else base.q_weight
        )
        out.append(Arm(label=f"{name} append ensemble", learner=learner, replay=append))
    return tuple(out)


@dataclasses.dataclass(frozen=True)
class Group:
    """Arms whose agents share a pre-training."""

    folder: str
    arms: tuple[Arm, ...]
    layer_norm: bool = False
    critics: int | None = None
    control: str = ""
    """name of the arm without training; empty: another group with the same networks has it"""


def groups(task: Task) -> list[Group]:
    """Return the studies of a search."""
    out = [
        Group("plain", arms(task, ""), control=FROZEN),
        Group("layer-norm", arms(task, " LayerNorm"), layer_norm=True, control=f"{FROZEN} LayerNorm"),
    ]
    if task.closer:
        out += [
            Group("plain-closer", closer_arms(task, "")),
            Group("layer-norm-closer", closer_arms(task, " LayerNorm"), layer_norm=True),
            Group("ensemble", ensemble_arms(), layer_norm=True, critics=ENSEMBLE, control=f"{FROZEN} ensemble"),
        ]
    return out


def study_of(task: Task, files: Sequence[Path], group: Group, *, parts: int) -> Study:
    """Return the study of one kind of network."""
    return Study(
        env_id=task.env_id, data=tuple(map(str, files)), arms=group.arms, pre_seeds=task.pre_seeds, seeds=task.seeds,
        updates=task.updates, env_steps=task.env_steps, hidden=task.hidden, layer_norm=group.layer_norm,
        critics=group.critics, switch=SwitchConfig(warmup_env_steps=task.warmup), eval_env_steps=task.eval_env_steps,
        eval_episodes=task.eval_episodes, batch_size=task.batch_size, parts=parts,
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy_finetune_improve")
    parser.add_argument("--task", choices=TASKS, default="pendulum")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--data", type=Path, nargs="*", help="narrow datasets, made already")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args(arguments)
    from paperloop_lab.plots import save_figure
    from policy_finetune.envs.references import random_return

    task = TASKS[options.task]
    out = options.out or ROOT / ".cache" / "bench" / "policy-finetune-improve" / options.task
    files = options.data or _narrow(task, out / "data", smoke=options.task == "smoke")
    chance = random_return(task.env_id)
    for group in groups(task):
        study = study_of(task, files, group, parts=options.jobs)
        run_study(study, out / group.folder, jobs=options.jobs, device=options.device)
    curves, again, control = [], [], {}
    for group in groups(task):  # only now: what follows starts JAX in this process, which should start no others then
        folder = out / group.folder
        mine = read_study(folder, random_return=chance)
        curves += mine
        if group.control:
            curves += frozen_curves(
                folder, mine, episodes=task.eval_episodes, random_return=chance, label=group.control
            )
        control |= {arm.label: (group.layer_norm, group.critics) for arm in group.arms}
        control |= {(group.layer_norm, group.critics): group.control} if group.control else {}
        again += measured_again(folder, mine, episodes=4 if options.task == "smoke" else AGAIN)
    rows = study_tables(pooled(curves, "narrow"))
    anew = {row["arm"]: row for row in study_tables(pooled(again, "narrow"))}
    kept = {row["arm"]: row["min_over_start"][0] for row in rows}
    for row in rows:
        here = anew.get(row["arm"])
        row["start_again"], row["final_again"] = (here["start"], here["final"]) if here else (None, None)
    bar = max(anew[arm]["final"][2] for arm in BASELINES)
    both = [
        arm for arm in anew
        if kept[arm] >= KEEPS * kept[control[control[arm]]] and anew[arm]["final"][1] > bar
    ]  # fmt: skip
    metrics = ("start", "start_again", "min_over_start", "auc", "final", "final_again")
    print(table([[row["arm"], str(row["agents"]), *(_cell(row[m]) for m in metrics)] for row in rows],
                ["arm", "agents", "start", "anew", "min/start", "area", "final", "anew"]))  # fmt: skip
    print(f"keep the start and end above plain TD3 and TD3+BC: {', '.join(both) or 'none'}")
    if options.task != "smoke" and not options.no_record:
        name = f"policy_finetune_improve-{options.task}"
        given = sys.argv[1:] if arguments is None else list(arguments)
        result = {
            "benchmark": name,
            **record("benchmarks.policy_finetune_improve", given, ["policy-finetune"]),
            "task": dataclasses.asdict(task),
            "datasets": data.describe(files),
            "both": both,
            "rows": rows,
            "agents": [curve.record() for curve in curves],
            "episodes_again": AGAIN,
            "agents_again": [
                {
                    "arm": c.arm,
                    "dataset": c.dataset,
                    "start": c.start,
                    "seed": c.seed,
                    "before": c.returns[0],
                    "after": c.returns[1],
                }
                for c in again
            ],
        }
        write_result(name, result)
        save_figure(curves_figure(pooled(curves, "narrow")), figure_path(name))
    return 0


def _cell(value: Sequence[float] | None) -> str:
    if value is None:
        return ""
    form = "{:.2f}" if abs(value[0]) < 10 else "{:.0f}"
    return f"{form.format(value[0])} [{form.format(value[1])}, {form.format(value[2])}]"


def _narrow(task: Task, folder: Path, *, smoke: bool) -> list[Path]:
    """Return the narrow datasets, making those that are missing."""
    if task.env_id == data.ENV:
        made = data.make(folder, (0,) if smoke else (0, 1, 2), steps=task.data_steps, hidden=task.hidden)
        return made[::2]
    file = folder / f"{task.env_id.lower()}-medium.hdf5"
    folder.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        options = ["--quality", "medium", "--steps", task.data_steps, "--out", file, "--quiet"]
        data.command("make-data", "--env-id", task.env_id, *options)
    return [file]


if __name__ == "__main__":
    sys.exit(main())
