"""Counters beyond 32 bits, against Python's integers."""

import jax.numpy as jnp
import numpy as np
import pytest

from minimax_ued.support import counting


def counter(n):
    return jnp.array([n % 2**32, n >> 32], jnp.uint32)


@pytest.mark.parametrize("n", [0, 1, 2**31, 2**32 - 1, 2**32, 2**32 + 5, 3 * 2**32 - 2, 2**52 + 7, 2**64 - 2**33])
def test_it_counts_as_python_does(n):
    assert counting.value(counter(n)) == n
    for more in (0, 1, 7, 2**31, 2**32 - 1):
        assert counting.value(counting.add(counter(n), jnp.uint32(more))) == n + more
    if n:
        assert counting.value(counting.before(counter(n))) == n - 1
    assert counting.as_float(counter(n)) == np.float32(n)
    for m in (1, 3, 100, 65_537, 2**31 - 1, 2**31):
        assert counting.remainder(counter(n), m) == n % m


def test_a_mask_counts_some_of_several():
    counters = jnp.stack([counter(2**32 - 1), counter(4)])
    assert counting.value(counting.add(counters, jnp.array([True, False]))).tolist() == [2**32, 4]
