"""A binary tree whose leaves each hold one piece of information: what coordination is worth, in closed form.

The dynamics are known. A deployment sends B policies from the root to one leaf each; a leaf pays if nobody has seen it.
How many deployments does it take to see all L leaves?
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["cascade_deployments", "expected_new", "identical_deployments", "independent_deployments", "simulate"]


def cascade_deployments(leaves: int, agents: int) -> int:
    """Return ceil(L / B): each policy knows the leaves that those before it have claimed, and none is visited twice."""
    return math.ceil(leaves / agents)


def identical_deployments(leaves: int, agents: int) -> int:
    """Return L: agents that plan alike go to the same leaf, so that B of them see what one sees."""
    return leaves


def expected_new(unseen: int, agents: int) -> float:
    """Return m (1 - (1 - 1/m)^B), the expected new leaves when B agents choose alone among m unseen ones."""
    return unseen * (1.0 - (1.0 - 1.0 / unseen) ** agents) if unseen else 0.0


def independent_deployments(leaves: int, agents: int) -> float:
    """Return the expected deployments when each agent chooses uniformly among the unseen leaves without the others.

    With m unseen leaves the number j of distinct leaves that B draws hit has probability
    `S(B, j) m! / (m - j)! / m^B`, S the Stirling numbers of the second kind, so that
    `E[m] = 1 + Σ_j P(j | m) E[m - j]` with `E[0] = 0`.
    """
    expected = np.zeros(leaves + 1)
    for m in range(1, leaves + 1):
        distinct = np.zeros(agents + 1)
        distinct[0] = 1.0
        for _ in range(agents):  # one draw more: it hits one of the j already hit, or a new one
            j = np.arange(agents + 1)
            stay, move = distinct * np.minimum(j, m) / m, distinct * np.maximum(m - j, 0) / m
            distinct = stay + np.concatenate([[0.0], move[:-1]])
        hit = np.arange(1, min(agents, m) + 1)
        expected[m] = 1.0 + float((distinct[hit] * expected[m - hit]).sum())
    return float(expected[leaves])


def simulate(depth: int, agents: int, method: str, *, rng: np.random.Generator) -> int:
    """Return the deployments until all leaves of a tree are seen, by planning: dynamic programming from the leaves up.

    Args:
        depth: of the tree, which has 2^depth leaves.
        agents: B, policies in a deployment.
        method: cascade (a leaf claimed by an earlier policy pays nothing), identical (ties broken alike), or
            independent (ties broken at random, uniformly over leaves).
        rng: breaks the ties of independent agents.
    """
    leaves = 2**depth
    seen = np.zeros(leaves, bool)
    deployments = 0
    while not seen.all():
        deployments += 1
        claimed = seen.copy()
        reached = []
        for _ in range(agents):
            pays = ~(claimed if method == "cascade" else seen)
            leaf = _descend(pays.astype(float), rng if method == "independent" else None)
            reached.append(leaf)
            claimed[leaf] = True
        seen[reached] = True
    return deployments


def _descend(pays: np.ndarray, rng: np.random.Generator | None) -> int:
    """Return the leaf that an optimal policy reaches: at each node the child of the greater value.

    Ties go to the left, or, with a generator, to a child with the probability of its share of the best leaves.
    """
    levels = [(pays, pays)]  # value, and how many leaves attain it
    value, count = pays, np.ones_like(pays)
    while len(value) > 1:
        left, right = value[::2], value[1::2]
        best = np.maximum(left, right)
        count = count[::2] * (left == best) + count[1::2] * (right == best)
        value = best
        levels.append((value, count))
    node = 0
    for depth in range(len(levels) - 2, -1, -1):
        value, count = levels[depth] if depth else (pays, np.ones_like(pays))
        a, b = 2 * node, 2 * node + 1
        if value[a] == value[b]:
            right = rng is not None and rng.random() < count[b] / (count[a] + count[b])
        else:
            right = value[b] > value[a]
        node = b if right else a
    return node
