"""The command `otr`: label, diagnose, train, labellers, demo."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from otr.presets import DOMAINS
from otr.settings import PRESET_HELP, LabelSettings, settings_class, settings_presets, with_solver
from otr.training_config import TrainConfig
from paperloop.command import App, Device, SinkName
from paperloop.errors import UserError
from paperloop.seeds import check_seed

__all__ = ["main", "make_app"]

Domain = Literal["locomotion", "adroit", "antmaze"]
Backend = Literal["auto", "numba", "jax", "ott", "exact", "reference"]
EndRule = Literal["auto", "flags", "timeouts", "steps", "goal", "mismatch"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """What `label` takes beside the settings of the labeller."""

    data: Annotated[Path, tyro.conf.Positional]
    """a D4RL HDF5 file, a Minari folder, or an npz file"""
    demos: str
    """the demonstrations: a file of the same formats, or top:K for the K best episodes of DATA"""
    out: Path
    """the file to make; its suffix gives the format: .hdf5 (D4RL), .npz, or none for that of DATA"""
    domain: Domain = "locomotion"
    """whose published settings a preset stands for"""
    backend: Backend | None = None
    """the solver (None: numba, or jax on a GPU); short for --labeller.solver.backend"""
    threads: int | None = None
    """threads of the solver or search tree (None or 0: as many as the process may use)"""
    device: Device = "auto"
    """where to compute"""
    format: Literal["d4rl", "minari", "npz"] | None = None
    """the format of OUT, where its suffix shall not decide"""
    overwrite: bool = False
    """replace OUT"""
    compress: bool = False
    """gzip the arrays of HDF5 and Minari"""
    cache: Path | None = None
    """keep finished chunks in this folder, for other runs (None: beside OUT, until OUT is written)"""
    chunk_steps: int = 50_000
    """steps labelled at once, which a kill can cost"""
    demo_score: Literal["return", "antmaze"] | None = None
    """what top:K ranks by (None: the domain's)"""
    drop_time_outs: bool = False
    """compare without the steps that time out, as the authors' loader does: 999 of 1000 steps of an episode"""
    episode_ends: EndRule | None = None
    """what ends an episode, in flat files; for AntMaze give goal or timeouts"""
    max_episode_steps: int | None = None
    """the time limit, for flat files that say nothing of time-outs"""
    observation_keys: tuple[str, ...] = ()
    """parts of the observations to join, for Minari data made of parts"""
    action_keys: tuple[str, ...] = ()
    """likewise for actions"""
    drop_nonfinite: bool = False
    """leave out episodes that hold NaN or infinity"""
    quiet: bool = False
    """no progress bar, no table"""

    def __post_init__(self) -> None:
        if self.chunk_steps < 1:
            raise UserError(f"chunk_steps is {self.chunk_steps}; it must be at least 1.")
        if self.max_episode_steps is not None and self.max_episode_steps < 1:
            raise UserError(f"max_episode_steps is {self.max_episode_steps}; it must be at least 1.")

    def reading(self) -> dict[str, Any]:
        """Return the readers' options that were given."""
        names = ("episode_ends", "max_episode_steps", "observation_keys", "action_keys", "drop_nonfinite")
        return {name: getattr(self, name) or None for name in names}


def label(options: LabelOptions, settings: LabelSettings) -> None:
    """Label a file: `otr label DATA --demos top:1 --out labelled.hdf5 --preset otr`.

    Reads, labels and writes D4RL HDF5, Minari and npz. The rewards that were there stay in the file as
    infos/original_rewards, with the settings and the source beside them. Killed and called again it goes on, and the
    file has the same bytes. Without --preset it is otr.
    """
    config = with_solver(settings.labeller, options.backend, options.threads)
    from otr.label_command import choose_device, label_file

    label_file(
        options.data, options.demos, options.out, choose_device(config, options.device),
        domain=options.domain, demo_score=options.demo_score, drop_time_outs=options.drop_time_outs,
        format=options.format, overwrite=options.overwrite, compress=options.compress, cache=options.cache,
        chunk_steps=options.chunk_steps, quiet=options.quiet, **options.reading(),
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiagnoseOptions:
    """What `diagnose` takes."""

    data: Annotated[Path, tyro.conf.Positional]
    """the labelled file"""
    truth: Path | None = None
    """the same data with its true rewards (None: those that `label` kept in the file)"""
    demos: str | None = None
    """the demonstrations, for the plan, where they came from a file"""
    episode: int | None = None
    """whose plan is drawn (None: that of the median labelled return per step)"""
    out: Path | None = None
    """folder for diagnosis.json, returns.png and plan.png (None: a table only)"""
    quiet: bool = False
    """print nothing"""


def diagnose(options: DiagnoseOptions) -> None:
    """Compare labels with true rewards: `otr diagnose labelled.hdf5 --out diagnosis`.

    Rank correlations by episode and by step, the share that the lengths of episodes alone explain, the error of the
    transport plans, which demonstration was chosen.
    """
    from otr.diagnose_command import diagnose_file

    diagnose_file(
        options.data, truth=options.truth, demos=options.demos, episode=options.episode, out=options.out,
        quiet=options.quiet,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What `train` takes beside its configuration."""

    out: Path
    """the folder: made if absent; given alone, what it holds goes on or is shown"""
    seed: int = 0
    """everything random follows from it"""
    fallback: bool = False
    """when the newest checkpoint is damaged, continue from the newest intact one"""
    device: Device = "auto"
    """where to compute; auto: the GPU where there is one"""
    log_every: int | None = None
    """dispatches between rows of metrics (None: about 100 rows)"""
    save_every: int | None = None
    """dispatches between checkpoints (None: one every ten minutes)"""
    sinks: tuple[SinkName, ...] = ()
    """where metrics go beside metrics.jsonl"""
    quiet: bool = False
    """no progress bar, no notes, no table"""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for name in ("log_every", "save_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} is {value}; it must be at least 1, or None.")


def train(options: TrainOptions, config: TrainConfig) -> None:
    """Learn from a dataset labelled in several ways: `otr train --data DATA --labels oracle otr constant --out OUT`.

    Trains every learner on every labelling, all seeds in one program, evaluates in gymnasium, and shows a table with
    intervals over seeds. Killed and called again it goes on; called on what is complete, it shows the table again.
    For both `otr train --out OUT` alone is enough, with neither data nor settings. Other labels, learners or settings
    are another training, with an OUT of its own. Needs `pip install 'otr[train]'`.
    """
    seed = options.seed
    if config == TrainConfig(devices=config.devices) and (options.out / "train.json").exists():
        from otr.training_report import saved_training

        saved, saved_seed = saved_training(options.out)
        config = dataclasses.replace(saved, devices=config.devices) if config.devices > 1 else saved
        seed = seed or saved_seed
    from otr.training import train as train_arms

    train_arms(
        config, options.out, seed=seed, device=options.device, quiet=options.quiet, fallback=options.fallback,
        log_every=options.log_every, save_every=options.save_every, sinks=options.sinks,
    )  # fmt: skip


def labellers() -> None:
    """List the presets of `label`, and what they do."""
    width = max(map(len, PRESET_HELP))
    for name, text in PRESET_HELP.items():
        print(f"{name:<{width}}  {text}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What `demo` takes."""

    out: Path = Path("demo/otr")
    """where data, labels and figures go"""
    seed: int = 0
    """of the data"""


def demo(options: DemoOptions) -> None:
    """See what labels are worth: two simulated tasks, three labellers, figures, in a quarter of a minute.

    Where policy-finetune is installed, learners show next what they make of labels of HalfCheetah, in another minute.
    """
    from otr.demo import run_demo

    run_demo(options.out, seed=options.seed)
    if importlib.util.find_spec("policy_finetune") is None:
        print("note: with `pip install 'otr[train]'` the demo also trains on labels", file=sys.stderr)
        return
    from otr.training_demo import run_training_demo

    print("\nHalfCheetah, 20 episodes: cloning, and IQL, by the true rewards, by labels, by a constant")
    run_training_demo(options.out, seed=options.seed)


def make_app(domain: str = DOMAINS[0]) -> App:
    """Return the program; its presets are those of a domain."""
    app = App("otr", "Rewards for offline data from a few demonstrations, by optimal transport; and its rivals.")
    settings = settings_class(domain)
    presets = settings_presets(domain, settings)
    app.command(options=LabelOptions, config=settings, presets=presets, preset_help=PRESET_HELP)(label)
    app.command(options=DiagnoseOptions)(diagnose)
    app.command(options=TrainOptions, config=TrainConfig)(train)
    app.command()(labellers)
    app.command(options=DemoOptions)(demo)
    return app


def _domain(argv: Sequence[str]) -> str:
    """The value of --domain: presets, below all other options, depend on it, so it is read before them."""
    for item, following in itertools.pairwise([*argv, ""]):
        if item == "--domain":
            return following
        if item.startswith("--domain="):
            return item.removeprefix("--domain=")
    return DOMAINS[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; see `paperloop.command.App.main`."""
    return make_app(_domain(sys.argv[1:] if argv is None else argv)).main(argv)
