"""Do learners make as much of OTR's labels as of the true rewards, and more than of a constant? Three tiers.

    python -m benchmarks.otr --tier smoke    # a minute: everything runs
    python -m benchmarks.otr --tier cpu      # at most 40 minutes on two cores
    python -m benchmarks.otr --tier gpu      # the nine D4RL-like sets, a million updates, ten seeds, on a GPU

`policy-finetune make-data` makes the datasets from the policies that come with it; `otr train` labels each by its best
K episodes, which stay in it (the protocol of the published numbers), and trains every arm with all seeds in one
program. cpu: HalfCheetah-v5 medium-expert (128x128 networks, 15,000 updates) and Hopper-v5 medium-replay (64x64, 60,000
updates: with fewer IQL is no better than cloning there, whatever the rewards), 200,000 steps each, K = 1, three seeds.

Critics and values begin at the mean discounted return to go of the labelled data, which changes nothing that is
optimal. `--initial-value zero` begins as published: then OTR's labels, whose mean is some forty times their spread,
taught IQL nothing in 25,000 updates.

The claims, after Luo et al. 2023 (arXiv 2303.13971), in numbers that can fail, on HalfCheetah medium-expert, where all
episodes have one length, so that lasting earns nothing:

- IQL on OTR's labels reaches at least .9 of the score of IQL on the true rewards;
- it is above behaviour cloning, and above IQL on a constant reward, *by more than the seeds' spread*: the lower end of
  the 95 % interval of the difference, taken seed by seed, is above 0, and the difference is larger than the larger of
  both standard deviations over seeds. With three seeds that interval is their range. Seed by seed is a way to count,
  and takes no noise out: the same seed gives the same first networks to one learner's labellings, but neither the same
  batches nor, to another learner, the same networks.

`--only` and another `--seed` write results of names of their own. The exit status is 0 if claims were tested and all
hold, or if the tier is smoke; without claims it is 1, and that is said.

On Hopper OTR's labels pay for lasting, as a constant reward does: both are reported side by side and nothing is
claimed.

Published D4RL rows stand next to ours. The data are others: our own policies, weaker experts, fewer steps. Scores
compare by their order and with the dataset's own episodes, not in size.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import ROOT, Json, figure_path, record, table, write_result
from benchmarks.policy_finetune_data import describe
from paperloop.files import write_json
from paperloop_data import normalised_score
from paperloop_lab import stats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TASKS = {"halfcheetah": "HalfCheetah-v5", "hopper": "Hopper-v5", "walker2d": "Walker2d-v5"}
CLAIMED, REPORTED = "halfcheetah-medium-expert", "hopper-medium-replay"
SHARE = 0.9
#: Arms that no demonstration changes: trained once, with the first K.
WITHOUT_DEMOS = ("oracle", "constant")

#: D4RL v2, normalised, mean ± standard deviation over seeds. BC, 10 % BC, IQL, ORIL, UDS and OTR (ten seeds) as SEABO
#: (Lyu et al. 2024, arXiv 2402.03807) reprints them in its tables 1, 2, 4, 5 and 11; SEABO from (s, s') alone and
#: TD3+BC on OTR's labels are its own (five seeds; tables 5 and 13).
COLUMNS = ("bc", "bc10", "iql oracle", "iql oril", "iql uds", "iql otr", "iql otr K=10", "iql seabo", "td3bc otr")
_PUBLISHED = """
halfcheetah-medium         42.6   42.5   47.4±0.2  49.0±0.2  42.4±0.3  43.3±0.2  43.1±0.3  45.0   42.6
hopper-medium              52.9   56.9   66.2±5.7  47.0±4.0  54.5±3.0  78.7±5.5  80.0±5.2  74.7   66.4
walker2d-medium            75.3   75.0   78.3±8.7  61.9±6.6  68.9±6.2  79.4±1.4  79.2±1.3  81.3   76.9
halfcheetah-medium-replay  36.6   40.6   44.2±1.2  44.1±0.6  37.9±2.4  41.3±0.6  41.6±0.3  42.4   39.4
hopper-medium-replay       18.1   75.9   94.7±8.6  82.4±1.7  49.3±22.7 84.8±2.6  84.4±1.8  88.0   74.9±28.8
walker2d-medium-replay     26.0   62.5   73.8±7.1  76.3±4.9  17.7±9.6  66.0±6.7  71.8±3.8  76.4   69.7±16.4
halfcheetah-medium-expert  55.2   92.9   86.7±5.3  87.5±3.9  63.0±5.7  89.6±3.0  87.9±3.4  91.8   74.8±20.1
hopper-medium-expert       52.5   110.9  91.5±14.3 29.7±22.2 53.9±2.5  93.2±20.6 96.6±21.5 97.5   103.2±13.9
walker2d-medium-expert     107.5  109.0  109.6±1.0 110.6±0.6 107.5±1.7 109.3±0.8 109.6±0.5 110.5  109.0
"""
#: dataset -> arm -> text.
PUBLISHED: dict[str, dict[str, str]] = {
    name: dict(zip(COLUMNS, values, strict=True)) for name, *values in map(str.split, _PUBLISHED.strip().splitlines())
}


@dataclasses.dataclass(frozen=True)
class Tier:
    """The size of a tier."""

    datasets: tuple[str, ...]
    steps: int
    updates: int
    seeds: int
    hidden: tuple[int, ...]
    labels: tuple[str, ...]
    learners: tuple[str, ...] = ("bc", "bc10", "bc10-labels", "iql")
    demos: tuple[int, ...] = (1,)
    batch_size: int = 256
    evaluations: int = 20
    episodes: int = 10
    jobs: int = 1
    #: dataset -> (hidden, updates), where these are others.
    sizes: Mapping[str, tuple[tuple[int, ...], int]] = dataclasses.field(default_factory=dict)

    def size(self, dataset: str) -> tuple[tuple[int, ...], int]:
        """Widths and updates for a dataset."""
        return self.sizes.get(dataset, (self.hidden, self.updates))


BASIC = ("oracle", "otr", "seabo", "minimum-distance", "constant")
TIERS = {
    "smoke": Tier((CLAIMED, REPORTED), 2000, 20, 2, (8, 8), ("oracle", "otr", "constant"), batch_size=32,
                  evaluations=1, episodes=1),
    "cpu": Tier((CLAIMED, REPORTED), 200_000, 15_000, 3, (128, 128), BASIC, evaluations=5, jobs=2,
                sizes={REPORTED: ((64, 64), 60_000)}),
    "gpu": Tier(tuple(PUBLISHED), 1_000_000, 1_000_000, 10, (256, 256),
                (*BASIC, "otr-converged", "segment-matching", "pwil", "oril", "uds"),
                ("bc", "bc10", "bc10-labels", "iql", "td3bc"), (1, 10)),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Job:
    """One `otr train`: a dataset and a number of demonstrations."""

    dataset: str
    demos: int
    labels: tuple[str, ...]
    learners: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.dataset}-k{self.demos}"

    @property
    def env_id(self) -> str:
        return TASKS[self.dataset.split("-")[0]]

    @property
    def quality(self) -> str:
        return self.dataset.split("-", 1)[1]


def jobs_of(tier: Tier, only: Sequence[str] = ()) -> list[Job]:
    """Return the trainings of a tier; what no demonstration changes is trained with the first K alone."""
    jobs = []
    for dataset in tier.datasets:
        if only and dataset not in only:
            continue
        for i, demos in enumerate(tier.demos):
            labels = tuple(name for name in tier.labels if i == 0 or name not in WITHOUT_DEMOS)
            learners = tuple(name for name in tier.learners if i == 0 or name not in ("bc", "bc10"))
            jobs.append(Job(dataset, demos, labels, learners))
    return jobs


# --- running ---


class Cost:
    """Wall and CPU seconds of the commands that ended, well or not, kept in a file next to what they made.

    Finished work is not run again by a later call. Not counted: commands that were killed together with this program,
    and children that outlived a command.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.seconds: Json = json.loads(path.read_text()) if path.exists() else {}
        self._lock = threading.Lock()

    def add(self, name: str, wall: float, cpu: float, *, failed: bool = False) -> None:
        with self._lock:
            row = self.seconds.setdefault(name, {"wall_s": 0.0, "cpu_s": 0.0})
            row["wall_s"] = round(row["wall_s"] + wall, 1)
            row["cpu_s"] = round(row["cpu_s"] + cpu, 1)
            if failed:
                row["failed"] = row.get("failed", 0) + 1
            write_json(self._path, self.seconds)

    @property
    def cpu_s(self) -> float:
        return sum(row["cpu_s"] for row in self.seconds.values())


def command(
    program: str, *arguments: object, log: Path, cost: Cost, name: str, env: Mapping[str, str] | None = None
) -> None:
    """Run a command of the workspace, and count what it and its children took, failed or not."""
    path = Path(sys.executable).with_name(program)
    begun = time.monotonic()
    with log.open("ab") as file:
        process = subprocess.Popen([str(path), *map(str, arguments)], stdout=file, stderr=file, env=env)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except KeyboardInterrupt:
            process.terminate()
            _, status, usage = os.wait4(process.pid, 0)
            cost.add(name, time.monotonic() - begun, usage.ru_utime + usage.ru_stime, failed=True)
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    cost.add(name, time.monotonic() - begun, usage.ru_utime + usage.ru_stime, failed=process.returncode != 0)
    if process.returncode:
        text = log.read_text(errors="replace")[-3000:]
        raise SystemExit(f"{program} {arguments[0]} failed (exit status {process.returncode}), see {log}:\n{text}")


def make_data(job: Job, steps: int, folder: Path, workers: int, cost: Cost) -> Path:
    """Return the dataset's file, made if it is not there; one that is there has to be of this task and size."""
    from paperloop_data import EpisodeDataset

    file = folder / f"{job.dataset}.hdf5"
    if not file.exists():
        command(
            "policy-finetune", "make-data", "--env-id", job.env_id, "--quality", job.quality, "--steps", steps,
            "--workers", workers, "--out", file, "--quiet", log=folder / f"{job.dataset}.log", cost=cost,
            name=f"data {job.dataset}",
        )  # fmt: skip
    data = EpisodeDataset.load(file)
    # Every part of a dataset finishes its last episode, so what was asked for is in the provenance alone.
    asked = sum(part.get("steps", 0) for part in data.provenance[0].get("parts", ())) if data.provenance else 0
    about = {"env_id": data.attributes.get("env_id"), "quality": data.attributes.get("quality"), "steps": asked}
    wanted = {"env_id": job.env_id, "quality": job.quality, "steps": steps}
    if about != wanted:
        raise SystemExit(
            f"{file} holds {data.num_steps} steps and was made as {about}, not as {wanted}; remove it, or choose "
            "another --data-dir."
        )
    return file


def train(job: Job, tier: Tier, file: Path, out: Path, options: argparse.Namespace, single: bool, cost: Cost) -> None:
    """Run `otr train`, which continues with what is there."""
    from otr.training.config import SCHEMA, TrainConfig
    from paperloop.settings import save_config

    hidden, updates = tier.size(job.dataset)
    config = TrainConfig(
        data=str(file), demos=f"top:{job.demos}", labels=job.labels, learners=job.learners, env_id=job.env_id,
        seeds=tier.seeds, updates=updates, updates_per_step=min(1000, updates), hidden=hidden,
        batch_size=tier.batch_size, evaluations=tier.evaluations, eval_episodes=tier.episodes,
        initial_value=options.initial_value,
    )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{job.name}.config.json"
    save_config(config, path, SCHEMA)
    env = dict(os.environ)
    if single:  # each program keeps to its core: threads of several that wait for one another waste both
        env["XLA_FLAGS"] = f"{env.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    command(
        "otr", "train", "--config", path, "--out", out / job.name, "--device", options.device, "--seed", options.seed,
        "--quiet", log=out / f"{job.name}.log", env=env, cost=cost, name=f"train {job.name}",
    )  # fmt: skip


# --- what came out ---


def arm_name(learner: str, labels: str, demos: int) -> str:
    """Return "bc", "bc10", "iql otr", "iql otr K=10", "bc10-labels otr"."""
    if learner in ("bc", "bc10"):
        return learner
    return f"{learner} {labels}" + (f" K={demos}" if demos != 1 and labels not in WITHOUT_DEMOS else "")


def interval(scores: np.ndarray) -> stats.Interval:
    return stats.stratified_bootstrap(np.asarray(scores, float), "mean", reps=20_000)


def rows_of(job: Job, arms: Sequence[Any]) -> list[Json]:
    """Return one row for each arm of a training, as `otr.training.report.read_arms` gives them."""
    rows = []
    for arm in arms:
        spread = interval(arm.scores)
        name = arm_name(arm.learner, arm.labels, job.demos)
        rows.append({
            "dataset": job.dataset, "demos": job.demos, "arm": name, "learner": arm.learner, "labels": arm.labels,
            "scores": np.asarray(arm.scores, float).tolist(), "returns": np.asarray(arm.returns, float).tolist(),
            "mean": spread.point, "low": spread.low, "high": spread.high, "sd": deviation(arm.scores),
            "updates": np.asarray(arm.updates).tolist(), "curve": np.asarray(arm.curve, float).tolist(),
            "published_d4rl": PUBLISHED[job.dataset].get(name),
        })  # fmt: skip
    return rows


def deviation(scores: Any) -> float:
    """Return the standard deviation over seeds (ddof 1); 0 for one seed, of whose spread nothing is known."""
    return float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0


def with_shares(rows: Sequence[Json]) -> list[Json]:
    """Add each arm's share of the oracle's score: of the same learner's, IQL's for behaviour cloning.

    None where the oracle is not above a random policy.
    """
    oracle = {(r["dataset"], r["learner"]): r["mean"] for r in rows if r["labels"] == "oracle"}
    out = []
    for row in rows:
        learner = "iql" if row["learner"] in ("bc", "bc10") else row["learner"]
        best = oracle.get((row["dataset"], learner))
        out.append({**row, "share_of_oracle": row["mean"] / best if best is not None and best > 0 else None})
    return out


@dataclasses.dataclass(frozen=True)
class Difference:
    """Of two arms, seed by seed: a - b, its 95 % interval, and the larger of both standard deviations."""

    interval: stats.Interval
    sd: float

    @classmethod
    def of(cls, a: Json, b: Json) -> Difference:
        return cls(interval(np.subtract(a["scores"], b["scores"])), max(deviation(a["scores"]), deviation(b["scores"])))

    @property
    def beyond_the_spread(self) -> bool:
        """See the module."""
        return self.interval.low > 0 and self.interval.point > self.sd

    def __str__(self) -> str:
        point, low, high = self.interval
        return f"{point:.1f} [{low:.1f}, {high:.1f}], larger standard deviation {self.sd:.1f}"


def find(rows: Sequence[Json], dataset: str, arm: str) -> Json | None:
    return next((row for row in rows if (row["dataset"], row["arm"]) == (dataset, arm)), None)


def verdicts(rows: Sequence[Json]) -> list[Json]:
    """Return the claims on HalfCheetah medium-expert: text, value, and whether it holds; none without that dataset."""
    otr, oracle, bc, constant = (
        find(rows, CLAIMED, arm) for arm in ("iql otr", "iql oracle", "bc", "iql constant")
    )  # fmt: skip
    if otr is None or oracle is None or bc is None or constant is None:
        return []
    holds = oracle["mean"] > 0 and otr["mean"] >= SHARE * oracle["mean"]
    share = f"{otr['mean'] / oracle['mean']:.2f}" if oracle["mean"] > 0 else "undefined"
    claims = [{"claim": f"OTR at least {SHARE:g} of the oracle", "value": share, "holds": bool(holds)}]
    for name, other in (("BC", bc), ("IQL on a constant reward", constant)):
        difference = Difference.of(otr, other)
        claims.append({
            "claim": f"OTR above {name} by more than the seeds' spread", "value": str(difference),
            "holds": bool(difference.beyond_the_spread),
        })  # fmt: skip
    return claims


def survival_sentence(rows: Sequence[Json]) -> str | None:
    """Say how the constant reward compares with OTR on Hopper medium-replay; None without that dataset."""
    otr, constant = find(rows, REPORTED, "iql otr"), find(rows, REPORTED, "iql constant")
    if otr is None or constant is None:
        return None
    above, below = (otr, constant) if otr["mean"] >= constant["mean"] else (constant, otr)
    names = {"iql otr": "OTR", "iql constant": "the constant reward"}
    overlap = above["low"] <= below["high"]
    difference = Difference.of(otr, constant)
    return (
        f"{REPORTED}: {names[above['arm']]} is above {names[below['arm']]}, {above['mean']:.1f} [{above['low']:.1f}, "
        f"{above['high']:.1f}] and {below['mean']:.1f} [{below['low']:.1f}, {below['high']:.1f}]: the intervals "
        f"{'overlap' if overlap else 'do not overlap'}. OTR less constant, seed by seed: {difference}."
    )


def report(rows: Sequence[Json], known: Mapping[str, Json]) -> str:
    """Return a table for each dataset."""
    texts = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        about, task = known[dataset], dataset.split("-")[0]
        scores = [f"{float(normalised_score(about[key], task)):.1f}" for key in ("mean", "best")]
        cells = []
        for row in (row for row in rows if row["dataset"] == dataset):
            share = "" if row["share_of_oracle"] is None else f"{row['share_of_oracle']:.2f}"
            spread = f"[{row['low']:.1f}, {row['high']:.1f}]" if len(row["scores"]) > 1 else ""
            cells.append([row["arm"], f"{row['mean']:.1f}", spread, share, row["published_d4rl"] or ""])
        head = (
            f"{dataset}: {about['steps']:,} steps, {about['episodes']} episodes, mean score {scores[0]}, best "
            f"{scores[1]} (D4RL's data are others)"
        )
        texts.append(f"{head}\n{table(cells, ['arm', 'ours', '95 %', 'of the oracle', 'D4RL v2, published'])}")
    return "\n\n".join(texts)


def figure_of(rows: Sequence[Json], known: Mapping[str, Json]) -> Figure:
    """Draw each arm's mean and interval, its seeds, the published figure, and the dataset's own mean and best."""
    from matplotlib.figure import Figure

    from paperloop_lab.plots import COLOURS, GRID

    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    columns = min(3, len(datasets))
    lines = -(-len(datasets) // columns)
    figure = Figure(figsize=(2.2 + 3.6 * columns, (0.27 * len(arms) + 1.2) * lines + 0.4), layout="constrained")
    for i, dataset in enumerate(datasets):
        axes = figure.add_subplot(lines, columns, i + 1)
        task = dataset.split("-")[0]
        for key, dash in (("mean", ":"), ("best", "--")):
            score = float(normalised_score(known[dataset][key], task))
            axes.axvline(score, color="#999999", linestyle=dash, linewidth=1, label=f"{key} episode of our data")
        for row in (row for row in rows if row["dataset"] == dataset):
            y = len(arms) - 1 - arms.index(row["arm"])
            errors = [[row["mean"] - row["low"]], [row["high"] - row["mean"]]]
            axes.errorbar(row["mean"], y, xerr=errors, fmt="o", color=COLOURS[0], markersize=5, capsize=2,
                          label="ours, 95 %")  # fmt: skip
            axes.plot(row["scores"], [y - 0.25] * len(row["scores"]), "|", color=COLOURS[0], markersize=5, alpha=0.6)
            if row["published_d4rl"]:
                value = float(row["published_d4rl"].split("±")[0])
                axes.plot(value, y, "D", markerfacecolor="none", color=COLOURS[1], markersize=5,
                          label="published, D4RL's data")  # fmt: skip
        axes.set_yticks(range(len(arms)), arms[::-1] if i % columns == 0 else [""] * len(arms), fontsize=8)
        axes.set_ylim(-0.6, len(arms) - 0.4)
        axes.set_title(dataset, fontsize=9)
        axes.set_xlabel("normalised score", fontsize=8)
        axes.tick_params(axis="x", labelsize=7)
        axes.grid(axis="x", color=GRID)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
    handles = dict(zip(*reversed(figure.axes[0].get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return figure


def result_name(tier: str, only: Sequence[str], seed: int, initial_value: str = "mean") -> str:
    """Return the name of a result; a part of a tier, other seeds and other first values do not replace the whole."""
    parts = [f"otr-{tier}", *(name for name in TIERS[tier].datasets if name in only)]
    parts += ["zero"] if initial_value == "zero" else []
    return "-".join([*parts, f"seed{seed}"] if seed else parts)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.otr", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tier", choices=TIERS, default="cpu")
    parser.add_argument("--out", type=Path, help="folder of data and runs (default: .cache/bench/otr/TIER)")
    parser.add_argument("--data-dir", type=Path, help="where <task>-<quality>.hdf5 lie or are made (default: OUT/data)")
    parser.add_argument("--only", action="append", choices=tuple(PUBLISHED), default=[], help="only this dataset")
    parser.add_argument("--jobs", type=int, help="datasets at once, each on one core (default: 2 for cpu, else 1)")
    parser.add_argument("--workers", type=int, default=2, help="processes that make data")
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--initial-value", choices=("mean", "zero"), default="mean", help="see otr.training.config")
    parser.add_argument("--results", type=Path, help="folder of the result (default: benchmarks/results)")
    parser.add_argument("--no-record", action="store_true", help="write no result")
    options = parser.parse_args(arguments)
    from otr.training.report import read_arms
    from paperloop_lab.plots import save_figure

    tier = TIERS[options.tier]
    out = options.out or ROOT / ".cache" / "bench" / "otr" / options.tier
    folder = options.data_dir or out / "data"
    for made in (out, folder):
        made.mkdir(parents=True, exist_ok=True)
    begun, cost = time.monotonic(), Cost(out / "cost.json")
    jobs = jobs_of(tier, options.only)
    if not jobs:
        parser.error(f"the tier {options.tier} has the datasets {', '.join(tier.datasets)}")
    files = {job.dataset: make_data(job, tier.steps, folder, options.workers, cost) for job in jobs}
    count = options.jobs or tier.jobs
    with ThreadPoolExecutor(count) as pool:
        waiting = [
            pool.submit(train, job, tier, files[job.dataset], out / "runs", options, count > 1, cost) for job in jobs
        ]
        for future in waiting:
            future.result()
    minutes = (time.monotonic() - begun) / 60
    rows = with_shares([row for job in jobs for row in rows_of(job, read_arms(out / "runs" / job.name))])
    known, claims, sentence = describe(list(files.values())), verdicts(rows), survival_sentence(rows)
    print(report(rows, known))
    if not claims:
        print(f"\nNo claim was tested: they are about {CLAIMED}, which this call leaves out.")
    else:
        print(f"\n{table([[c['claim'], c['value'], str(c['holds'])] for c in claims], [CLAIMED, 'value', 'holds'])}")
    if sentence:
        print(f"\n{sentence}")
    print(
        f"\n{minutes:.1f} minutes in this call; {cost.cpu_s:.0f} CPU-seconds of commands that ended, this call's and "
        "earlier ones' (finished work is not run again)"
    )
    if options.results or (options.tier != "smoke" and not options.no_record):
        name = result_name(options.tier, options.only, options.seed, options.initial_value)
        given = sys.argv[1:] if arguments is None else list(arguments)
        result = {
            "benchmark": name,
            **record("benchmarks.otr", given, ["otr", "policy-finetune"]),
            "tier": dataclasses.asdict(tier),
            "minutes_of_last_call": round(minutes, 1),
            "seconds": cost.seconds,
            "cpu_s_of_commands_that_ended": round(cost.cpu_s),
            "claims": claims,
            "constant_on_hopper": sentence,
            "datasets": known,
            "rows": rows,
        }
        print("written:", write_result(name, result, options.results))
        save_figure(figure_of(rows, known), figure_path(name, options.results))
    return 0 if options.tier == "smoke" or (claims and all(c["holds"] for c in claims)) else 1


if __name__ == "__main__":
    sys.exit(main())
