"""What the commands write: tables, JSON and figures. The only room that leans on the lab."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from opshape.config import PRESETS, TrainConfig
from opshape.evaluation.figures import matrix_figure, trial_figure
from opshape.evaluation.measure import Measured, measure
from opshape.evaluation.tournament import Table, exact_tournament
from opshape.games.payoffs import PAYOFFS
from opshape.trainer import ShapingTrainer
from paperloop.errors import UserError
from paperloop.files import write_atomically, write_json
from paperloop.loop.runner import restore, run
from paperloop.settings import load_config, replace_in
from paperloop_lab.plots import save_figure

__all__ = ["evaluate_run", "run_demo", "save_table"]


def save_table(table: Table, out: Path, title: str) -> None:
    """Write a cross-play matrix as tournament.md, tournament.json and tournament.png."""
    _folder(out)
    write_atomically(out / "tournament.md", f"# {title}\n\n{table.text()}\n".encode())
    write_json(out / "tournament.json", {"title": title, **table.to_json()})
    save_figure(matrix_figure(table.names, table.means, table.halves, title=title), out / "tournament.png")
    print(f"tournament.md, tournament.json, tournament.png: {out}")


def evaluate_run(options: Any) -> None:
    """Measure a run's shapers as `opshape evaluate` was asked to, print a table, and write files."""
    config = load_config(TrainConfig, options.run)
    trainer = ShapingTrainer(config)
    state = restore(trainer, options.run)
    asked = {name: getattr(options, name) for name in ("seed", "co_players", "hard_stop", "blind", "games")}
    measured = {
        name: measure(trainer, trainer.parameters(state, best=best), **asked)
        for name, best in (("mean of the search", False), ("best candidate", True))
    }
    out = _folder(options.out or options.run / "plots")
    payoffs = getattr(trainer.arena.trial.game, "payoffs", None)
    rows = {name: {**m.rewards(), **m.behaviour(payoffs)} for name, m in measured.items()}
    text = _table(rows)
    print(text)
    about = f"{options.co_players} fresh co-players, {config.seeds} seed{'s' * (config.seeds > 1)}"
    write_atomically(out / "evaluation.md", f"# {options.run.name}: {about}\n\n{text}\n".encode())
    shapers = {name: _to_json(row, measured[name]) for name, row in rows.items()}
    write_json(out / "evaluation.json", {"asked": asked, "shapers": shapers})
    save_figure(trial_figure(measured, title=options.run.resolve().name, stop=options.hard_stop), out / "trial.png")
    files = ["evaluation.md", "evaluation.json", "trial.png"]
    if config.game.type != "matrix":
        files.append(_gif(trainer, state, out, options.seed))
    print(f"{', '.join(files)}: {out}")


def _gif(trainer: ShapingTrainer, state: Any, out: Path, seed: int) -> str:
    from opshape.evaluation.pictures import draw_episode, episode_states

    vector = trainer.parameters(state)[0]
    states = episode_states(trainer, vector, seed=seed, episodes=trainer.arena.trial.episodes - 1)
    return draw_episode(trainer.arena.trial.game, states, out / "episode.gif").name


def _table(rows: dict[str, dict[str, np.ndarray]]) -> str:
    """Return metrics in rows and shapers in columns: means over seeds, and ranges where several."""
    names = list(rows)
    lines = [["per step, or as named", *names], ["---"] * (1 + len(names))]
    for metric in rows[names[0]]:
        lines.append([metric, *(_cell(rows[name][metric]) for name in names)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(values: np.ndarray) -> str:
    seen = values[np.isfinite(values)]
    if not seen.size:
        return "–"
    spread = f" ({seen.min():.3f} .. {seen.max():.3f})" if values.size > 1 else ""
    return f"{seen.mean():.3f}{spread}"


def _to_json(metrics: dict[str, np.ndarray], measured: Measured) -> dict[str, Any]:
    numbers = {k: [float(x) if np.isfinite(x) else None for x in v] for k, v in metrics.items()}
    curves = {"own": measured.own.mean(1).tolist(), "other": measured.other.mean(1).tolist()}
    return {"metrics": numbers, "curves": curves}


def _folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out} cannot be made ({error.strerror}): choose another folder.") from None
    return out


def run_demo(out: Path) -> None:
    """Fill `out` with an exact tournament, a short training in matching pennies, and an episode of CoinGame."""
    table = exact_tournament(
        ("naive", "lola", "tit_for_tat"), PAYOFFS["ipd"], gamma=0.96, step=25.0, updates=200, trials=256, seed=0
    )
    print(table.text())
    save_table(table, out, "the exact prisoner's dilemma: learners against one another")
    config = replace_in(PRESETS["imp"], {"generations": 40, "meta.population": 32, "meta.lr": 0.1})
    trainer = ShapingTrainer(config)
    state = run(trainer, out / "run", steps=config.steps, log_every=1)
    measured = measure(trainer, trainer.parameters(state), seed=0, co_players=16)
    title = "matching pennies after a short training"
    save_figure(trial_figure({"shaper against fresh learners": measured}, title=title), out / "trial.png")
    own, other = measured.own.mean(), measured.other.mean()
    print(f"Reward per step {own:+.2f}, of its co-players {other:+.2f}: {out / 'trial.png'}")
