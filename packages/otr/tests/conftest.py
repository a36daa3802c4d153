from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from paperloop_data import EpisodeDataset

for library in ("PYTORCH", "JAX", "CUPY", "TENSORFLOW"):
    os.environ.setdefault(f"POT_BACKEND_DISABLE_{library}", "1")  # importing POT would import each of them


def walk(rng: np.random.Generator, length: int, width: int, *, zeros: bool = False) -> np.ndarray:
    """A smooth random path, float32; with an all-zero state and a run of duplicates where asked and long enough."""
    values = np.cumsum(0.2 * rng.normal(size=(length, width)), axis=0) + rng.normal(size=width)
    if zeros and length >= 5:
        values[length // 2] = 0.0
        values[length // 4 : length // 4 + 3] = values[length // 4]
    return values.astype(np.float32)


def dataset(episodes: list[np.ndarray], *, seed: int = 0, rewards: np.ndarray | None = None) -> EpisodeDataset:
    """A dataset of these observations, with random actions and rewards and stored final observations."""
    rng = np.random.default_rng(seed)
    lengths = np.array([len(e) for e in episodes])
    steps = int(lengths.sum())
    terminated = np.zeros(steps, bool)
    terminated[np.cumsum(lengths) - 1] = True
    return EpisodeDataset(
        observations=np.concatenate(episodes),
        actions=rng.uniform(-1, 1, (steps, 3)).astype(np.float32),
        rewards=rng.normal(size=steps).astype(np.float32) if rewards is None else rewards,
        terminated=terminated,
        truncated=np.zeros(steps, bool),
        episode_starts=np.cumsum(lengths) - lengths,
        final_observations=np.stack([e[-1] + 0.1 for e in episodes]).astype(np.float32),
    )


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(name="walk", scope="session")
def walk_fixture():
    return walk


@pytest.fixture(name="dataset", scope="session")
def dataset_fixture():
    return dataset


@pytest.fixture
def small(rng) -> EpisodeDataset:
    """Seven episodes of 1 to 40 steps, 5 dimensions; the first times out, the others terminate."""
    data = dataset([walk(rng, n, 5) for n in (12, 1, 25, 40, 2, 25, 7)])
    first = np.arange(data.num_steps) == 11
    return data.replace(terminated=data.terminated & ~first, truncated=first, provenance=data.provenance)


@pytest.fixture(scope="session")
def demonstrations() -> Path:
    """The folder of real demonstrations, looked for upwards from this file."""
    for parent in Path(__file__).resolve().parents:
        for folder in (parent / "shared" / "data" / "demonstrations", parent.parent / "shared/data/demonstrations"):
            if folder.is_dir():
                return folder
    pytest.skip("the real demonstrations (shared/data/demonstrations) are not next to this checkout")
