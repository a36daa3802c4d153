"""What the tests share: small datasets, and letting go of compiled programs."""

import jax
import numpy as np
import pytest

from paperloop_data import EpisodeDataset


@pytest.fixture(autouse=True, scope="module")
def release_programs():
    """Let go of a module's compiled programs: hundreds of them would add up to gigabytes in each process."""
    yield
    jax.clear_caches()


def random_dataset(seed=0, episodes=6, length=10, obs=3, act=1, terminal=0.5, **changes):
    """Return episodes of random numbers, some of which end by themselves and some at a time limit."""
    rng = np.random.default_rng(seed)
    n = episodes * length
    ends = np.arange(length - 1, n, length)
    terminated, truncated = np.zeros(n, bool), np.zeros(n, bool)
    by_itself = rng.random(episodes) < terminal
    terminated[ends], truncated[ends] = by_itself, ~by_itself
    fields = {
        "observations": rng.normal(size=(n, obs)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (n, act)).astype(np.float32),
        "rewards": rng.normal(size=n).astype(np.float32),
        "terminated": terminated,
        "truncated": truncated,
        "final_observations": rng.normal(size=(episodes, obs)).astype(np.float32),
    }
    return EpisodeDataset(**(fields | changes))


@pytest.fixture(scope="session")
def make_dataset():
    """Return the function that makes random datasets."""
    return random_dataset
