"""The command `opshape`: train, evaluate, play, tournament, export, demo."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from opshape.config import PRESET_HELP, PRESETS, TrainConfig, TrialShape
from opshape.games.config import Matrix
from paperloop.cli import App, DemoOptions, Device, Positional, RunOptions, start_jax
from paperloop.errors import UserError, setting
from paperloop.settings import Count, CountOrZero, Lt, Positive, Seed, settings

__all__ = ["main"]

app = App("opshape", "Opponent shaping: train agents that steer how others learn, and measure them.")

GameName = Literal["ipd", "imp", "chicken", "stag_hunt", "battle_of_the_sexes"]


@app.command(
    options=RunOptions,
    config=TrainConfig,
    presets=PRESETS,
    preset_help=PRESET_HELP,
    essentials=("game.type", "shaper.type", "co_player.type", "meta.type", "generations", "seeds"),
)
def train(options: RunOptions, config: TrainConfig) -> None:
    """Train a shaper against co-players that learn, and measure it on fresh ones.

    Continues what is in the run folder. Afterwards `opshape evaluate OUT` measures more.
    """
    start_jax(options.device, config.devices)
    from opshape.evaluation.measure import HeldOut
    from opshape.trainer import ShapingTrainer
    from paperloop import run
    from paperloop_lab.report import report, report_command
    from paperloop_lab.sinks import make_sinks

    trainer = ShapingTrainer(config)
    arguments: dict[str, Any] = options.run_arguments()
    arguments["log_every"] = options.log_every or 1
    arguments |= {"evaluators": {"held_out": HeldOut(trainer)}, "sinks": make_sinks(options.sinks)}
    run(trainer, options.out, steps=config.steps, **arguments)
    plots = options.out / "plots"
    describe = report if options.quiet else report_command
    describe([options.out], plots, metrics=["train/reward", "train/co_player_reward", "held_out/mean/reward"])


@settings
class EvaluateOptions:
    """What `evaluate` takes.

    Attributes:
        run: the run folder
        out: where the report goes (None: the run's plots/)
        co_players: fresh co-players for each shaper
        hard_stop: co-players stop learning after so many episodes
        blind: in so many of the games the shaper sees only the first observation
        games: games at a time against one co-player (None: as in training)
        seed: of co-players and games
        device: where to compute; auto: the GPU where there is one
    """

    run: Positional[Path]
    out: Path | None = None
    co_players: Count = 32
    hard_stop: CountOrZero | None = None
    blind: CountOrZero = 0
    games: Count | None = None
    seed: Seed = 0
    device: Device = "auto"


@app.command(options=EvaluateOptions)
def evaluate(options: EvaluateOptions) -> None:
    """Measure a trained shaper on fresh co-players: curves over a trial, behaviour, a table and figures."""
    start_jax(options.device)
    from opshape.evaluation.reports import evaluate_run

    evaluate_run(options)


@settings
class PlayOptions:
    """What `play` takes.

    Attributes:
        players: naive, lola, lola_full, m_maml, or strategies: tit_for_tat, grim, all_c, all_d, zd:CHI:PHI
        game: payoffs by name
        gamma: discount
        step: step size on the normalised value (None: 25, and 1 in chicken)
        updates: simultaneous updates in a trial
        trials: pairs of random starts
        seed: of the starts
        out: a folder for the table and the figure (None: only print)
        device: where to compute; auto: the GPU where there is one
    """

    players: Positional[tuple[str, ...]] = ("naive", "lola", "tit_for_tat")
    game: GameName = "ipd"
    gamma: Annotated[float, Lt(1.0), Field(ge=0)] = 0.96
    step: Positive | None = None
    updates: Count = 300
    trials: Count = 1024
    seed: Seed = 0
    out: Path | None = None
    device: Device = "auto"


@app.command(options=PlayOptions)
def play(options: PlayOptions) -> None:
    """Play learners of the exact infinite game against one another: values at the end of learning.

    The gradient is exact, and so are the values: no game is sampled.
    """
    start_jax(options.device)
    from opshape.evaluation.reports import save_table
    from opshape.evaluation.tournament import exact_tournament
    from opshape.games.payoffs import PAYOFFS

    step = options.step or (1.0 if options.game == "chicken" else 25.0)
    table = exact_tournament(
        options.players, PAYOFFS[options.game], gamma=options.gamma, step=step, updates=options.updates,
        trials=options.trials, seed=options.seed,
    )  # fmt: skip
    print(table.text())
    if options.out is not None:
        save_table(table, options.out, f"{options.game}, exact, {options.updates} updates")


@settings
class TournamentOptions:
    """What `tournament` takes.

    Attributes:
        entrants: run folders, learners (table, recurrent, reinforce, alignment) and strategies (tit_for_tat, ...)
        game: payoffs by name
        steps: of an episode
        episodes: of a trial; learners learn after each
        games: played at a time by a pair
        trials: of each pair
        seed: of learners and games
        out: a folder for the table and the figure (None: only print)
        device: where to compute; auto: the GPU where there is one
    """

    entrants: Positional[tuple[str, ...]]
    game: GameName = "ipd"
    steps: Count = 50
    episodes: Count = 40
    games: Count = 2
    trials: Count = 32
    seed: Seed = 0
    out: Path | None = None
    device: Device = "auto"


@app.command(options=TournamentOptions)
def tournament(options: TournamentOptions) -> None:
    """Play trained shapers, learners and strategies against one another in a repeated game."""
    if not options.entrants:
        raise UserError("name at least one entrant: run folders, learners or strategies.")
    start_jax(options.device)
    from opshape.build import make_game, make_trial
    from opshape.evaluation.reports import save_table
    from opshape.evaluation.tournament import cross_play, entrant, trained

    game: Any = make_game(Matrix(name=options.game))
    shape = TrialShape(steps=options.steps, episodes=options.episodes, games=options.games)
    samples = shape.steps * shape.games
    if samples % 4:
        raise UserError(
            f"{setting('steps')} x {setting('games')} is {samples}; it must be a multiple of 4, because learners make "
            "four minibatches."
        )
    entrants = [
        trained(Path(name), game) if Path(name).is_dir() else entrant(name, game.payoffs) for name in options.entrants
    ]
    table = cross_play(entrants, make_trial(shape, game), trials=options.trials, seed=options.seed)
    print(table.text())
    if options.out is not None:
        save_table(table, options.out, f"{options.game}, {options.episodes} episodes of {options.steps} steps")


@settings
class ExportOptions:
    """What `export` takes.

    Attributes:
        run: the run folder
        out: the .npz file to write
        seed: which of the run's seeds
        best: the best candidate of the last generation instead of the mean of the search
    """

    run: Positional[Path]
    out: Path
    seed: Seed = 0
    best: bool = False


@app.command(options=ExportOptions)
def export(options: ExportOptions) -> None:
    """Write a trained shaper to one .npz file, which `opshape.load` reads."""
    start_jax("cpu")
    from opshape.loading import load

    path = load(options.run, seed=options.seed, best=options.best).export(options.out)
    print(f"Wrote {path}.")


@app.command(options=DemoOptions)
def demo(options: DemoOptions) -> None:
    """Show it in half a minute: exact learners, a short training, its evaluation, an episode as a GIF."""
    start_jax(options.device)
    from opshape.evaluation.reports import run_demo

    run_demo(options.out)


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}.", file=sys.stderr)  # ty: ignore
        return app.main(argv)
