"""Datasets of our own in the D4RL layout: random, medium, medium-replay, medium-expert, expert, and what lies between.

    plan = DataPlan.of("Hopper-v5", "medium", 200_000, seed=0)
    write_dataset(plan, "hopper-medium.hdf5", workers=2)

An episode is a function of (environment, policy, noise, seed, its number) and of nothing else, so the result does not
depend on how many workers share the work.
"""

from __future__ import annotations

import concurrent.futures
import math
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np

from paperloop.errors import NonFiniteError, UserError
from paperloop.loop.progress import Progress
from paperloop.seeds import fold_seed
from paperloop.signals import ignore_interrupts
from paperloop_data import EpisodeDataset, write_d4rl
from policy_finetune.data.plan import DataPlan, Noise, Part
from policy_finetune.data.policies import GradedPolicy
from policy_finetune.envs.recorded import recorded
from policy_finetune.envs.simulators import reset_env, step_env
from policy_finetune.envs.spec import EnvSpec, as_vector

__all__ = ["check_output", "from_replay", "make_dataset", "run_episode", "write_dataset"]

#: Arrays of an episode and of a chunk; `infos/...` besides.
FIELDS = ("observations", "actions", "rewards", "next_observations", "terminated", "truncated")

Chunk = dict[str, np.ndarray]


def make_dataset(
    env_id: str, quality: str, steps: int, *, seed: int = 0, noise: Noise | None = None, workers: int = 1,
    policies: Sequence[GradedPolicy | str | Path] | None = None, progress: bool = False,
) -> EpisodeDataset:  # fmt: skip
    """Make a dataset in memory; see `DataPlan.of` for the arguments, and `write_dataset` for workers.

    Returns:
        Actions are in the environment's units, floats are float32, `infos/qpos` and `infos/qvel` (float32, at the time
        of the observation) are there for MuJoCo tasks. As in D4RL's files an end at the time limit is truncated and not
        terminated, even if the environment says both.
    """
    return _made(DataPlan.of(env_id, quality, steps, seed=seed, policies=policies, noise=noise), workers, progress)


def write_dataset(
    plan: DataPlan, path: str | Path, *, workers: int = 1, progress: bool = True, compress: bool = False
) -> EpisodeDataset:
    """Make a dataset and write it as a D4RL HDF5 file, whole or not at all.

    Args:
        plan: what to make.
        path: the file, ending in .hdf5 or .h5. Its bytes do not depend on the workers.
        workers: processes. Each is a fresh interpreter, so a script that calls this guards its entry point with
            `if __name__ == "__main__":`. 1 works in this process.
        progress: show a bar.
        compress: gzip the arrays.

    Raises:
        UserError: the path exists, or the disk refuses.
    """
    check_output(path)
    data = _made(plan, workers, progress)
    write_d4rl(data, path, compress=compress)
    return data


def check_output(path: str | Path) -> None:
    """Raise unless a D4RL file can be written to a path.

    Raises:
        UserError: it exists, or is not called an HDF5 file.
    """
    if Path(path).suffix.lower() not in (".hdf5", ".h5"):
        raise UserError(f"{path}: a D4RL dataset is an HDF5 file; give a name that ends in .hdf5.")
    if Path(path).exists():
        raise UserError(f"{path} exists already; choose another name, or remove it first.")


def from_replay(spec: EnvSpec, transitions: Mapping[str, Any], *, record: Mapping[str, Any]) -> EpisodeDataset:
    """Return the replay buffer of a training as a dataset: the real "medium-replay".

    Args:
        spec: the environment.
        transitions: what `OnlineTrainer.replay_data` returns: `FIELDS`, in the order of training, actions canonical.
        record: how the training was run, for the provenance; of types that JSON knows.

    Raises:
        UserError: shapes that do not fit, or NaN.
    """
    terminated, truncated = transitions["terminated"], transitions["truncated"]
    return EpisodeDataset(
        observations=np.asarray(transitions["observations"], np.float32),
        actions=spec.to_env(transitions["actions"]),
        rewards=np.asarray(transitions["rewards"], np.float32),
        terminated=terminated & ~truncated,
        truncated=truncated,
        next_observations=np.asarray(transitions["next_observations"], np.float32),
        attributes={"env_id": spec.env_id, **recorded(spec), "metadata": {"env_id": spec.env_id, "quality": "replay"}},
        provenance=({"action": "replay", "env_id": spec.env_id, **record},),
    )


def run_episode(env: gymnasium.Env, spec: EnvSpec, part: Part, seed: int) -> dict[str, np.ndarray]:
    """Run one episode.

    Args:
        env: the environment.
        spec: its spec.
        part: who acts.
        seed: of everything random in it.

    Returns:
        Arrays of one row a step: `FIELDS`, and "infos/qpos" and "infos/qvel" for MuJoCo. float32; actions in the
        environment's units.
    """
    rng = np.random.default_rng(fold_seed(seed, "actions"))
    data = getattr(env.unwrapped, "data", None)
    simulated = hasattr(data, "qpos") and hasattr(data, "qvel")
    seen = as_vector(reset_env(env, fold_seed(seed, "reset")), spec)
    rows: dict[str, list[Any]] = {name: [] for name in FIELDS}
    if simulated:
        rows |= {"infos/qpos": [], "infos/qvel": []}
    while True:
        command = spec.to_env(_act(part, spec, seen, rng))
        if simulated:
            now = cast(Any, env.unwrapped).data  # read again: some simulators replace it at a reset
            rows["infos/qpos"].append(now.qpos.astype(np.float32))
            rows["infos/qvel"].append(now.qvel.astype(np.float32))
        following, reward, terminated, truncated = step_env(env, command)
        following = as_vector(following, spec)
        if not (np.isfinite(following).all() and math.isfinite(reward)):
            raise NonFiniteError(
                f"{spec.env_id}: an observation or a reward is NaN or infinite at step {len(rows['rewards'])} of an "
                f"episode with seed {seed}; the environment is broken or unstable."
            )
        values = (seen, command, np.float32(reward), following, terminated and not truncated, truncated)
        for name, value in zip(FIELDS, values, strict=True):
            rows[name].append(value)
        if terminated or truncated:
            return {name: np.array(values) for name, values in rows.items()}
        seen = following


def _act(part: Part, spec: EnvSpec, seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One canonical action."""
    if part.policy is None:
        return rng.uniform(-1, 1, spec.act_dim).astype(np.float32)
    if part.noise == "sample":
        return part.policy.sample(seen, rng)
    action = part.policy.host(seen[None])[0]
    if part.noise:
        action = action + np.float32(part.noise) * rng.standard_normal(spec.act_dim, np.float32)
    return np.minimum(np.maximum(action, np.float32(-1)), np.float32(1))


def _chunk(plan: DataPlan, spec: EnvSpec, env: gymnasium.Env, part: int, number: int) -> Chunk:
    """Make consecutive episodes of a part, as flat arrays, with "lengths" (E,).

    How many episodes it has is a function of the lengths of its own episodes and of nothing else: they are numbered
    (chunk, episode in it), so that no worker needs to know what another does.
    """
    episodes, steps = [], 0
    enough = min(plan.chunk_steps, plan.parts[part].steps)
    while steps < enough:
        seed = fold_seed(plan.seed, "make-data", part, number, len(episodes))
        episodes.append(run_episode(env, spec, plan.parts[part], seed))
        steps += len(episodes[-1]["rewards"])
    chunk = {name: np.concatenate([episode[name] for episode in episodes]) for name in episodes[0]}
    chunk["lengths"] = np.array([len(episode["rewards"]) for episode in episodes])
    return chunk


_own: tuple[DataPlan, EnvSpec, gymnasium.Env]  # of a worker process


def _enter(plan: DataPlan, spec: EnvSpec) -> None:
    global _own
    ignore_interrupts()
    parent = multiprocessing.parent_process()
    if parent is not None:  # a parent that is killed cannot stop its workers, which would wait for ever
        threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()
    _own = plan, spec, spec.make()


def _work(part: int, number: int) -> Chunk:
    return _chunk(*_own, part, number)


def _made(plan: DataPlan, workers: int, progress: bool) -> EpisodeDataset:
    """Make the chunks of every part in order, and take from each part its first episodes until they suffice."""
    if workers < 1:
        raise UserError(f"Data is made by at least 1 worker; got {workers}.")
    spec, wanted = plan.check(), [part.steps for part in plan.parts]
    found: list[list[Chunk]] = [[] for _ in wanted]
    done = [0] * len(wanted)

    def jobs() -> Iterator[tuple[int, int]]:
        for part, steps in enumerate(wanted):
            for number in range(math.ceil(steps / min(plan.chunk_steps, steps))):  # chunks are at least that long
                if done[part] < steps:
                    yield part, number

    bar = Progress(sum(wanted), enabled=progress, label=f"{plan.env_id} {plan.quality}")
    try:
        for part, chunk in (_here if workers == 1 else _there)(plan, spec, jobs(), workers):
            if done[part] < wanted[part]:  # else it was begun before the part turned out to be finished
                found[part].append(chunk)
                done[part] += len(chunk["rewards"])
                bar.update(sum(min(have, steps) for have, steps in zip(done, wanted, strict=True)))
    finally:
        bar.close()
    return _assemble(plan, found)


Jobs = Iterator[tuple[int, int]]
Made = Generator[tuple[int, Chunk]]


def _here(plan: DataPlan, spec: EnvSpec, jobs: Jobs, workers: int) -> Made:
    env = spec.make()
    try:
        for part, number in jobs:
            yield part, _chunk(plan, spec, env, part, number)
    finally:
        env.close()


def _there(plan: DataPlan, spec: EnvSpec, jobs: Jobs, workers: int) -> Made:
    # Spawned, not forked: the caller may have threads (an accelerator library's), which do not survive a fork.
    context = multiprocessing.get_context("spawn")
    executor = concurrent.futures.ProcessPoolExecutor(workers, context, _enter, (plan, spec))
    waiting: deque[tuple[int, concurrent.futures.Future[Chunk]]] = deque()
    try:
        for part, number in jobs:
            waiting.append((part, executor.submit(_work, part, number)))
            if len(waiting) > workers:  # one more than workers, so that none waits for us
                part, chunk = waiting.popleft()
                yield part, chunk.result()
        for part, chunk in waiting:
            yield part, chunk.result()
    except BrokenProcessPool:
        raise UserError(
            "A worker process was killed or could not start (out of memory, or a script without "
            "if __name__ == '__main__'); fix that and give the same command again."
        ) from None
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _assemble(plan: DataPlan, parts: Sequence[Sequence[Chunk]]) -> EpisodeDataset:
    pieces: list[Chunk] = []
    lengths: list[np.ndarray] = []
    for part, chunks in zip(plan.parts, parts, strict=True):
        left = part.steps
        for chunk in chunks:
            ends = np.cumsum(chunk["lengths"])
            count = min(int(np.searchsorted(ends, left)) + 1, len(ends))
            rows = int(ends[count - 1])
            pieces.append({name: array[:rows] for name, array in chunk.items() if name != "lengths"})
            lengths.append(chunk["lengths"][:count])
            left -= rows
    flat = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    starts = np.concatenate([[0], np.cumsum(np.concatenate(lengths))[:-1]])
    algorithms = {str(part.policy.metadata.get("algorithm", "?")) if part.policy else "uniform" for part in plan.parts}
    metadata = {"algorithm": ", ".join(sorted(algorithms)), "env_id": plan.env_id, "quality": plan.quality}
    return EpisodeDataset(
        **{name: flat.pop(name) for name in FIELDS},
        episode_starts=starts,
        extras=flat,
        attributes={"env_id": plan.env_id, "quality": plan.quality, "metadata": metadata},
        provenance=(plan.record() | {"command": plan.command},),
    )
