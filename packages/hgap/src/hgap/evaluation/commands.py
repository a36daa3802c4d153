"""What the commands do and write: files, tables and figures. The only room that leans on the lab."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from hgap.config import PlanConfig
from hgap.data.behaviours import BEHAVIOURS, learn, read_behaviours, shipped, write_behaviours
from hgap.data.motion import Switching, make_motion
from hgap.envs.bodies import find_body
from hgap.envs.cmu import CMUHumanoid
from hgap.envs.objectives import Objective, find_objective
from hgap.envs.simulator import Simulator
from hgap.evaluation.episodes import Episodes, Measured, measure, play, score
from hgap.loading import Model, load
from hgap.planner.budget import Budgeted
from hgap.planner.plan import Planner
from hgap.rivals.controllers import Controller, Planned, RandomActions, RandomCodes
from hgap.rivals.sampling_mpc import CEM, MPPI, SamplingMPC, true_dynamics
from paperloop.errors import UserError, setting
from paperloop.files import write_atomically, write_json
from paperloop.settings import did_you_mean, replace_in
from paperloop_data import EpisodeDataset
from paperloop_lab.stats import stratified_bootstrap

__all__ = ["evaluate_command", "make_data", "make_policies", "plan_command", "table", "write_motion"]


def make_policies(options: Any, command: str) -> None:
    """Search for the behaviours of a body, one after the other, and gather them in one file."""
    body, known = find_body(options.env_id), BEHAVIOURS[options.env_id]
    for name in options.behaviours:
        if name not in known:
            raise UserError(
                f"{body.env_id} has no behaviour {name!r}{did_you_mean(name, known)}; there are {', '.join(known)}."
            )
    for name in options.behaviours or known:
        learn(
            body, name, options.out, iterations=options.iterations, grades=options.grades, steps=options.steps,
            seed=options.seed,
        )  # fmt: skip
    file = options.out / f"{body.env_id}.npz"
    made = write_behaviours(body.env_id, options.out, file, command)
    print(f"Wrote {len(made.names)} policies: {file}")


def make_data(options: Any) -> None:
    """Make motion and write it as a dataset."""
    if options.out.exists():
        raise UserError(f"{options.out} exists: choose another file, or remove it.")
    if options.longest < options.shortest:
        raise UserError(f"{setting('longest', options.longest)} is below {setting('shortest', options.shortest)}.")
    behaviours = read_behaviours(options.policies or shipped(options.env_id))
    if behaviours.env_id != options.env_id:
        raise UserError(
            f"{options.policies} holds policies of {behaviours.env_id}: give {setting('env_id', behaviours.env_id)}."
        )
    parts = options.out.with_name(f".{options.out.name}.parts")
    asked = {n: str(getattr(options, n)) for n in ("env_id", "episode", "shortest", "longest", "noise", "seed")}
    asked["policies"] = behaviours.command
    _same_request(parts, asked)
    data = make_motion(
        Simulator(find_body(options.env_id)), behaviours, steps=options.steps, episode=options.episode,
        seed=options.seed, parts=parts, switching=Switching(options.shortest, options.longest, options.noise),
        say=lambda done: print(f"\r{done} of {options.steps} steps", end="", file=sys.stderr),
    )  # fmt: skip
    print(file=sys.stderr)
    data.save(options.out)
    shutil.rmtree(parts)
    print(f"Wrote {data.num_episodes} episodes, {data.num_steps} steps: {options.out}")


def _same_request(parts: Path, asked: dict[str, str]) -> None:
    """Refuse to continue parts that were made with other settings."""
    from paperloop.settings import read_json

    record = parts / "asked.json"
    if record.exists() and read_json(record) != asked:
        raise UserError(f"{parts} holds parts of other data: remove it, or choose another file.")
    parts.mkdir(parents=True, exist_ok=True)
    write_json(record, asked)


def convert(options: Any) -> None:
    """Write a dataset of MoCapAct's files, or poses of AMC files."""
    if options.out.exists():
        raise UserError(f"{options.out} exists: choose another file, or remove it.")
    kinds = {path.suffix.lower() for path in options.files}
    if kinds == {".amc"}:
        from hgap.data.amc import save_poses, to_poses

        simulator = Simulator(find_body("CMUHumanoid"))
        poses = {
            path.stem: to_poses(path, simulator, rate=options.rate, ground=options.ground) for path in options.files
        }
        save_poses(options.out, poses)
        for name, found in poses.items():
            print(f"{name}: {len(found.qpos)} poses, {found.clipped:.1%} of joint angles clipped")
    elif kinds <= {".hdf5", ".h5"}:
        from hgap.data.mocapact import read_mocapact

        data = read_mocapact(options.files, actions=options.actions, limit=options.limit)
        data.save(options.out)
        print(f"Wrote {data.num_episodes} episodes, {data.num_steps} steps: {options.out}")
    else:
        raise UserError(f"{setting('files')} are {', '.join(sorted(kinds))}: give .hdf5 files, or .amc files.")


def plan_command(options: Any, config: PlanConfig) -> None:
    """Play one episode with a planner, and write its motion, a figure and a film."""
    model = load(options.run, seed=options.model)
    simulator, objective = _simulator(model, options.objective, options.poses), find_objective(options.objective)
    planner: Planner | Budgeted = Planner(model, objective, config)
    if options.budget is not None:
        planner = Budgeted(model, objective, config, seconds=options.budget / 1000)
    played = play(simulator, Planned(planner), episodes=1, steps=options.steps, seed=options.start)
    measured = score(played, objective, model.slices)
    name = Path(options.objective).stem
    out = options.out or (options.run if options.run.is_dir() else options.run.parent) / "plans" / name
    files = write_motion(played, objective, model, simulator, out, title=name, film=options.film)
    ended = "fell" if measured.fell[0] else "did not fall"
    print(
        f"{name}: {measured.returns[0]:.1f} in {measured.lengths[0]} steps ({ended}), "
        f"{measured.milliseconds:.1f} ms a plan; {', '.join(files)}: {out}"
    )
    if isinstance(planner, Budgeted):
        print(f"{planner.late} plans took longer than the budget; the last one had {planner.samples} samples.")


def write_motion(
    played: Episodes, objective: Objective, model: Model, simulator: Simulator, out: Path, *, title: str, film: int
) -> list[str]:
    """Write the first of some episodes as motion.npz, motion.png and, if `film` frames are asked for, motion.gif."""
    from hgap.evaluation.pictures import draw_film, motion_figure
    from paperloop_lab.plots import save_figure

    out.mkdir(parents=True, exist_ok=True)
    length = int(played.alive[0].sum())
    np.savez(
        out / "motion.npz", observations=played.observations[0, :length], actions=played.actions[0, :length],
        physics=played.physics[0, :length],
    )  # fmt: skip
    figure = motion_figure(played, objective, model.slices, step=model.control_step or 1.0, title=title)
    save_figure(figure, out / "motion.png")
    files = ["motion.npz", "motion.png"]
    if film:
        draw_film(simulator, played.physics[0, :length], out / "motion.gif", frames=film)
        files.append("motion.gif")
    return files


def _simulator(model: Model, objective: str, poses: Path | None) -> Simulator:
    if model.env_id is None:
        raise UserError(
            "The model's data do not say which body they are of, so that there is no simulator for it: train with "
            "env_id, or plan in your own environment with hgap.Planner."
        )
    body = find_body(model.env_id, objective)
    if poses is not None:
        from hgap.data.amc import load_poses

        if not isinstance(body, CMUHumanoid):
            raise UserError(f"{setting('poses')} are of the CMU humanoid, and the model is of {model.env_id}.")
        starts = np.concatenate([np.hstack([clip.qpos, clip.qvel]) for clip in load_poses(poses).values()])
        body = dataclasses.replace(body, starts=starts)
    simulator = Simulator(body)
    if simulator.observation_size != model.autoencoder.state_size:
        raise UserError(
            f"The model's states have {model.autoencoder.state_size} numbers and those of {model.env_id} "
            f"{simulator.observation_size}: its data were recorded with other observations."
        )
    return simulator


def evaluate_command(options: Any, config: PlanConfig) -> None:
    """Measure a model and rivals on objectives, print a table, and write it."""
    model = load(options.run)
    results: dict[str, dict[str, Measured]] = {}
    for name in options.objectives:
        objective, simulator = find_objective(name), _simulator(model, name, options.poses)
        for rival, controller in _controllers(options, config, model, simulator, name).items():
            found = measure(
                simulator, controller, objective, episodes=options.episodes, steps=options.steps, seed=options.start
            )
            results.setdefault(Path(name).stem, {})[rival] = found
            print(f"{name}, {rival}: {found.returns.mean():.1f}", file=sys.stderr)
    text = table(results)
    print(text)
    out = _evaluation(options)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "evaluation.md", f"# {options.run.name}\n\n{text}\n".encode())
    rows = {
        name: {
            rival: {"returns": m.returns.tolist(), "lengths": m.lengths.tolist(), "fell": m.fell.tolist(),
                    "milliseconds": m.milliseconds}
            for rival, m in row.items()
        }
        for name, row in results.items()
    }  # fmt: skip
    write_json(out / "evaluation.json", {"episodes": options.episodes, "steps": options.steps, "results": rows})
    print(f"evaluation.md, evaluation.json: {out}")


def _controllers(
    options: Any, config: PlanConfig, model: Model, simulator: Simulator, asked: str
) -> dict[str, Controller]:
    objective = find_objective(asked)
    chosen: dict[str, Controller] = {"hgap": Planned(Planner(model, objective, config))}
    limits = (simulator.action_low, simulator.action_high)
    horizon = model.config.windows.steps - 1
    for name in options.rivals:
        if name == "greedy":
            alone = replace_in(config, {"samples": 1, "search.type": "sampling", "search.temperature": 0.0,
                                        "warm_start": False})  # fmt: skip
            chosen[name] = Planned(Planner(model, objective, alone))
        elif name == "random_codes":
            chosen[name] = RandomCodes(model)
        elif name == "random_actions":
            chosen[name] = RandomActions(simulator)
        elif name == "cloning":
            chosen[name] = _cloned(options, model)
        elif name in ("tap", "iql", "td3bc"):
            chosen[name] = _specialist(name, options, model, simulator, asked)
        else:
            settings = (MPPI if name == "mppi" else CEM)(samples=config.samples, horizon=horizon)
            chosen[name] = SamplingMPC(true_dynamics(simulator), objective, model.slices, *limits, settings)
    return chosen


_CLONED: dict[str, Controller] = {}


def _cloned(options: Any, model: Model) -> Controller:
    """Return the policy cloned from the data; it knows no objective, so it is learned once."""
    from hgap.data.windows import load_windows
    from hgap.rivals.cloning import clone

    _needs_data(options, "cloning")
    if str(options.data) not in _CLONED:
        windows = model.config.windows
        data = load_windows(
            EpisodeDataset.load(options.data), steps=windows.steps, clip=windows.clip, constant=windows.constant,
            held_out=windows.held_out,
        )  # fmt: skip
        _CLONED[str(options.data)] = clone(data)
    return _CLONED[str(options.data)]


def _needs_data(options: Any, name: str) -> None:
    if options.data is None:
        raise UserError(f"The rival {name} learns from the data: name them with {setting('data')}.")


def _specialist(name: Any, options: Any, model: Model, simulator: Simulator, asked: str) -> Controller:
    """Return what is trained for one objective on the data with its rewards."""
    from hgap.rivals.specialists import relabel, train_specialist
    from hgap.rivals.tap import train_tap

    _needs_data(options, name)
    data = relabel(EpisodeDataset.load(options.data), find_objective(asked), model.slices)
    if name == "tap":
        return train_tap(data, model.config, _evaluation(options) / "tap" / Path(asked).stem)
    return train_specialist(name, data, simulator, updates=options.updates)


def _evaluation(options: Any) -> Path:
    return options.out or (options.run if options.run.is_dir() else options.run.parent) / "evaluation"


def table(results: dict[str, dict[str, Measured]]) -> str:
    """Return objectives in rows and controllers in columns: mean returns with 95 % bootstrap intervals, and falls."""
    names = list(next(iter(results.values())))
    lines = [["objective", *names], ["---"] * (1 + len(names))]
    lines += [[objective, *(_cell(row[name]) for name in names)] for objective, row in results.items()]
    times = [np.mean([row[name].milliseconds for row in results.values()]) for name in names]
    lines.append(["ms a step", *(f"{time:.1f}" for time in times)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(measured: Measured) -> str:
    found = stratified_bootstrap(measured.returns, "mean", reps=2000)
    fell = f", {measured.fell.mean():.0%} fell" if measured.fell.any() else ""
    return f"{found.point:.1f} ({found.low:.1f} .. {found.high:.1f}){fell}"
