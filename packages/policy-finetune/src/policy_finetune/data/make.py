"""Datasets of our own in the D4RL layout: random, medium, medium-replay, medium-expert, expert, and what lies between.

    plan = DataPlan.of("Hopper-v5", "medium", 200_000, seed=0)
    write_dataset(plan, "hopper-medium.hdf5", workers=2)

An episode is a function of (environment, policy, noise, seed, its number) and of nothing else, so the result does not
depend on how many workers share the work, nor on how often it was interrupted: finished episodes are kept next to the
output in `<output>.partial/` until it is written, and the same command continues from there.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import math
import multiprocessing
import os
import shutil
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple, cast

import gymnasium
import numpy as np

from paperloop.errors import NonFiniteError, UserError
from paperloop.files import leftovers, remove_leftovers, write_atomically, write_json
from paperloop.loop.progress import Progress
from paperloop.seeds import fold_seed
from paperloop.settings import read_json
from paperloop.signals import ignore_interrupts
from paperloop_data import EpisodeDataset, write_d4rl
from policy_finetune.data.npz_files import read_arrays
from policy_finetune.data.plan import DataPlan, Noise, Part
from policy_finetune.data.policies import GradedPolicy
from policy_finetune.envs.recorded import recorded
from policy_finetune.envs.simulators import reset_env, step_env
from policy_finetune.envs.spec import EnvSpec, as_vector

__all__ = ["from_replay", "make_dataset", "partial_folder", "run_episode", "write_dataset"]

#: Arrays of an episode and of a chunk; `infos/...` besides.
FIELDS = ("observations", "actions", "rewards", "next_observations", "terminated", "truncated")


def make_dataset(
    env_id: str,
    quality: str,
    steps: int,
    *,
    seed: int = 0,
    policies: Sequence[GradedPolicy | str | Path] | None = None,
    noise: Noise | None = None,
    workers: int = 1,
    progress: bool = False,
) -> EpisodeDataset:
    """Make a dataset in memory; see `DataPlan.of` for the arguments and `write_dataset` for long ones.

    Returns:
        Actions are in the environment's units, floats are float32, `infos/qpos` and `infos/qvel` (float32, at the time
        of the observation) are there for MuJoCo tasks. As in D4RL's files an end at the time limit is truncated and not
        terminated, even if the environment says both.
    """
    plan = DataPlan.of(env_id, quality, steps, seed=seed, policies=policies, noise=noise)
    return _assemble(plan, _collect(plan, plan.check(), workers, None, progress))


def write_dataset(
    plan: DataPlan, path: str | Path, *, workers: int = 1, progress: bool = True, compress: bool = False
) -> EpisodeDataset:
    """Make a dataset and write it as a D4RL HDF5 file; killed at any point, the same call continues.

    The bytes of the file are those of an uninterrupted run with one worker.

    Args:
        plan: what to make.
        path: the file, ending in .hdf5 or .h5. What is done already lies in `<path>.partial` until the end. Halves of
            files that killed processes left there, or next to the path, are removed.
        workers: processes. Each is a fresh interpreter, so a script that calls this guards its entry point with
            `if __name__ == "__main__":`. 1 works in this process.
        progress: show a bar, and say where an interrupted call continues.
        compress: gzip the arrays.

    Raises:
        UserError: the path exists, the partial folder is of another plan, or the disk refuses.
    """
    path = Path(path)
    if path.suffix.lower() not in (".hdf5", ".h5"):
        raise UserError(f"{path}: a D4RL dataset is an HDF5 file; give a name that ends in .hdf5.")
    if path.exists():
        raise UserError(f"{path} exists already; choose another name, or remove it first.")
    spec = plan.check()
    partial = partial_folder(path)
    _open_partial(partial, plan, path)
    remove_leftovers([*partial.glob(".*.tmp"), *leftovers(path)])
    if progress and (done := _steps_in(partial)):
        print(f"note: continuing from {partial}, which holds {done:,} steps already", file=sys.stderr)
    data = _assemble(plan, _collect(plan, spec, workers, partial, progress))
    write_d4rl(data, path, compress=compress)
    shutil.rmtree(partial, ignore_errors=True)
    return data


def from_replay(
    spec: EnvSpec,
    *,
    observations: Any,
    actions: Any,
    rewards: Any,
    next_observations: Any,
    terminated: Any,
    truncated: Any,
    record: Mapping[str, Any],
    canonical: bool = True,
) -> EpisodeDataset:
    """Return the replay buffer of a training as a dataset: the real "medium-replay".

    Args:
        spec: the environment.
        observations: (N, obs), in the order of training, the oldest first. Where the buffer was a ring that has
            wrapped, that is the oldest that is left, and it may be from the middle of an episode.
        actions: (N, act), as executed.
        rewards: (N,).
        next_observations: (N, obs), final observations at the ends of episodes.
        terminated: (N,) booleans.
        truncated: (N,) booleans. The last episode may be unfinished.
        record: how the training was run, for the provenance; of types that JSON knows.
        canonical: the actions are in [-1, 1] and are rescaled to the environment's units.

    Raises:
        UserError: shapes that do not fit, or NaN.
    """
    terminated, truncated = np.asarray(terminated, bool), np.asarray(truncated, bool)
    return EpisodeDataset(
        observations=np.asarray(observations, np.float32),
        actions=spec.to_env(actions) if canonical else np.asarray(actions, np.float32),
        rewards=np.asarray(rewards, np.float32),
        terminated=terminated & ~truncated,
        truncated=truncated,
        next_observations=np.asarray(next_observations, np.float32),
        attributes={"env_id": spec.env_id, **recorded(spec), "metadata": {"env_id": spec.env_id, "quality": "replay"}},
        provenance=({"action": "replay", "env_id": spec.env_id, **record},),
    )


# Episodes


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


# Chunks of episodes, in this process or in others

Chunk = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class _Workshop:
    """What makes chunks: a plan, its spec, and an environment."""

    plan: DataPlan
    spec: EnvSpec
    env: gymnasium.Env

    def chunk(self, part: int, number: int) -> Chunk:
        """Make one chunk: consecutive episodes of a part, as flat arrays, with "lengths" (E,).

        How many episodes it has is a function of the lengths of its own episodes and of nothing else: they are numbered
        (chunk, episode in it), so that no worker needs to know what another does.
        """
        episodes, steps = [], 0
        enough = min(self.plan.chunk_steps, self.plan.parts[part].steps)
        while steps < enough:
            seed = fold_seed(self.plan.seed, "make-data", part, number, len(episodes))
            episodes.append(run_episode(self.env, self.spec, self.plan.parts[part], seed))
            steps += len(episodes[-1]["rewards"])
        chunk = {name: np.concatenate([episode[name] for episode in episodes]) for name in episodes[0]}
        chunk["lengths"] = np.array([len(episode["rewards"]) for episode in episodes])
        return chunk

    def make(self, job: _Job) -> Chunk:
        """Make the chunk of a job, and keep it if there is a place for it."""
        chunk = self.chunk(job.part, job.number)
        if job.file is not None:
            _write_chunk(job.file, chunk)
        return chunk


_workshop: _Workshop | None = None  # of a worker process


def _enter(plan: DataPlan, spec: EnvSpec) -> None:
    global _workshop
    ignore_interrupts()
    parent = multiprocessing.parent_process()
    if parent is not None:  # a parent that is killed cannot stop its workers, which would wait for ever
        threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()
    _workshop = _Workshop(plan, spec, spec.make())


def _work(job: _Job) -> Chunk:
    assert _workshop is not None
    return _workshop.make(job)


def _collect(plan: DataPlan, spec: EnvSpec, workers: int, partial: Path | None, progress: bool) -> list[list[Chunk]]:
    """Return the chunks of every part, in order; from the partial folder those that are there."""
    if workers < 1:
        raise UserError(f"Data is made by at least 1 worker; got {workers}.")
    wanted = [part.steps for part in plan.parts]
    found: list[list[Chunk]] = [[] for _ in wanted]
    done = [0] * len(wanted)

    def jobs() -> Iterator[_Job]:
        for part, steps in enumerate(wanted):
            for number in range(math.ceil(steps / min(plan.chunk_steps, steps))):  # chunks are at least that long
                if done[part] < steps:
                    yield _Job(part, number, None if partial is None else partial / f"{part}-{number:06d}.npz")

    bar = Progress(sum(wanted), enabled=progress, label=f"{plan.env_id} {plan.quality}")
    try:
        with _maker(plan, spec, workers) as make:
            for part, chunk in make(jobs()):
                if done[part] < wanted[part]:  # else it was begun before the part turned out to be finished
                    found[part].append(chunk)
                    done[part] += len(chunk["rewards"])
                    bar.update(sum(min(have, steps) for have, steps in zip(done, wanted, strict=True)))
    finally:
        bar.close()
    return found


class _Job(NamedTuple):
    """One chunk to make, and where to keep it."""

    part: int
    number: int
    file: Path | None


Made = Iterator[tuple[int, Chunk]]


@contextmanager
def _maker(plan: DataPlan, spec: EnvSpec, workers: int) -> Generator[Callable[[Iterator[_Job]], Made]]:
    """Give a function from jobs to their (part, chunk), in the order of the jobs, which are drawn as they are begun."""
    if workers == 1:
        shop = _Workshop(plan, spec, spec.make())

        def here(jobs: Iterator[_Job]) -> Made:
            for job in jobs:
                yield job.part, _read_chunk(job.file) or shop.make(job)

        try:
            yield here
        finally:
            shop.env.close()
        return

    # Spawned, not forked: the caller may have threads (an accelerator library's), which do not survive a fork.
    context = multiprocessing.get_context("spawn")
    executor = concurrent.futures.ProcessPoolExecutor(workers, context, _enter, (plan, spec))

    def there(jobs: Iterator[_Job]) -> Made:
        waiting: deque[tuple[int, Chunk | concurrent.futures.Future[Chunk]]] = deque()
        exhausted = False
        while waiting or not exhausted:
            while not exhausted and len(waiting) <= workers:  # one more than workers, so that none waits for us
                job = next(jobs, None)
                if job is None:
                    exhausted = True
                else:
                    waiting.append((job.part, _read_chunk(job.file) or executor.submit(_work, job)))
            if waiting:
                part, chunk = waiting.popleft()
                yield part, chunk.result() if isinstance(chunk, concurrent.futures.Future) else chunk

    try:
        yield there
    except BrokenProcessPool:
        raise UserError(
            "A worker process was killed or could not start (out of memory, or a script without "
            "if __name__ == '__main__'); fix that and give the same command again, which continues."
        ) from None
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _assemble(plan: DataPlan, parts: Sequence[Sequence[Chunk]]) -> EpisodeDataset:
    """Take from each part its first episodes until they have the steps asked for."""
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
    made = plan.record() | ({"command": plan.command} if plan.command else {})
    metadata = {"algorithm": ", ".join(sorted(algorithms)), "env_id": plan.env_id, "quality": plan.quality}
    return EpisodeDataset(
        **{name: flat.pop(name) for name in FIELDS},
        episode_starts=starts,
        extras=flat,
        attributes={"env_id": plan.env_id, "quality": plan.quality, "metadata": metadata},
        provenance=(made,),
    )


# The partial folder


def _open_partial(partial: Path, plan: DataPlan, path: Path) -> None:
    """Make the partial folder, or check that it is of this plan."""
    text = json.dumps(plan.record(), sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()
    manifest = partial / "manifest.json"
    try:
        partial.mkdir(parents=True, exist_ok=True)
        if manifest.exists():
            stated = _read_manifest(manifest)
            if not isinstance(stated, dict) or stated.get("key") != key:
                raise UserError(
                    f"{partial} holds episodes of another command, policy or version; remove it, or choose another "
                    f"name than {path.name}."
                )
            return
        write_json(manifest, {"key": key, "plan": plan.record()})
    except (OSError, ValueError) as error:
        raise UserError(
            f"{partial} cannot be used ({getattr(error, 'strerror', None) or error}); remove it or choose another "
            "folder."
        ) from error


def _read_manifest(manifest: Path) -> Any:
    try:
        return read_json(manifest)
    except UserError as error:
        raise UserError(f"{manifest.parent} cannot be used ({error}); remove it or choose another folder.") from error


def partial_folder(path: Path) -> Path:
    """Return where the finished episodes of a file to be lie."""
    return path.with_name(f"{path.name}.partial")


def _steps_in(partial: Path) -> int:
    """Return how many steps lie in the finished chunks of a partial folder."""
    chunks = (_read_chunk(file) for file in sorted(partial.glob("*.npz")))
    return sum(len(chunk["rewards"]) for chunk in chunks if chunk is not None)


def _write_chunk(file: Path, chunk: Chunk) -> None:
    def fill(temporary: Path) -> None:
        with temporary.open("wb") as raw:
            np.savez(raw, **cast(Any, chunk))

    try:
        write_atomically(file, fill)
    except OSError as error:
        raise UserError(
            f"{file} cannot be written ({error.strerror or error}); free some space and give the same command again."
        ) from error


def _read_chunk(file: Path | None) -> Chunk | None:
    """A chunk that was finished earlier; None where there is none, or where it is damaged and is made again."""
    if file is None or not file.exists():
        return None
    try:
        chunk = read_arrays(file, "a chunk")
    except UserError:
        return None
    if not {*FIELDS, "lengths"} <= chunk.keys() or any(
        a.ndim == 0 or a.dtype.kind not in "bif" for a in chunk.values()
    ):
        return None
    steps = len(chunk["rewards"])
    whole = chunk["lengths"].sum() == steps > 0
    return chunk if whole and all(len(a) == steps for n, a in chunk.items() if n != "lengths") else None
