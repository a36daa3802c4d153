"""Does a shaper with memory exploit a learner, and one without not?

    python -m benchmarks.opshape.claims --tier smoke    # a minute: everything runs
    python -m benchmarks.opshape.claims --tier cpu      # a quarter of an hour
    python -m benchmarks.opshape.claims --tier meta     # M-FOS by PPO, correct and as in pax; COALA-PG's objectives
    python -m benchmarks.opshape.claims --tier room     # InTheMatrix, in both payoffs: half an hour, one seed
    python -m benchmarks.opshape.claims --tier gpu      # the paper's matrix games, 1000 candidates, 1000 generations

Every arm is a preset with changes, three seeds in one program, and a run folder below `--runs`: a benchmark that was
stopped continues, and a longer one extends it. An arm's number is the mean reward per step of all candidates over the
last quarter of the generations, seed by seed; then the mean of the search meets 64 fresh co-players, and again with
co-players that stop learning after a quarter of the trial.

Ranges are over seeds; of three that is the 95 % bootstrap interval as well. The claims, after Khan et al. 2024, in
numbers that can fail; each must hold in every seed:

- IMP: Shaper earns at least +.30, the Good Shepherd at most +.10, Shaper without context lies between.
- IPD: Shaper leaves mutual defection (-2) and earns more than its co-player.
- CoinGame: a memoryless agent shapes as well as Shaper, because a state shows what was done (the paper's point).
- Hard stop: what a co-player costs that stops learning (last tenth of the trial, seed by seed) is less with context
  than without, in IMP and in IPD.

Averaging over the games is reported without a claim: the paper's numbered tables could not be read, so that there is no
figure of theirs to put next to ours.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.harness import ROOT, Json, figure_path, record, table, write_result
from opshape.config import PRESETS
from opshape.evaluation.measure import measure
from opshape.trainer import ShapingTrainer
from paperloop import run
from paperloop.loop.metrics_file import curve, read_metrics
from paperloop.settings import replace_in

__all__ = ["ARMS", "TIERS", "main", "verdicts"]

_COINS = {"meta.population": 32, "trial.games": 4, "trial.episodes": 40, "generations": 100}
_PPO = {
    "shaper.type": "mfos", "meta.type": "ppo", "trial.co_players": 32, "trial.episodes": 20, "trial.steps": 30,
    "generations": 250,
}  # fmt: skip
#: Meulemans et al. 2025, in small: 16 games with one learner, whose episodes are short.
_COALA = {
    "game.payoffs": [1, 1, -1, 2, 2, -1, 0, 0], "trial.steps": 10, "trial.episodes": 20, "trial.games": 16,
    "trial.co_players": 16, "co_player.type": "reinforce", "co_player.lr": 0.3, "meta.type": "coala",
    "generations": 400,
}  # fmt: skip

#: Arm -> preset and changes; those that the claims need come first.
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "imp shaper": ("imp", {}),
    "imp shaper, no context": ("imp", {"shaper.context": False}),
    "imp good shepherd": ("imp", {"shaper.type": "good_shepherd"}),
    "ipd shaper": ("ipd", {}),
    "ipd shaper, no context": ("ipd", {"shaper.context": False}),
    "imp shaper, averaging": ("imp", {"shaper.mix": "avg"}),
    "ipd shaper, averaging": ("ipd", {"shaper.mix": "avg"}),
    "ipd good shepherd": ("ipd", {"shaper.type": "good_shepherd"}),
    "imp m-fos": ("imp", {"shaper.type": "mfos"}),
    "coin game shaper": ("coin_game", _COINS),
    "coin game good shepherd": ("coin_game", {**_COINS, "shaper.type": "good_shepherd", "shaper.layers": [16]}),
    "imp m-fos, ppo": ("imp", _PPO),
    "imp m-fos, ppo as in pax": ("imp", {**_PPO, "meta.credit": "episode", "meta.unroll": "step"}),
    "ipd coala": ("ipd", _COALA),
    "ipd coala, m-fos objective": ("ipd", {**_COALA, "meta.objective": "mfos"}),
    "ipd coala, batch unaware": ("ipd", {**_COALA, "meta.objective": "batch_unaware"}),
    "in the matrix ipd shaper": ("in_the_matrix", {}),
    "in the matrix imp shaper": ("in_the_matrix", {"game.payoffs": "imp"}),
}


@dataclasses.dataclass(frozen=True)
class Tier:
    """Which arms, how many seeds, and what changes in all of them."""

    arms: tuple[str, ...]
    seeds: int
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    claims: bool = True


def _arms(*starts: str) -> tuple[str, ...]:
    return tuple(name for name in ARMS if name.startswith(starts) and "coala" not in name and "ppo" not in name)


TIERS = {
    "smoke": Tier(
        ("imp shaper", "imp good shepherd"), 2,
        {"generations": 2, "generations_per_step": 2, "meta.population": 8, "trial.episodes": 6, "trial.steps": 20},
        claims=False,
    ),
    "cpu": Tier(_arms("imp", "ipd", "coin"), 3),
    "meta": Tier(tuple(name for name in ARMS if "coala" in name or "ppo" in name), 3),
    "room": Tier(_arms("in the matrix"), 1, {"generations": 100}),
    "gpu": Tier(
        _arms("imp", "ipd"), 5,
        {"meta.population": 1000, "trial.co_players": 10, "trial.steps": 100, "trial.episodes": 100,
         "generations": 1000, "meta.sigma": 0.04, "meta.lr": 0.1, "meta.shaping": "mean"},
    ),
}  # fmt: skip


def train(arm: str, tier: Tier, seed: int, runs: Path) -> tuple[ShapingTrainer, Any, Json]:
    """Return an arm's trainer, its last state and its numbers, seed by seed. Continues what is in its folder."""
    preset, changes = ARMS[arm]
    trainer = ShapingTrainer(replace_in(PRESETS[preset], {**changes, **tier.changes, "seeds": tier.seeds}))
    folder = runs / f"{arm.replace(',', '').replace(' ', '-')}-{seed}"
    cpu = time.process_time()
    state = run(trainer, folder, steps=trainer.config.steps, seed=seed, log_every=1, save_minutes=2)
    cpu = time.process_time() - cpu
    names = ("reward", "co_player_reward", "last_reward", "last_co_player_reward")
    written = read_metrics(folder)
    rows = {name: curve(written, name).values for name in names}
    last = slice(-max(1, trainer.config.steps // 4), None)
    numbers: Json = {name: values[last].mean(0).tolist() for name, values in rows.items()}
    numbers["curve"] = rows["reward"].T.tolist()
    return trainer, state, numbers | {"generations_per_row": trainer.config.generations_per_step, "cpu_s": cpu}


def held_out(trainer: ShapingTrainer, state: Any, seed: int, co_players: int) -> Json:
    """Return what fresh co-players concede, with and without a hard stop after a quarter of the trial."""
    vectors, found = trainer.parameters(state), {}
    stop = max(1, trainer.config.trial.episodes // 4)
    for name, hard in (("learning", None), ("hard stop", stop)):
        measured = measure(trainer, vectors, seed=seed, co_players=co_players, hard_stop=hard)
        found[name] = {k: v.tolist() for k, v in measured.rewards().items()}
    lost = np.subtract(found["learning"]["last_reward"], found["hard stop"]["last_reward"])
    return found | {"lost by the stop": lost.tolist()}


def verdicts(numbers: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, bool]:
    """Return claim -> whether it holds in every seed; claims whose arms are absent are left out."""

    def of(arm: str, name: str = "reward") -> np.ndarray:
        return np.asarray(numbers[arm][name])

    found = {}
    if {"imp shaper", "imp shaper, no context", "imp good shepherd"} <= numbers.keys():
        shaper, without, shepherd = (of(f"imp {n}") for n in ("shaper", "shaper, no context", "good shepherd"))
        found["IMP: Shaper at least +.30"] = bool((shaper >= 0.3).all())
        found["IMP: Good Shepherd at most +.10"] = bool((shepherd <= 0.1).all())
        found["IMP: Shaper without context in between"] = bool(((shepherd < without) & (without < shaper)).all())
    if "ipd shaper" in numbers:
        own, other = of("ipd shaper"), of("ipd shaper", "co_player_reward")
        found["IPD: Shaper leaves -2"] = bool((own > -1.9).all())
        found["IPD: Shaper earns more than its co-player"] = bool((own > other + 0.1).all())
    for game in ("imp", "ipd"):
        arms = f"{game} shaper", f"{game} shaper, no context"
        if all("lost by the stop" in numbers.get(arm, {}) for arm in arms):
            kept, cut = (of(arm, "lost by the stop") for arm in arms)
            found[f"{game.upper()}: a hard stop costs less with context"] = bool((kept < cut).all())
    if {"imp m-fos, ppo", "imp m-fos, ppo as in pax"} <= numbers.keys():
        correct, crippled = of("imp m-fos, ppo"), of("imp m-fos, ppo as in pax")
        found["IMP: M-FOS by PPO earns more than as in pax"] = bool((correct > crippled).all())
    rivals = [f"ipd coala{name}" for name in ("", ", m-fos objective", ", batch unaware")]
    if all(name in numbers for name in rivals):
        coala, *others = (of(name) for name in rivals)
        found["COALA: extorts naive learners"] = bool((coala > of("ipd coala", "co_player_reward") + 0.1).all())
        found["COALA: earns more than M-FOS' objective and the batch-unaware one"] = bool(
            all((coala > other).all() for other in others)
        )
    if {"coin game shaper", "coin game good shepherd"} <= numbers.keys():
        shaper, shepherd = of("coin game shaper"), of("coin game good shepherd")
        spread = max(float(np.ptp(shaper)), float(np.ptp(shepherd)), 0.02)
        for name in ("shaper", "good shepherd"):
            first = np.asarray(numbers[f"coin game {name}"]["curve"])[:, 0]
            found[f"CoinGame: {name} learns to earn more"] = bool((of(f"coin game {name}") > first).all())
        found["CoinGame: the memoryless agent shapes as well"] = bool(shepherd.mean() > shaper.mean() - spread)
    return found


def draw(numbers: Mapping[str, Json]) -> Figure:
    """Return the learning curves of all arms, a panel a game."""
    games = list(dict.fromkeys(_game(arm) for arm in numbers))
    figure = Figure(figsize=(4.2 * len(games), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, game in zip(figure.subplots(1, len(games), squeeze=False)[0], games, strict=True):
        for arm in (arm for arm in numbers if _game(arm) == game):
            curves = np.asarray(numbers[arm]["curve"])
            at = numbers[arm]["generations_per_row"] * np.arange(1, curves.shape[1] + 1)
            (line,) = axes.plot(at, curves.mean(0), label=arm.removeprefix(f"{game} "))
            axes.fill_between(at, curves.min(0), curves.max(0), color=line.get_color(), alpha=0.15, lw=0)
        axes.set_title(game)
        axes.set_xlabel("generation")
        axes.legend(frameon=False, fontsize=8)
    figure.axes[0].set_ylabel("reward per step of all candidates")
    return figure


def _game(arm: str) -> str:
    """Return the first words of an arm's name."""
    return next(
        game for game in ("in the matrix ipd", "in the matrix imp", "coin game", "imp", "ipd") if arm.startswith(game)
    )


def main(argv: list[str] | None = None) -> int:
    """Run a tier; 0 if its claims hold, or if it has none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.opshape.claims", description=__doc__.splitlines()[0])
    parser.add_argument("--tier", choices=list(TIERS), default="cpu")
    parser.add_argument("--only", nargs="*", choices=list(ARMS), help="some of the arms; the result has its own name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, help="where the run folders are kept; default: runs/opshape-TIER")
    args = parser.parse_args(argv)
    tier = TIERS[args.tier]
    runs = args.runs or ROOT / "runs" / f"opshape-{args.tier}"
    numbers: dict[str, Json] = {}
    for arm in args.only or tier.arms:
        trainer, state, found = train(arm, tier, args.seed, runs)
        numbers[arm] = {**found, **held_out(trainer, state, args.seed, 64 if tier.claims else 4)}
        lost = _range(numbers[arm]["lost by the stop"])
        said = f"{arm}: {_range(found['reward'])} in {found['cpu_s']:.0f} CPU-s; a hard stop costs {lost}"
        print(said, file=sys.stderr, flush=True)
    claims = verdicts(numbers) if tier.claims else {}
    rows = [
        [arm, _range(n["reward"]), _range(n["co_player_reward"]), _range(n["learning"]["last_reward"]),
         _range(n["hard stop"]["last_reward"])]
        for arm, n in numbers.items()
    ]  # fmt: skip
    head = ["mean (range) per step", "search", "its co-player", "held out, last tenth", "after a hard stop"]
    print(table(rows, head))
    for claim, holds in claims.items():
        print(f"{'holds' if holds else 'FAILS'}: {claim}")
    name = f"opshape-{args.tier}" + ("-only" if args.only else "")
    if args.tier != "smoke":
        origin = record("benchmarks.opshape.claims", sys.argv[1:] if argv is None else argv, ["jax", "opshape"])
        write_result(name, {"record": origin, "arms": numbers, "claims": claims})
        draw(numbers).savefig(figure_path(name), dpi=150)
    return 0 if all(claims.values()) else 1


def _range(values: Sequence[float]) -> str:
    return f"{np.mean(values):+.2f} ({min(values):+.2f} .. {max(values):+.2f})"


if __name__ == "__main__":
    sys.exit(main())
