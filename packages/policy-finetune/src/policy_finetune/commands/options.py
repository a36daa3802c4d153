"""What each command of `policy-finetune` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from paperloop.cli import Device, Positional
from paperloop.settings import Count, CountOrZero, Ge, NotNegative, Seed, fault, settings
from policy_finetune.config import DataOptions

__all__ = []


@settings
class EvaluateOptions:
    """What `evaluate` takes.

    Attributes:
        runs: run folders; each run's newest checkpoint is measured
        episodes: episodes for each agent
        noise: standard deviation of Gaussian noise on the actions
        seed: of the starts of episodes, and the noise
    """

    runs: Positional[tuple[Path, ...]]
    episodes: Count = 100
    noise: NotNegative = 0.0
    seed: Seed = 0

    def __post_init__(self) -> None:
        if not self.runs:
            raise fault(
                self, "runs", text="evaluate needs at least one run folder: policy-finetune evaluate runs/NAME."
            )


@settings
class ExportOptions:
    """What `export` takes.

    Attributes:
        run: the run folder; the policy of its newest checkpoint is written
        out: the npz file to write, or an .onnx file
        agent: which of the run's agents, from 0 on
        overwrite: replace OUT
    """

    run: Positional[Path]
    out: Path
    agent: CountOrZero = 0
    overwrite: bool = False


@settings
class MakeDataOptions:
    """What `make-data` takes.

    Attributes:
        out: the file to write, such as hopper-medium.hdf5 (D4RL's layout)
        env_id: gymnasium's name of the environment
        quality: random, medium, medium-replay, medium-expert, expert, full-replay, or noisy:SIGMA
        steps: environment steps in all
        seed: of resets, noise and random actions
        policies: policy files in the order of training, such as `train` writes; empty: those that come with the package
        noise: standard deviation of Gaussian noise on the actions (None: a policy's own spread, or 0.1)
        workers: processes; the file does not depend on it
        compress: gzip the arrays
        quiet: no progress bar, no table
    """

    out: Path
    env_id: str = "Hopper-v5"
    quality: str = "medium"
    steps: Count = 200_000
    seed: Seed = 0
    policies: tuple[Path, ...] = ()
    noise: NotNegative | None = None
    workers: Count = 1
    compress: bool = False
    quiet: bool = False


@settings
class ReplayDataOptions:
    """What `replay-data` takes.

    Attributes:
        run: a run of `train` or `finetune`
        out: the file to write, such as hopper-replay.hdf5 (D4RL's layout)
        steps: the oldest so many transitions in the buffer, or all
        agent: which of the run's agents, from 0 on
        compress: gzip the arrays
        quiet: no table; warnings are still shown
    """

    run: Positional[Path]
    out: Path
    steps: Count = 200_000
    agent: CountOrZero = 0
    compress: bool = False
    quiet: bool = False


@settings
class DiagnoseOptions:
    """What `diagnose` takes.

    Attributes:
        data: the dataset that the agents learned from
        run: their run folder; without it the data alone are looked at, and nothing is recommended
        env_id: of the data alone: gymnasium's name of the environment, where the file does not say
        loading: of the data alone: how they are read; with a run, as it read them
        episodes: episodes for each agent
        seed: of the starts of episodes
        out: where diagnosis.json goes (None: RUN/plots; of the data alone, nowhere)
        device: where the agents are restored
    """

    data: Positional[Path]
    run: Positional[Path | None] = None
    env_id: str = ""
    loading: DataOptions = DataOptions()
    episodes: Annotated[int, Ge(2)] = 20
    seed: Seed = 0
    out: Path | None = None
    device: Device = "cpu"


@settings
class ReportOptions:
    """What `report` takes.

    Attributes:
        runs: run folders
    """

    runs: Positional[tuple[Path, ...]]

    def __post_init__(self) -> None:
        if not self.runs:
            raise fault(self, "runs", text="report needs at least one run folder: policy-finetune report runs/NAME.")


@settings
class DemoOptions:
    """What `demo` takes.

    Attributes:
        out: where the data, the runs and their figures go
        seed: everything random follows from it
        device: where to compute
    """

    out: Path = Path("demo/policy-finetune")
    seed: Seed = 0
    device: Device = "cpu"
