"""What all tests share."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def release_programs():
    """Let go of a module's compiled programs: hundreds of them would add up to gigabytes in each process."""
    yield
    jax.clear_caches()
