"""The command `hgap`: make-policies, make-data, convert, train, plan, evaluate, demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from hgap.config import PRESET_HELP, PRESETS, Data, PlanConfig, TrainConfig
from paperloop.cli import App, DemoOptions, Device, Positional, RunOptions, start_jax
from paperloop.settings import Count, CountOrZero, Seed, settings

__all__ = ["main"]

app = App("hgap", "A generalist planner from unlabelled motion: one model, any objective at test time.")

#: The bodies, as `hgap.envs.bodies` has them; named here because that module loads NumPy.
Body = Literal["HalfCheetah-v5", "Walker2d-v5", "Humanoid-v5", "CMUHumanoid"]


@settings
class MakePoliciesOptions:
    """What `make-policies` takes.

    Attributes:
        out: a folder for the searches; the policies are gathered in OUT/ENV_ID.npz
        env_id: the body
        behaviours: which of the body's behaviours (none given: all)
        iterations: of augmented random search, for each behaviour
        grades: policies kept of each behaviour, evenly spaced over the search
        steps: control steps of an episode
        seed: of the search
    """

    out: Path
    env_id: Body = "HalfCheetah-v5"
    behaviours: tuple[str, ...] = ()
    iterations: Count = 450
    grades: Count = 3
    steps: Count = 200
    seed: Seed = 0


@app.command(options=MakePoliciesOptions)
def make_policies(options: MakePoliciesOptions) -> None:
    """Search for linear policies of several behaviours, of which make-data makes motion.

    Continues what is in the folder. Policies for HalfCheetah-v5 and Walker2d-v5 come with the package.
    """
    from hgap.evaluation.commands import make_policies

    make_policies(options, command=_command_line())


@settings
class MakeDataOptions:
    """What `make-data` takes.

    Attributes:
        out: the file to write: .npz, or .hdf5 in D4RL's layout
        env_id: the body
        policies: a file that make-policies wrote (None: the one that comes with the package)
        steps: control steps in all
        episode: control steps of an episode, unless the body falls
        shortest: control steps that a policy acts before another may take over
        longest: control steps after which another takes over
        noise: standard deviations of the noise on the actions; each turn has one of them
        means: write the actions before noise, as MoCapAct's mean actions, and not those that were executed
        seed: of starts, turns and noise
    """

    out: Path
    env_id: Body = "HalfCheetah-v5"
    policies: Path | None = None
    steps: Count = 100_000
    episode: Count = 500
    shortest: Count = 25
    longest: Count = 150
    noise: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)] = (0.05, 0.1, 0.2, 0.5)
    means: bool = False
    seed: Seed = 0


@app.command(options=MakeDataOptions)
def make_data(options: MakeDataOptions) -> None:
    """Make unlabelled motion: policies that are switched at random, with noise.

    Killed and called again, it continues, and the data are the same.
    """
    from hgap.evaluation.commands import make_data

    make_data(options)


@settings
class ConvertOptions:
    """What `convert` takes.

    Attributes:
        files: MoCapAct's HDF5 files, or AMC files of CMU's motion capture
        out: the file to write: a dataset for `train` of HDF5 files, poses for `evaluate --poses` of AMC files
        actions: of MoCapAct: those executed, or the experts' means
        limit: of MoCapAct: rollouts of each snippet and kind of start (None: all)
        rate: of AMC: frames a second
        ground: of AMC: the feet's lowest point is put on the floor over the whole clip, in each pose, or not at all
    """

    files: Positional[tuple[Path, ...]]
    out: Path
    actions: Literal["actions", "mean_actions"] = "actions"
    limit: Count | None = None
    rate: Annotated[float, Field(gt=0)] = 120.0
    ground: Literal["clip", "frame", "none"] = "clip"


@app.command(options=ConvertOptions)
def convert(options: ConvertOptions) -> None:
    """Turn files of MoCapAct into a dataset, or motion capture into poses: `hgap convert CMU_*.hdf5 --out data.npz`.

    Both are of the CMU humanoid, whose model comes with the extra `humanoid`.
    """
    from hgap.evaluation.commands import convert

    convert(options)


@settings
class TrainOptions(RunOptions):
    """What `train` takes next to the model.

    Attributes:
        data: the dataset: D4RL HDF5, Minari or npz
    """

    data: Positional[Path]


@app.command(
    options=TrainOptions,
    config=TrainConfig,
    presets=PRESETS,
    preset_help=PRESET_HELP,
    essentials=(
        "autoencoder.codes.per_step", "autoencoder.codes.quantizer.type", "autoencoder.updates", "prior.updates",
        "seeds",
    ),
)  # fmt: skip
def train(options: TrainOptions, config: TrainConfig) -> None:
    """Train a model on motion, without rewards: `hgap train motion.npz --out runs/cheetah`.

    First the autoencoder, then the prior. Continues what is in the folder, and writes OUT/model-SEED.npz at the end.
    """
    start_jax(options.device)
    from hgap.fitting import fit
    from paperloop_lab.report import report, report_command
    from paperloop_lab.sinks import make_sinks

    arguments: dict[str, Any] = options.run_arguments() | {"sinks": make_sinks(options.sinks)}
    arguments["log_every"] = options.log_every or 1
    fit(Data(path=str(options.data), model=config), options.out, **arguments)
    describe = report if options.quiet else report_command
    for stage, metrics in (("autoencoder", ["state_error", "action_error", "perplexity"]), ("prior", ["loss"])):
        names = [f"{split}/{name}" for name in metrics for split in ("train", "held_out")]
        describe([options.out / stage], options.out / stage / "plots", metrics=names)


@settings
class PlanOptions:
    """What `plan` takes next to the planner's settings.

    Attributes:
        run: the folder that train wrote, or an exported model
        objective: a name of the library, or a Python file that defines objective(trajectory)
        steps: control steps of the episode
        model: which of the run's models
        start: of the episode, its seed
        poses: of the CMU humanoid, a file that convert wrote: episodes begin in one of them (None: standing)
        out: a folder for the motion, its figure and its film (None: RUN/plans/OBJECTIVE)
        film: frames of the film, as a GIF; 0: none
        budget: milliseconds for a plan, kept by fewer samples and in the end by greedy decoding (None: no budget)
        device: where to compute; auto: the GPU where there is one
    """

    run: Positional[Path]
    objective: str = "forward"
    steps: Count = 200
    model: CountOrZero = 0
    start: Seed = 0
    poses: Path | None = None
    out: Path | None = None
    film: CountOrZero = 0
    budget: Annotated[float, Field(gt=0)] | None = None
    device: Device = "auto"


@app.command(options=PlanOptions, config=PlanConfig, essentials=("samples", "search.type", "search.temperature"))
def plan(options: PlanOptions, config: PlanConfig) -> None:
    """Move a body with a trained model: one episode in the simulator, for any objective."""
    start_jax(options.device)
    from hgap.evaluation.commands import plan_command

    plan_command(options, config)


Rival = Literal["greedy", "random_codes", "mppi", "cem", "cloning", "tap", "iql", "td3bc"]


@settings
class EvaluateOptions:
    """What `evaluate` takes next to the planner's settings.

    Attributes:
        run: the folder that train wrote, or an exported model
        objectives: names of the library, or Python files
        rivals: of greedy, random_codes, mppi, cem; cloning, tap, iql and td3bc learn from the data
        data: the dataset that they learn from; rewards are put on it by each objective
        updates: of iql and td3bc (from policy-finetune, the extra `specialists`), for each objective
        episodes: side by side
        steps: control steps of an episode
        start: of the episodes, their seed
        poses: of the CMU humanoid, a file that convert wrote: episodes begin in one of them (None: standing)
        out: a folder for the table (None: RUN/evaluation)
        device: where to compute; auto: the GPU where there is one
    """

    run: Positional[Path]
    objectives: tuple[str, ...] = ("forward", "backward", "jump", "stop", "turn")
    rivals: tuple[Rival, ...] = ("greedy", "random_codes", "mppi")
    data: Path | None = None
    updates: Count = 20_000
    episodes: Count = 10
    steps: Count = 200
    start: Seed = 1
    poses: Path | None = None
    out: Path | None = None
    device: Device = "auto"


@app.command(options=EvaluateOptions, config=PlanConfig, essentials=("samples", "search.type", "search.temperature"))
def evaluate(options: EvaluateOptions, config: PlanConfig) -> None:
    """Measure a model on several objectives next to rivals: returns with intervals, lengths, falls, time a plan."""
    start_jax(options.device)
    from hgap.evaluation.commands import evaluate_command

    evaluate_command(options, config)


@app.command(options=DemoOptions)
def demo(options: DemoOptions) -> None:
    """Show it in about a minute: motion of a cheetah, a small model of it, one episode for each of three objectives."""
    start_jax(options.device)
    from hgap.evaluation.demo import run_demo

    run_demo(options.out)


def _command_line() -> str:
    return " ".join(["hgap", *sys.argv[1:]])


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    return app.main(argv)
