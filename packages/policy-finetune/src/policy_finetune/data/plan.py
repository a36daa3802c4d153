"""What a dataset of our own is made of: which policies act, for how long, with how much noise."""

from __future__ import annotations

import importlib.metadata
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from paperloop.errors import UserError
from paperloop.settings import did_you_mean
from policy_finetune.data.policies import GradedPolicy, load_policy, shipped
from policy_finetune.envs.spec import EnvSpec

__all__ = ["QUALITIES", "DataPlan", "Noise", "Part"]

#: What a dataset can be made of; besides, "noisy:SIGMA" is the best policy with Gaussian noise of that size.
QUALITIES = ("random", "medium", "medium-replay", "medium-expert", "expert", "full-replay")

#: Gaussian noise of this σ on the canonical actions, or a sample from the policy's own distribution.
Noise = float | Literal["sample"]

#: The noise where a policy has no spread of its own: that of TD3's exploration.
DEFAULT_NOISE = 0.1

#: What the package's own versions and these may change about an episode.
VERSIONED = ("policy-finetune", "paperloop", "gymnasium", "mujoco", "numpy")


@dataclass(frozen=True, eq=False)
class Part:
    """A stretch of a dataset that one policy makes.

    Attributes:
        policy: who acts; None for uniform actions.
        steps: at least so many; the last episode is always finished.
        noise: on its actions; without meaning for uniform ones.
    """

    policy: GradedPolicy | None
    steps: int
    noise: Noise = 0.0

    def record(self) -> dict[str, Any]:
        """Return what provenance says about it."""
        if self.policy is None:
            return {"policy": "uniform", "steps": self.steps}
        known = {key: self.policy.metadata[key] for key in ("algorithm", "env_steps") if key in self.policy.metadata}
        about = {"policy": self.policy.name, "policy_sha256": self.policy.digest, **known}
        return {**about, "noise": self.noise, "steps": self.steps}


@dataclass(frozen=True, eq=False)
class DataPlan:
    """Everything that a dataset is a function of.

    Attributes:
        env_id: the environment.
        quality: one of `QUALITIES`, "noisy:SIGMA", or a new name together with `parts`.
        seed: of resets, noise and uniform actions.
        parts: who acts for how long, in the order of the file.
        command: how it is made; only recorded.
        chunk_steps: about how many steps are made in one go, by one worker. Episodes are numbered within chunks, so
            this changes which ones are made.
    """

    env_id: str
    quality: str
    seed: int
    parts: tuple[Part, ...]
    command: str = ""
    chunk_steps: int = 10_000

    @classmethod
    def of(
        cls, env_id: str, quality: str, steps: int, *, seed: int = 0,
        policies: Sequence[GradedPolicy | str | Path] | None = None, noise: Noise | None = None,
    ) -> DataPlan:  # fmt: skip
        """Plan a dataset of a named quality.

        - "random": uniform actions.
        - "medium", "expert": one policy.
        - "medium-expert": half of the steps by each, the medium one first.
        - "medium-replay", "full-replay": what a replay buffer would hold. The snapshots up to the medium (the last)
          policy act in the order of training, each for a share of the steps that is its share of training, where the
          policies say how long they were trained; else all the same. A real replay buffer is taken by `from_replay`.
        - "noisy:SIGMA": the expert with Gaussian noise of σ = SIGMA; there is a continuum of qualities in σ.

        D4RL's own sets are a million steps (medium-expert two) of SAC policies that *sample* their actions.

        Args:
            env_id: the environment.
            quality: see above.
            steps: in all; every part finishes its last episode, so the dataset has a little more.
            seed: of everything random.
            policies: policies or files of them, in the order of training; medium-expert takes two, "medium" and
                "expert" one, the replays any number. By default those that come with the package.
            noise: "sample", or σ of Gaussian noise on canonical actions. By default "sample" for policies that have a
                spread of their own, else 0.1.

        Raises:
            UserError: an unknown quality, too few steps, policies that are missing or do not fit.
        """
        if steps < 1:
            raise UserError(f"A dataset has at least 1 step; got {steps}.")
        command = _command(env_id, quality, steps, seed=seed, policies=policies, noise=noise)
        name, _, sigma = quality.partition(":")
        if name == "noisy":
            if noise is not None:
                raise UserError(f"The quality {quality!r} says its noise itself; leave noise out.")
            noise = _sigma(sigma, quality)
        elif quality not in QUALITIES:
            raise UserError(f"There is no quality {quality!r}{did_you_mean(quality, (*QUALITIES, 'noisy:SIGMA'))}")
        if name == "random":
            if policies:
                raise UserError("A random dataset takes no policies; leave them out or choose another quality.")
            return cls(env_id, quality, seed, (Part(None, steps),), command)
        chosen = _choose(env_id, name, policies)
        if noise not in (None, "sample") and not 0 <= noise < math.inf:
            raise UserError(f"The noise of a dataset is 'sample' or a number of at least 0; got {noise!r}.")
        silent = next((policy.name for policy in chosen if policy.log_std is None), None)
        if noise == "sample" and silent is not None:
            raise UserError(f"{silent} has no spread of its own to sample from; give noise as a number.")
        shares = _shares(chosen, steps, by_training=name.endswith("replay"))
        parts = tuple(
            Part(policy, share, noise if noise is not None else "sample" if policy.log_std else DEFAULT_NOISE)
            for policy, share in zip(chosen, shares, strict=True)
            if share
        )
        return cls(env_id, quality, seed, parts, command)

    def record(self) -> dict[str, Any]:
        """Return the plan as provenance: all that the episodes depend on, versions included."""
        return {
            "action": "make",
            "env_id": self.env_id,
            "quality": self.quality,
            "seed": self.seed,
            "chunk_steps": self.chunk_steps,
            "parts": [part.record() for part in self.parts],
            "versions": {name: importlib.metadata.version(name) for name in VERSIONED},
        }

    def check(self) -> EnvSpec:
        """Return the spec of the environment, after a look at whether every policy fits it."""
        spec = EnvSpec.of(self.env_id)
        for part in self.parts:
            if part.policy is not None:
                part.policy.check_fits(spec)
        return spec


def _command(
    env_id: str, quality: str, steps: int, *, seed: int, policies: Sequence[Any] | None, noise: Noise | None
) -> str:
    """Return the command that makes a dataset, for its provenance.

    It names what the data depend on and nothing else - no workers, no output, of policies the file names alone (their
    digests are recorded next to it) - so that it is the same however often and in whatever way it was asked for.
    """
    words = ["policy-finetune", "make-data", "--env-id", env_id, "--quality", quality, "--steps", str(steps)]
    words += ["--seed", str(seed)]
    names = [policy.name if isinstance(policy, GradedPolicy) else Path(policy).name for policy in policies or ()]
    words += ["--policies", *names] if names else []
    words += ["--noise", str(noise)] if noise is not None else []
    return shlex.join(words)


def _sigma(text: str, quality: str) -> float:
    try:
        sigma = float(text)
    except ValueError:
        sigma = math.nan
    if not (math.isfinite(sigma) and sigma >= 0):
        raise UserError(
            f"The noise of the quality {quality!r} is {text!r}; it must be a number of at least 0, such as noisy:0.3."
        )
    return sigma


def _choose(env_id: str, name: str, policies: Sequence[GradedPolicy | str | Path] | None) -> list[GradedPolicy]:
    """The policies that a quality needs, in the order in which they act."""
    if policies:
        found = [p if isinstance(p, GradedPolicy) else load_policy(p) for p in policies]
        wanted = {"medium-expert": 2, "medium-replay": None, "full-replay": None}.get(name, 1)
        if wanted is not None and len(found) != wanted:
            number = f"{wanted} polic{'y' if wanted == 1 else 'ies'}"
            raise UserError(f"The quality {name!r} takes {number}; got {len(found)}.")
        return found
    paths = shipped(env_id)
    needs = {"medium-expert": ["medium", "expert"], "medium-replay": ["medium"], "medium": ["medium"]}
    for grade in needs.get(name, ["expert"]):
        if grade not in paths:
            have = ", ".join(paths) or "none"
            raise UserError(
                f"No {grade!r} policy for {env_id} comes with the package (it has {have}); give policies of your own."
            )
    if name in ("medium-replay", "full-replay"):
        grades = list(paths)
        last = grades.index("medium" if name == "medium-replay" else "expert")
        return [load_policy(paths[grade]) for grade in grades[: last + 1]]
    return [load_policy(paths[grade]) for grade in needs.get(name, ["expert"])]


def _shares(policies: Sequence[GradedPolicy], steps: int, *, by_training: bool) -> list[int]:
    """How many of the steps each policy makes; they add up to `steps`."""
    trained = [policy.env_steps for policy in policies]
    weights = np.ones(len(policies))
    if by_training and None not in trained:
        weights = np.diff(np.array([0, *cast(list[int], trained)], float))
        if (weights < 0).any():
            raise UserError(
                f"The policies are given in the order of training, but their training steps are {trained}; sort them."
            )
        if not weights.sum():
            weights = np.ones(len(policies))
    ends = np.rint(np.cumsum(weights) / weights.sum() * steps).astype(int)
    return np.diff(ends, prepend=0).tolist()
