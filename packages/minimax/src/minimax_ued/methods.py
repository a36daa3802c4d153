"""The methods of the literature by name, as settings; what tells them apart is in `minimax_ued.settings.methods`."""

from __future__ import annotations

from typing import NamedTuple

from minimax_ued.settings.curricula import BufferConfig, MutationConfig
from minimax_ued.settings.methods import DRConfig, NCCConfig, ReplayConfig, SFLConfig, TaughtConfig

__all__ = ["METHODS", "AnyMethod", "NamedMethod"]

AnyMethod = DRConfig | ReplayConfig | TaughtConfig | SFLConfig | NCCConfig


class NamedMethod(NamedTuple):
    """A method of the literature.

    Attributes:
        settings: for `TrainConfig.method`, with the defaults of all numbers.
        summary: one line for help texts.
        reference: the paper.
    """

    settings: AnyMethod
    summary: str
    reference: str


_PLR = "Jiang, Grefenstette and Rocktäschel 2021, arXiv 2010.03934"
_ROBUST_PLR = "Jiang, Dennis et al. 2021, arXiv 2110.02439"
_ACCEL = "Parker-Holder et al. 2022, arXiv 2203.01302"
_PAIRED = "Dennis et al. 2020, arXiv 2012.02096"
_MINIMAX = "Jiang et al. 2023, arXiv 2311.12716"
_PARALLEL = BufferConfig(replay_prob="parallel")

METHODS: dict[str, NamedMethod] = {
    "dr": NamedMethod(
        DRConfig(),
        "domain randomisation: a fresh random level for every episode",
        "Tobin et al. 2017, arXiv 1703.06907",
    ),
    "plr": NamedMethod(
        ReplayConfig(learns_from="all"),
        "prioritised level replay: gradients on fresh and on replayed levels",
        _PLR,
    ),
    "robust_plr": NamedMethod(
        ReplayConfig(),
        "robust prioritised level replay: fresh levels are only scored, gradients on replayed levels",
        _ROBUST_PLR,
    ),
    "parallel_plr": NamedMethod(
        ReplayConfig(buffer=_PARALLEL),
        "robust prioritised level replay with fresh and replayed levels side by side in every cycle",
        _MINIMAX,
    ),
    "accel": NamedMethod(
        ReplayConfig(mutation=MutationConfig()),
        "ACCEL: robust prioritised level replay whose replayed levels are edited and offered to the buffer",
        _ACCEL,
    ),
    "parallel_accel": NamedMethod(
        ReplayConfig(buffer=_PARALLEL, mutation=MutationConfig()),
        "ACCEL with fresh, replayed and edited levels side by side in every cycle",
        _MINIMAX,
    ),
    "minimax": NamedMethod(
        TaughtConfig(objective="neg_return", students=1),
        "a teacher builds levels on which the student does badly",
        _PAIRED,
    ),
    "paired": NamedMethod(
        TaughtConfig(),
        "a teacher builds levels which the antagonist solves and the protagonist does not",
        _PAIRED,
    ),
    "population_paired": NamedMethod(
        TaughtConfig(objective="population_regret", students=3),
        "PAIRED with a population: regret is the best student's return over the mean",
        _PAIRED,
    ),
    "repaired": NamedMethod(
        TaughtConfig(buffer=BufferConfig()),
        "PAIRED whose students learn from replayed levels only; the teacher's levels are scored and kept",
        _ROBUST_PLR,
    ),
    "sfl": NamedMethod(
        SFLConfig(),
        "sampling for learnability: half of the levels are random, half the most learnable of many",
        "Rutherford et al. 2024, arXiv 2408.15099",
    ),
    "ncc": NamedMethod(
        NCCConfig(),
        "a distribution over kept levels, learned against the student by projected gradient ascent",
        "Monette et al. 2025, arXiv 2505.20659",
    ),
}
