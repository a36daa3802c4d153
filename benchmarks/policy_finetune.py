"""Does the policy collapse, and does the constraint prevent it? Offline-to-online fine-tuning, in three tiers.

    python -m benchmarks.policy_finetune --tier smoke   # a minute: everything runs
    python -m benchmarks.policy_finetune --tier cpu     # at most 30 minutes on two cores
    python -m benchmarks.policy_finetune --tier gpu     # five datasets of each kind, 4 x 8 seeds, on a GPU

InvertedDoublePendulum-v5, 64x64 networks. For each of three generator seeds a narrow and a diverse
dataset (`benchmarks.policy_finetune_data`); TD3+BC pre-trains two agents on each; every arm fine-tunes three agents
from each of those for 10,000 environment steps. All agents of a part run in one program; `--jobs 2` runs two parts at
once.

The claim, of Luo et al. 2023 (arXiv 2303.17396), in numbers that can fail:

- TD3 on narrow data collapses: median minimum / start below 0.35;
- TD3-C at its default does not: above 0.6, and above TD3 in at least 80 % of pairs (same data, start and seed);
- TD3 on diverse data does not collapse: median above 0.7;
- the dip deepens with ε: medians over narrow data fall from 1e-4 over 1e-3 to 5e-3.

The paper's own tables were not available, so no figure of it stands next to ours. How much is gained by the end is
reported for all arms and claimed for none. The arm `no training` says what the noise of short evaluations can do at
most (`benchmarks.policy_finetune_controls`).
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import policy_finetune_data as data
from benchmarks.harness import ROOT, Json, figure_path, record, table, write_result
from benchmarks.policy_finetune_controls import FROZEN, frozen_curves
from benchmarks.policy_finetune_study import Arm, Study, curves_figure, read_study, run_study, study_tables
from policy_finetune.config import AppendReplay, DropReplay, DualConstraint, SwitchConfig, TD3Config
from policy_finetune.envs.references import random_return
from policy_finetune.presets import LEARNERS

EPSILONS = (1e-4, 1e-3, 5e-3)


def constrained(epsilon: float) -> TD3Config:
    """Return TD3-C with another ε."""
    return TD3Config(constraint=DualConstraint(epsilon=epsilon))


def arms(narrow: tuple[int, ...]) -> tuple[Arm, ...]:
    """Return the arms: learners by replay, and on the narrow datasets the sweep of ε."""
    drop, append = DropReplay(), AppendReplay()
    out = [
        Arm(label=f"{name} {replay.type}", learner=LEARNERS[name], replay=replay)
        for name in ("td3", "td3bc", "td3c")
        for replay in (append, drop)
    ]
    out += [
        Arm(label=f"td3c ε={epsilon:g} drop", learner=constrained(epsilon), replay=drop, datasets=narrow)
        for epsilon in EPSILONS
    ]
    return tuple(out)


@dataclasses.dataclass(frozen=True)
class Tier:
    """The size of a tier."""

    generators: tuple[int, ...]
    data_steps: int
    pre_seeds: int
    seeds: int
    updates: int
    env_steps: int
    hidden: tuple[int, ...] = (64, 64)
    batch_size: int = 256
    warmup: int = 1000
    eval_env_steps: int = 1000
    eval_episodes: int = 3


TIERS = {
    "smoke": Tier((0,), 2000, 1, 1, 100, 400, (8, 8), 32, 200, 200, 1),
    "cpu": Tier((0, 1, 2), 20_000, 2, 3, 20_000, 10_000),
    "gpu": Tier((0, 1, 2, 3, 4), 20_000, 4, 8, 20_000, 20_000),
}


def study_of(tier: Tier, files: Sequence[Path], parts: int) -> Study:
    """Return the study of a tier."""
    narrow = tuple(range(0, len(files), 2))
    return Study(
        env_id=data.ENV, data=tuple(map(str, files)), arms=arms(narrow), pre_seeds=tier.pre_seeds, seeds=tier.seeds,
        updates=tier.updates, env_steps=tier.env_steps, hidden=tier.hidden, batch_size=tier.batch_size,
        switch=SwitchConfig(warmup_env_steps=tier.warmup), eval_env_steps=tier.eval_env_steps,
        eval_episodes=tier.eval_episodes, parts=parts,
    )  # fmt: skip


def verdicts(curves: Sequence) -> list[Json]:
    """Return the claims: text, value, and whether it holds."""

    def ratio(arm: str, kind: str) -> dict[tuple, float]:
        return {c.pair: float(c.metrics.min_over_start) for c in curves if c.arm == arm and c.dataset.startswith(kind)}

    def median(values: dict[tuple, float]) -> float:
        return float(np.median(list(values.values())))

    td3 = {f"{kind} {replay}": ratio(f"td3 {replay}", kind) for kind in ("narrow", "diverse")
           for replay in ("append", "drop")}  # fmt: skip
    td3c = {replay: ratio(f"td3c {replay}", "narrow") for replay in ("append", "drop")}
    out = []

    def claim(text: str, value: float, holds: bool) -> None:
        out.append({"claim": text, "value": value, "holds": bool(holds)})

    for replay in ("append", "drop"):
        value = median(td3[f"narrow {replay}"])
        claim(f"TD3, narrow data, {replay}: median min/start < 0.35", value, value < 0.35)
        value = median(td3c[replay])
        claim(f"TD3-C, narrow data, {replay}: median min/start > 0.6", value, value > 0.6)
        pairs = [td3c[replay][pair] > td3[f"narrow {replay}"][pair] for pair in td3c[replay]]
        claim(
            f"TD3-C above TD3 in at least 80 % of pairs, {replay}", float(np.mean(pairs)), bool(np.mean(pairs) >= 0.8)
        )
        value = median(td3[f"diverse {replay}"])
        claim(f"TD3, diverse data, {replay}: median min/start > 0.7", value, value > 0.7)
    sweep = [median(ratio(f"td3c ε={epsilon:g} drop", "narrow")) for epsilon in EPSILONS]
    claim("the dip deepens with ε: " + " > ".join(f"{v:.2f}" for v in sweep), sweep[-1], sweep[0] > sweep[1] > sweep[2])
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy_finetune", description=__doc__.splitlines()[0])
    parser.add_argument("--tier", choices=TIERS, default="cpu")
    parser.add_argument("--out", type=Path, help="folder of data and runs (default: .cache/bench/policy-finetune/TIER)")
    parser.add_argument("--jobs", type=int, default=2, help="programs at once")
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    parser.add_argument("--no-record", action="store_true", help="write no result into benchmarks/results")
    options = parser.parse_args(arguments)
    from paperloop_lab.plots import save_figure

    tier = TIERS[options.tier]
    out = options.out or ROOT / ".cache" / "bench" / "policy-finetune" / options.tier
    begun = time.monotonic()
    files = data.make(out / "data", tier.generators, steps=tier.data_steps, hidden=tier.hidden)
    study = study_of(tier, files, parts=options.jobs)
    run_study(study, out / "study", jobs=options.jobs, device=options.device)
    minutes = (time.monotonic() - begun) / 60
    chance = random_return(data.ENV)
    curves = read_study(out / "study", random_return=chance)
    curves += frozen_curves(out / "study", curves, episodes=tier.eval_episodes, random_return=chance)
    claims = verdicts(curves)
    print(table([[c["claim"], f"{c['value']:.2f}", str(c["holds"])] for c in claims], ["claim", "value", "holds"]))
    frozen = [c for c in curves if c.arm == FROZEN]
    still = {
        kind: float(np.median([c.metrics.min_over_start for c in frozen if c.dataset.startswith(kind)]))
        for kind in ("narrow", "diverse")
    }
    print(f"without training the median min/start is {still['narrow']:.2f} (narrow), {still['diverse']:.2f} (diverse)")
    print(f"{minutes:.1f} minutes in this call (finished parts are not run again)")
    if options.tier != "smoke" and not options.no_record:
        name = f"policy_finetune-{options.tier}"
        given = sys.argv[1:] if arguments is None else list(arguments)
        result = {
            "benchmark": name,
            **record("benchmarks.policy_finetune", given, ["policy-finetune"]),
            "tier": dataclasses.asdict(tier),
            "constraint": dataclasses.asdict(DualConstraint()),
            "minutes_of_last_call": round(minutes, 1),
            "claims": claims,
            "datasets": data.describe(files),
            "rows": study_tables(curves),
            "agents": [curve.record() for curve in curves],
        }
        write_result(name, result)
        save_figure(curves_figure(curves), figure_path(name))
    return 0 if options.tier == "smoke" or all(c["holds"] for c in claims) else 1


if __name__ == "__main__":
    sys.exit(main())
