"""The command `otr`: label, diagnose, train, labellers, demo."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

from otr.commands.settings import PRESET_SETTINGS, SCHEMA, LabelOptions, LabelSettings
from otr.presets import DOMAINS, PRESET_HELP
from otr.training.config import SCHEMA as TRAIN_SCHEMA
from otr.training.config import TrainConfig
from paperloop.cli import App, Device, Positional, SinkName
from paperloop.errors import note
from paperloop.settings import Count, Seed, settings

__all__ = ["app", "main"]

app = App("otr", "Rewards for offline data from a few demonstrations, by optimal transport; and its rivals.")


@app.command(
    options=LabelOptions, config=LabelSettings, presets=PRESET_SETTINGS, preset_help=PRESET_HELP, schema=SCHEMA,
    essentials=(
        "demos", "overwrite", "drop_time_outs", "episode_ends", "labeller.features.scaling", "labeller.cost.type",
        "labeller.solver.backend", "labeller.aggregate",
    ),
)  # fmt: skip
def label(options: LabelOptions, config: LabelSettings) -> None:
    """Label a file: `otr label DATA --demos top:1 --out labelled.hdf5 --preset otr`.

    Reads, labels and writes D4RL HDF5, Minari and npz. The rewards that were there stay in the file as
    infos/original_rewards, with the settings and the source. Killed and called again it resumes, and the file has the
    same bytes. Without --preset it is otr.
    """
    from otr.commands.label import choose_device, label_file

    label_file(options, choose_device(config.labeller, options.device))


@settings
class DiagnoseOptions:
    """What `diagnose` takes.

    Attributes:
        data: the labelled file
        truth: the same data with its true rewards (None: those that `label` kept in the file)
        demos: the demonstrations, for the plan, where they came from a file
        episode: whose plan is drawn (None: that of the median labelled return per step)
        out: folder for diagnosis.json, returns.png and plan.png (None: a table only)
        quiet: print nothing
    """

    data: Positional[Path]
    truth: Path | None = None
    demos: str | None = None
    episode: int | None = None
    out: Path | None = None
    quiet: bool = False


@app.command(options=DiagnoseOptions, essentials=("truth", "demos", "episode"))
def diagnose(options: DiagnoseOptions) -> None:
    """Compare labels with true rewards: `otr diagnose labelled.hdf5 --out diagnosis`.

    Rank correlations by episode and by step, the share that the lengths of episodes alone explain, the error of the
    transport plans, which demonstration was chosen.
    """
    from otr.commands.diagnose import diagnose_file

    diagnose_file(
        options.data, truth=options.truth, demos=options.demos, episode=options.episode, out=options.out,
        quiet=options.quiet,
    )  # fmt: skip


@settings
class TrainOptions:
    """What `train` takes next to its configuration.

    Attributes:
        out: the folder: made if absent; given alone, what it holds is resumed or shown
        seed: everything random follows from it
        device: where to compute; auto: the GPU where there is one
        log_every: dispatches between rows of metrics (None: about 100 rows)
        save_every: dispatches between checkpoints (None: one every ten minutes)
        sinks: where metrics go next to metrics.jsonl
        quiet: no progress bar, no notes, no table
    """

    out: Path
    seed: Seed = 0
    device: Device = "auto"
    log_every: Count | None = None
    save_every: Count | None = None
    sinks: tuple[SinkName, ...] = ()
    quiet: bool = False


@app.command(
    options=TrainOptions, config=TrainConfig, schema=TRAIN_SCHEMA,
    essentials=("data", "demos", "domain", "labels", "learners", "env_id", "seeds", "updates", "hidden", "seed"),
)  # fmt: skip
def train(options: TrainOptions, config: TrainConfig) -> None:
    """Learn from a dataset labelled in several ways: `otr train --data DATA --labels oracle otr constant --out OUT`.

    Trains every learner on every labelling, all seeds in one program, evaluates in gymnasium, and shows a table with
    intervals over seeds. Killed and called again it resumes; called on what is complete, it shows the table again.
    For both `otr train --out OUT` alone is enough, with neither data nor settings. Other labels, learners or settings
    are another training, with an OUT of its own. Needs `pip install 'otr[train]'`.
    """
    from otr.training.train import train as train_arms

    seed = options.seed
    if config == TrainConfig(devices=config.devices) and (options.out / "train.json").exists():
        from otr.training.report import saved_training

        saved, saved_seed = saved_training(options.out)
        config = dataclasses.replace(saved, devices=config.devices) if config.devices > 1 else saved
        seed = seed or saved_seed
    train_arms(
        config, options.out, seed=seed, device=options.device, quiet=options.quiet,
        log_every=options.log_every, save_every=options.save_every, sinks=options.sinks,
    )  # fmt: skip


@app.command()
def labellers() -> None:
    """List the presets of `label`, and what they do."""
    width = max(len(name) for name in PRESET_HELP if not name.endswith(DOMAINS))  # the others follow these
    for name, text in PRESET_HELP.items():
        print(f"{name:<{width}}  {text}")


@settings
class DemoOptions:
    """What `demo` takes.

    Attributes:
        out: where data, labels and figures go
        seed: of the data
    """

    out: Path = Path("demo/otr")
    seed: Seed = 0


@app.command(options=DemoOptions)
def demo(options: DemoOptions) -> None:
    """See what labels are worth: two simulated tasks, three labellers, figures, in a quarter of a minute.

    Where policy-finetune is installed, learners show next what they make of labels of HalfCheetah, in another minute.
    """
    from otr.commands.demo import run_demo

    run_demo(options.out, seed=options.seed)
    if importlib.util.find_spec("policy_finetune") is None:
        note(["with `pip install 'otr[train]'` the demo also trains on labels"])
        return
    from otr.training.demo import run_training_demo

    print("\nHalfCheetah, 20 episodes: cloning, and IQL, by the true rewards, by labels, by a constant")
    run_training_demo(options.out, seed=options.seed)


main = app.main
