"""Level buffer and scores of minimax-ued against jaxued, on the same random states.

jaxued (Coward, Beukman and Foerster 2024, arXiv 2403.13091) is a second, independent implementation of prioritised
level replay. It runs in an environment of its own, from the root of the repository:

    uv venv .cache/peers/jaxued --python 3.11
    uv pip install -p .cache/peers/jaxued --no-deps jaxued==0.0.1
    uv pip install -p .cache/peers/jaxued "jax==0.10.2" flax chex gymnax six
    python benchmarks/parity_jaxued_buffer.py

PAPERLOOP_PEER_JAXUED names another Python that can import jaxued. Without either, the script says so and is skipped.
It prints the largest difference of each quantity over all states and exits with 1 if one is above its tolerance.

Where the two differ by design, the comparison is set up around it:
- jaxued's staleness is episode count minus time stamp; ours is an age. They are mapped onto one another.
- With no stale level at all, jaxued makes P_C uniform, we make it P_S; states have at least one stale level.
- jaxued's maximal return of a level without a finished episode is 0, ours is -inf; and its maximum starts at 0, so
  rewards are not negative here.
- jaxued inserts if score > the slot's, we if >=; scores are distinct. It ages the buffer on insertion; the insertion
  is compared with rho = 0, where age has no part.
- In one batch, jaxued lets a second copy of a level update the first, we keep the first; and a known level that the
  same batch pushed out is held against the next slot by jaxued, against its old slot by us (as in minimax). Levels
  that repeat are therefore inserted one at a time, and batches hold levels that do not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

# (N, temperature, rho) of the states whose weights are compared; the states are shared out evenly.
SETTINGS = ((50, 0.3, 0.3), (50, 1.0, 0.7), (4000, 0.1, 0.3), (4000, 0.3, 0.0))
STEPS, LEVELS = 64, 8
CAPACITY, BATCH, BATCHES = 24, 8, 6
TOLERANCE = {
    "weights": 1e-6,
    "max_return": 1e-5,
    "max_mc": 1e-5,
    "positive_value_loss": 1e-5,
    "insert_batches": 0.0,
    "insert_repeats": 0.0,
}


def make_states(states: int, seed: int) -> dict[str, np.ndarray]:
    """Random states, rollouts and batches of levels."""
    rng = np.random.default_rng(seed)
    data: dict[str, np.ndarray] = {}
    each = -(-states // len(SETTINGS))
    for k, (n, _, _) in enumerate(SETTINGS):
        size = rng.integers(1, n + 1, each)
        size[: each // 4] = n
        filled = np.arange(n) < size[:, None]
        scores = rng.normal(size=(each, n))
        coarse = rng.random(each) < 0.3
        scores[coarse] = np.round(scores[coarse], 1)  # ties
        ages = rng.integers(0, rng.choice([3, 100, 50_000], size=(each, 1)), (each, n)) * filled
        ages[:, 0] += 1
        data |= {
            f"scores{k}": np.where(filled, scores, -np.inf).astype(np.float32),
            f"ages{k}": ages.astype(np.int32),
            f"size{k}": size.astype(np.int32),
        }
    shape = (states, STEPS, LEVELS)
    dones = rng.random(shape) < rng.choice([0.01, 0.05, 0.3], size=(states, 1, LEVELS))
    data |= {
        "dones": dones,
        "rewards": (rng.random(shape) * (rng.random(shape) < 0.1)).astype(np.float32),
        "values": rng.normal(size=shape).astype(np.float32),
        "advantages": rng.normal(size=shape).astype(np.float32),
        "stored": rng.random((states, LEVELS)).astype(np.float32),
        "levels": rng.permuted(np.broadcast_to(np.arange(BATCH * BATCHES), (states, BATCH * BATCHES)), axis=1)
        .reshape(states, BATCHES, BATCH)
        .astype(np.int32),
        "repeats": rng.integers(0, 40, (states, BATCHES, BATCH)).astype(np.int32),
        "level_scores": rng.permuted(
            np.broadcast_to(np.arange(BATCH * BATCHES, dtype=np.float32), (states, BATCH * BATCHES)), axis=1
        ).reshape(states, BATCHES, BATCH),
    }
    return data


def run_ours(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The quantities, by minimax-ued."""
    import jax
    import jax.numpy as jnp

    from minimax_ued.config import BufferConfig
    from minimax_ued.replay.buffer import LevelBuffer
    from minimax_ued.replay.scores import SCORES

    def make(**config: Any) -> LevelBuffer:
        return LevelBuffer(
            BufferConfig(**config),
            level_hash=lambda level: jnp.stack([level, level * 7]).astype(jnp.uint32),
            same_level=lambda a, b: a == b,
        )

    out = {}
    for k, (n, temperature, rho) in enumerate(SETTINGS):
        buffer = make(capacity=n, temperature=temperature, staleness_coef=rho)
        empty = buffer.init(jnp.int32(0))

        def weights(scores: Any, ages: Any, size: Any, buffer: LevelBuffer = buffer, empty: Any = empty) -> Any:
            filled = jnp.arange(buffer.config.capacity) < size
            return buffer.weights(empty.replace(scores=scores, ages=ages, filled=filled))

        out[f"weights{k}"] = jax.jit(jax.vmap(weights))(*(data[f"{name}{k}"] for name in ("scores", "ages", "size")))

    rollout = [data[name] for name in ("rewards", "dones", "values", "advantages", "stored")]
    for name in ("max_mc", "positive_value_loss"):
        out[name], out["max_return"] = jax.jit(jax.vmap(SCORES[name]))(*rollout)

    def insert(buffer: LevelBuffer, batch: int) -> Any:
        def step(state: Any, offered: Any) -> Any:
            new = jnp.full(batch, -1)
            return buffer.insert(state, *offered, jnp.zeros(batch), new, new + 1), None

        def run(levels: Any, scores: Any) -> Any:
            offered = levels.reshape(-1, batch), scores.reshape(-1, batch)
            state = jax.lax.scan(step, buffer.init(jnp.int32(0)), offered)[0]
            return jnp.stack([state.levels.astype(jnp.float32), state.scores])

        return jax.jit(jax.vmap(run))

    buffer = make(capacity=CAPACITY, staleness_coef=0.0)  # level by level, as jaxued goes through a batch
    out["insert_batches"] = insert(buffer, 1)(data["levels"], data["level_scores"])
    out["insert_repeats"] = insert(buffer, 1)(data["repeats"], data["level_scores"])
    return {name: np.asarray(value) for name, value in out.items()}


def run_peer(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The quantities, by jaxued."""
    import jax
    import jax.numpy as jnp

    if not hasattr(jax, "tree_map"):  # jaxued 0.0.1 on PyPI still calls it; newer sources do not
        jax.tree_map = jax.tree.map

    from jaxued.level_sampler import LevelSampler
    from jaxued.utils import compute_max_returns, max_mc, positive_value_loss

    out = {}
    now = 60_000
    for k, (n, temperature, rho) in enumerate(SETTINGS):
        sampler = LevelSampler(n, staleness_coeff=rho, prioritization_params={"temperature": temperature})

        def weights(scores: Any, ages: Any, size: Any, sampler: Any = sampler) -> Any:
            return sampler.level_weights(
                {"scores": scores, "timestamps": now - ages, "size": size, "episode_count": now, "levels": None}
            )

        out[f"weights{k}"] = jax.jit(jax.vmap(weights))(*(data[f"{name}{k}"] for name in ("scores", "ages", "size")))

    def scores(dones: Any, rewards: Any, values: Any, advantages: Any, stored: Any) -> Any:
        dones = dones.astype(jnp.uint32)  # the type of its counters; bool and float are refused
        best = jnp.maximum(stored, compute_max_returns(dones, rewards))
        return best, max_mc(dones, values, best), positive_value_loss(dones, advantages)

    out["max_return"], out["max_mc"], out["positive_value_loss"] = jax.jit(jax.vmap(scores))(
        *(data[name] for name in ("dones", "rewards", "values", "advantages", "stored"))
    )

    sampler = LevelSampler(
        CAPACITY, staleness_coeff=0.0, prioritization_params={"temperature": 0.3}, duplicate_check=True
    )

    def insert(levels: Any, level_scores: Any) -> Any:
        state = sampler.initialize(jnp.int32(0))
        state, _ = jax.lax.scan(lambda state, batch: sampler.insert_batch(state, *batch), state, (levels, level_scores))
        return jnp.stack([state["levels"].astype(jnp.float32), state["scores"]])

    out["insert_batches"] = jax.jit(jax.vmap(insert))(data["levels"], data["level_scores"])
    out["insert_repeats"] = jax.jit(jax.vmap(insert))(data["repeats"], data["level_scores"])
    return {name: np.asarray(value) for name, value in out.items()}


def find_peer() -> tuple[str | None, str]:
    """Return the peer's Python, or None and the reason."""
    default = Path(__file__).resolve().parents[1] / ".cache" / "peers" / "jaxued" / "bin" / "python"
    python = os.environ.get("PAPERLOOP_PEER_JAXUED", str(default))
    if not Path(python).exists():
        return None, f"there is no Python at {python}; this script's docstring says how to make it"
    found = subprocess.run(
        [python, "-c", "import jaxued.level_sampler, jaxued.utils"], capture_output=True, text=True, check=False
    )
    if found.returncode:
        return None, f"{python} cannot import jaxued: {found.stderr.strip().splitlines()[-1]}"
    return python, ""


def difference(ours: np.ndarray, peer: np.ndarray) -> float:
    """Largest absolute difference; infinite where one is finite and the other is not, or the shapes differ."""
    if ours.shape != peer.shape or not np.array_equal(np.isfinite(ours), np.isfinite(peer)):
        return np.inf
    finite = np.isfinite(ours)
    return float(np.abs(ours[finite].astype(np.float64) - peer[finite]).max())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--states", type=int, default=1000, help="how many random states")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peer", nargs=2, metavar=("IN", "OUT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        source, target = args.peer
        with np.load(source) as data:
            np.savez(target, **run_peer(dict(data)))
        return 0

    python, reason = find_peer()
    if python is None:
        print(f"SKIPPED: {reason}.")
        return 0
    data = make_states(args.states, args.seed)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(source, **data)
        environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
        subprocess.run([python, __file__, "--peer", str(source), str(target)], env=environment, check=True)
        with np.load(target) as loaded:
            peer = dict(loaded)
    ours = run_ours(data)

    print(f"{'quantity':40} {'values':>9} {'max |ours - jaxued|':>20} {'allowed':>9}")
    failed = False
    for name in sorted(ours):
        kind = name.rstrip("0123456789")
        gap = difference(ours[name], peer[name])
        failed |= not gap <= TOLERANCE[kind]
        label = name
        if kind == "weights":
            n, temperature, rho = SETTINGS[int(name[len(kind) :])]
            label = f"weights N={n} temperature={temperature} rho={rho}"
        print(f"{label:40} {ours[name].size:9d} {gap:20.2e} {TOLERANCE[kind]:9.0e}")
    print("MISMATCH" if failed else f"All equal within tolerance on {args.states} states.")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
