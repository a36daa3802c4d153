"""`policy-finetune diagnose DATA [RUN]`: what the data and the policies learned from them are like, and what follows.

    diagnosis = diagnose_run(Path("hopper.hdf5"), Path("runs/hopper"), episodes=20, seed=0, out=Path("findings"))
    for way in recommend(diagnosis):
        print(way.command, way.because)

Everything but the dataset's own numbers is measured in the environment: the policies' returns, those of random actions,
and those of actions that the critic likes best, which is where an unconstrained actor goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from paperloop.errors import UserError, setting
from paperloop.files import write_json
from paperloop.loop.runner import restore
from paperloop.seeds import fold_seed
from paperloop_data import REFERENCE_SCORES, EpisodeDataset
from paperloop_lab import plots
from policy_finetune.config import DataOptions, OfflineConfig
from policy_finetune.data.checks import load_for, load_options
from policy_finetune.diagnosis.figures import diagnosis_figure
from policy_finetune.diagnosis.measures import (
    Estimate,
    action_spread,
    beyond_the_data,
    difference_of_means,
    effective_rank,
    mean_of,
    nearest,
    q_optimism,
    two_kinds,
    vendi_score,
)
from policy_finetune.diagnosis.rollouts import Critic, Greedy, Tape, Uniform
from policy_finetune.diagnosis.rules import (
    NARROW,
    AgentDiagnosis,
    DataDiagnosis,
    Diagnosis,
    recommend,
)
from policy_finetune.diagnosis.show import fields_of, measures_table, plain, returns_table, show, to_json, warn
from policy_finetune.envs.rollouts import RolloutEnvs, evaluate, evaluation_seeds
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.replay.packing import STD_EPSILON
from policy_finetune.trainers.evaluators import score_task
from policy_finetune.trainers.offline import OfflineTrainer, host_policy
from policy_finetune.trainers.sessions import load_trainer, spec_of
from policy_finetune.trainers.switch import Pretrained

__all__ = ["diagnose_data", "diagnose_run"]

#: Rows of the data that neighbours are looked for among, and rows that are asked about: enough for two digits.
REFERENCE_ROWS, QUERY_ROWS = 20_000, 2_000


#: Episodes of following the critic alone: many times the cost of the others.
GREEDY_EPISODES = 10


#: Episodes that are compared with one another for the number of behaviours.
COMPARED_EPISODES = 500


@dataclass(frozen=True, eq=False)
class _Sample:
    """A part of the data: rows to look for neighbours among, and some of them to ask about."""

    observations: np.ndarray  # (N, obs) raw
    standard: np.ndarray  # (N, obs) by the data's mean and standard deviation
    actions: np.ndarray  # (N, act) canonical
    group: np.ndarray  # (N,) the episode
    queries: np.ndarray  # (Q,) rows
    own: np.ndarray  # (Q,) distance of the queries to other episodes
    mean: np.ndarray
    std: np.ndarray


def diagnose_run(data: Path, run: Path, *, episodes: int = 20, seed: int = 0, out: Path) -> Diagnosis:
    """Compare a dataset with the agents of a run; write diagnosis.json and diagnosis.png; show both and the ways.

    Args:
        data: a dataset file or folder.
        run: the run folder of agents that learned from it. Those of its agents that learned from other data are left
            out.
        episodes: episodes for each agent, at least 2. With noise, and of random actions, as many again.
        seed: of the starts of episodes, of the noise, and of which rows of the data are looked at.
        out: where the two files go.

    Raises:
        UserError: the dataset does not fit the run's environment, or `run` is not a run folder of this package.
        CheckpointError: the run has no checkpoint.
    """
    if episodes < 2:
        raise UserError(f"episodes is {episodes}; it must be at least 2, for an interval.")
    run = Path(run)
    trainer, spec = load_trainer(run)
    state = restore(trainer, run)
    offline = isinstance(trainer, OfflineTrainer)
    agents = Pretrained.of(trainer, state) if offline else trainer.pretrained(state)
    dataset, findings = load_for(spec, data, **load_options(agents.loading or DataOptions()))
    chosen, warnings = _agents_of(dataset, agents, trainer)
    warnings = [*findings, *warnings]
    if not offline:
        warnings.append(f"{run} has learned online: its agents as they are now are taken for the pre-trained ones.")
    learner = trainer.members[chosen[0]].learner
    whole = _whole_returns(dataset, warnings)
    rng = np.random.default_rng(fold_seed(seed, "diagnosis"))
    sample = _sample(dataset, rng)
    noise = getattr(trainer.config, "exploration_noise", 0.1)
    chance = _random_returns(spec, episodes, seed)
    measured = [
        _measure(i, agents, trainer.members[i], spec, sample, whole, episodes=episodes, seed=seed, noise=noise)
        for i in chosen
    ]
    for i, one in zip(chosen, measured, strict=True):
        kinds = two_kinds(one.returns)
        if kinds is not None and kinds.high - kinds.low > abs(float(one.returns.mean() - chance.mean())) / 2:
            warnings.append(
                f"Agent {i} is bistable: {100 * kinds.share:.0f} % of its episodes return about {kinds.low:.0f}, the "
                f"others about {kinds.high:.0f}. Its mean says little, and fine-tuning may end at either: measure "
                f"it in more episodes ({setting('episodes', 100)}), or pre-train again."
            )
    found = [one.diagnosis for one in measured]
    played = [one.returns for one in measured]
    about = _data(dataset, data, whole, sample, rng)
    best = max(about.top, max(float(one.mean()) for one in played))
    scale, scale_is = _scale(spec.env_id, float(chance.mean()), best)
    diagnosis = Diagnosis(
        env_id=spec.env_id, learner=learner, data=about, agents=tuple(found),
        random=mean_of([chance]), returns=mean_of(played), difference=difference_of_means(played, [whole]),
        scale=scale, scale_is=scale_is, warnings=tuple(warnings),
    )  # fmt: skip
    ways = recommend(diagnosis)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    document = plain(to_json(diagnosis, ways, seed=seed, episodes=episodes))
    document["policy_returns"] = [one.returns.tolist() for one in measured]
    write_json(out / "diagnosis.json", document)
    figure = diagnosis_figure(
        diagnosis, whole, [one.returns for one in measured], sample.own, [one.distances for one in measured],
        [(one.came, one.promised) for one in measured],
    )  # fmt: skip
    plots.save_figure(figure, out / "diagnosis.png")
    show(diagnosis, ways, run)
    print(out / "diagnosis.png")
    print(out / "diagnosis.json")
    return diagnosis


def diagnose_data(
    data: Path, *, env_id: str = "", loading: DataOptions | None = None, episodes: int = 20, seed: int = 0,
    out: Path | None = None,
) -> tuple[DataDiagnosis, Estimate]:  # fmt: skip
    """Show what a dataset is like, before anything has learned from it: the data's part of `diagnose_run`.

    Which replay and constraint fit cannot be said without a policy, so nothing is recommended.

    Args:
        data: a dataset file or folder.
        env_id: its environment; empty for the one that it names.
        loading: how it is read.
        episodes: of random actions, at least 20.
        seed: of the starts of episodes, of the random actions, and of which rows of the data are looked at.
        out: the folder where diagnosis.json goes; None writes none.

    Returns:
        What the data are like, and the returns of random actions.

    Raises:
        UserError: the dataset cannot be read, does not fit the environment, or does not name one.
    """
    loading = loading or DataOptions()
    spec = spec_of(OfflineConfig(data=(str(data),), env_id=env_id, loading=loading))
    dataset, warnings = load_for(spec, data, **load_options(loading))
    whole = _whole_returns(dataset, warnings)
    rng = np.random.default_rng(fold_seed(seed, "diagnosis"))
    about = _data(dataset, data, whole, _sample(dataset, rng), rng)
    chance = mean_of([_random_returns(spec, episodes, seed)])
    console = Console()
    console.print(returns_table(about, chance, ()))
    console.print(measures_table(about, ()))
    warn(console, warnings)
    narrow = about.action_spread < NARROW
    said = (
        f"Narrow data: actions at a state vary by less than {NARROW}, so a policy may collapse when it goes online."
        if narrow
        else f"Not narrow: actions at a state vary by {NARROW} or more."
    )
    console.print(
        f"{said} Name a run as well, and replay and constraint are recommended.", markup=False, soft_wrap=True
    )
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        document = {
            "seed": seed, "episodes": episodes, "env_id": spec.env_id, "data": fields_of(about),
            "random": chance._asdict(), "narrow": narrow, "warnings": warnings,
        }  # fmt: skip
        write_json(Path(out) / "diagnosis.json", plain(document))
        print(Path(out) / "diagnosis.json")
    return about, chance


def _whole_returns(dataset: EpisodeDataset, warnings: list[str]) -> np.ndarray:
    """Return the returns of episodes that were not cut off, or of all where all were."""
    whole = dataset.returns()[~dataset.cut] if not dataset.cut.all() else dataset.returns()
    if len(whole) < 2:
        warnings.append("The data have one whole episode: nothing is known of how their returns vary.")
    return whole


def _random_returns(spec: EnvSpec, episodes: int, seed: int) -> np.ndarray:
    with RolloutEnvs(spec) as envs:
        return evaluate(Uniform(spec, seed), spec, episodes=max(episodes, 20), seed=seed, envs=envs).returns[0]


def _agents_of(dataset: EpisodeDataset, agents: Pretrained, trainer: Any) -> tuple[list[int], list[str]]:
    """Return the agents that learned from the dataset (all, where none did), and what is doubtful about them."""
    everyone = list(range(agents.num_agents))
    if isinstance(trainer, OfflineTrainer):
        returns = np.sort(dataset.returns())[::-1]
        same = [
            i for i in everyone
            if agents.dataset[i] < trainer.data.num_datasets
            and trainer.data.size[agents.dataset[i]] == dataset.num_steps
            and np.allclose(trainer.data.returns[agents.dataset[i]], returns, rtol=1e-5)
        ]  # fmt: skip
    else:
        mean, std = _moments(dataset)
        same = [
            i for i in everyone
            if np.allclose(agents.mean[i], mean, atol=1e-4, rtol=1e-4)
            and np.allclose(agents.std[i], std, atol=1e-4, rtol=1e-4)
        ]  # fmt: skip
    if not same:
        named = ", ".join(trainer.config.data) or "none"
        return everyone, [
            f"No agent of the run learned from {dataset.where}, as far as can be seen (its data: {named}): the returns "
            "can be compared, but the data do not explain the policies."
        ]
    warnings = []
    if len(same) < len(everyone):
        warnings.append(
            f"{len(everyone) - len(same)} of the run's {len(everyone)} agents learned from other data and are left out "
            "here; finetune --start takes them all."
        )
    structures = {trainer.members[i].learner.name for i in same}
    if len(structures) > 1:
        warnings.append("The agents are of several learners: the first one's decides.")
    return same, warnings


def _moments(dataset: EpisodeDataset) -> tuple[np.ndarray, np.ndarray]:
    """Return what observations are standardised with, as `OfflineData` has it."""
    seen = dataset.observations.reshape(dataset.num_steps, -1)
    mean = seen.mean(0, dtype=np.float64).astype(np.float32)
    return mean, (seen.std(0, dtype=np.float64) + STD_EPSILON).astype(np.float32)


def _sample(dataset: EpisodeDataset, rng: np.random.Generator) -> _Sample:
    count = dataset.num_steps
    rows = np.sort(rng.choice(count, min(count, REFERENCE_ROWS), replace=False))
    mean, std = _moments(dataset)
    seen = dataset.observations.reshape(count, -1)[rows]
    group = dataset.episode_of_row[rows]
    if len(np.unique(group)) < 2:  # one long episode: tenths of it stand for episodes
        group = np.arange(len(rows)) * 10 // len(rows)
    standard = (seen - mean) / std
    queries = np.sort(rng.choice(len(rows), min(len(rows), QUERY_ROWS), replace=False))
    own, _ = nearest(standard[queries], standard, group[queries], group)
    actions = np.clip(dataset.actions.reshape(count, -1)[rows], -1, 1)
    return _Sample(seen, standard, actions, group, queries, own, mean, std)


def _data(
    dataset: EpisodeDataset, file: Path, whole: np.ndarray, sample: _Sample, rng: np.random.Generator
) -> DataDiagnosis:
    last = dataset.episode_ends - 1
    spread = action_spread(sample.standard, sample.actions, sample.group, sample.queries)
    top = np.sort(whole)[::-1][: max(1, -(-len(whole) // 10))]
    return DataDiagnosis(
        file=str(file), steps=dataset.num_steps, episodes=len(whole), returns=mean_of([whole]),
        median=float(np.median(whole)), std=float(whole.std()), best=float(whole.max()), top=float(top.mean()),
        terminated=float(dataset.terminated[last].mean()),
        truncated=float((dataset.truncated[last] & ~dataset.terminated[last]).mean()),
        action_spread=float(np.sqrt(np.square(spread).mean())),
        behaviours=vendi_score(_episode_features(dataset, sample, rng)),
        rank=effective_rank(sample.standard - sample.standard.mean(0)), obs_dim=sample.standard.shape[1],
        gap=float(np.median(sample.own)),
    )  # fmt: skip


def _episode_features(dataset: EpisodeDataset, sample: _Sample, rng: np.random.Generator) -> np.ndarray:
    """Return the mean observation and action of episodes, in standard deviations over all steps, (n, obs + act)."""
    picks = np.sort(rng.choice(len(dataset), min(len(dataset), COMPARED_EPISODES), replace=False))
    seen = dataset.observations.reshape(dataset.num_steps, -1)
    actions = dataset.actions.reshape(dataset.num_steps, -1)
    parts = [slice(dataset.episode_starts[e], dataset.episode_ends[e]) for e in picks]
    states = (np.stack([seen[part].mean(0, dtype=np.float64) for part in parts]) - sample.mean) / sample.std
    acts = np.stack([actions[part].mean(0, dtype=np.float64) for part in parts])
    acts = (acts - sample.actions.mean(0)) / (sample.actions.std(0) + STD_EPSILON)
    return np.concatenate([states, acts], 1)


@dataclass(frozen=True, eq=False)
class _Measured:
    """An agent's numbers, and the samples that the figure shows."""

    diagnosis: AgentDiagnosis
    returns: np.ndarray  # (E,)
    distances: np.ndarray  # (S,) of visited states to the data
    came: np.ndarray  # (S',) discounted returns ...
    promised: np.ndarray  # (S',) ... and what the critic said, in its own units


def _measure(
    index: int, agents: Pretrained, agent: Any, spec: EnvSpec, sample: _Sample, whole: np.ndarray, *, episodes: int,
    seed: int, noise: float,
) -> _Measured:  # fmt: skip
    params = jax.tree.map(lambda leaf: leaf[index], agents.learner.params)
    mean, std = agents.mean[index], agents.std[index]
    stacked = jax.tree.map(lambda leaf: leaf[None], params["actor"])
    policy = host_policy(stacked, mean[None], std[None])
    tape = Tape(spec)
    with tape:  # one episode after another, so that the tape is in order
        runs = [evaluate(policy, spec, seeds=[s], envs=tape) for s in evaluation_seeds(seed, episodes)]
    returns = np.array([one.returns[0, 0] for one in runs])
    with RolloutEnvs(spec) as envs:
        noisy = evaluate(policy, spec, episodes=episodes, seed=seed, noise=noise, envs=envs).returns[0]
    rng = np.random.default_rng(fold_seed(seed, "diagnosis", index))
    visited = np.concatenate([np.stack(seen[:-1]) for seen, _ in tape.episodes])
    visited = visited[rng.permutation(len(visited))[:QUERY_ROWS]]
    distances, _ = nearest((visited - sample.mean) / sample.std, sample.standard)
    at = sample.observations[sample.queries]
    own_actions, data_actions = policy(at[None])[0], sample.actions[sample.queries]
    facts: dict[str, Any] = {}
    came = promised = np.zeros(0)
    if "critic" in params:
        critic = Critic(params["critic"], mean, std)
        values = [critic(np.stack(seen), policy(np.stack(seen)[None])[0]).min(0) for seen, _ in tape.episodes]
        rewards = [np.array(r) * agents.scale[index] + agents.bias for _, r in tape.episodes]
        ended = [bool(one.terminated[0, 0]) for one in runs]
        optimism, came, promised = q_optimism(list(zip(rewards, values, ended, strict=True)), agent.learner.discount)
        gain = critic(at, own_actions).min(0) - critic(at, data_actions).min(0)
        greedy = Greedy(critic, policy, spec, fold_seed(seed, "greedy", index))
        with RolloutEnvs(spec) as envs:
            led = evaluate(greedy, spec, episodes=min(episodes, GREEDY_EPISODES), seed=seed, envs=envs).returns[0]
        facts = {
            "greedy": mean_of([led]),
            "greedy_distance": _rms(greedy(at[None])[0] - own_actions),
            "optimism": optimism,
            "preference": None if optimism is None else float(gain.mean()) / optimism.scale,
        }
    diagnosis = AgentDiagnosis(
        index=index, label=agent.label, returns=mean_of([returns]), noisy=mean_of([noisy]),
        difference=difference_of_means([returns], [whole]), length=float(np.mean([one.lengths[0, 0] for one in runs])),
        terminated=float(np.mean([one.terminated[0, 0] for one in runs])),
        beyond=beyond_the_data(sample.own, distances), gap=float(np.median(distances)),
        action_distance=_rms(own_actions - data_actions), **facts,
    )  # fmt: skip
    return _Measured(diagnosis, returns, distances, came, promised)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values, dtype=np.float64).mean()))


def _scale(env_id: str, chance: float, best: float) -> tuple[float, Any]:
    """Return what returns are measured by, and what that is."""
    task = score_task(env_id)
    if task is not None:
        low, high = REFERENCE_SCORES[task]
        return high - low, "expert"
    return max(best - chance, 0.0), "best"
