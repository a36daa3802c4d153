"""What the commands do and write: files, tables and figures. The only room that leans on the lab."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from hgap.config import PlanConfig
from hgap.data.behaviours import BEHAVIOURS, Behaviours, learn, read_behaviours, shipped, write_behaviours
from hgap.data.motion import Switching, make_motion
from hgap.envs.bodies import find_body
from hgap.envs.cmu import CMUHumanoid
from hgap.envs.objectives import Objective, find_objective
from hgap.envs.simulator import Simulator
from hgap.evaluation.episodes import Episodes, Measured, measure, play, score
from hgap.loading import Model, load
from hgap.planner.budget import Budgeted
from hgap.planner.plan import Planner
from hgap.rivals.controllers import Controller, Planned, RandomCodes
from hgap.rivals.sampling_mpc import CEM, MPPI, SamplingMPC, true_dynamics
from paperloop.errors import UserError, setting
from paperloop.files import check_is_file, write_atomically, write_json
from paperloop.settings import did_you_mean, replace_in
from paperloop_data import EpisodeDataset
from paperloop_lab.stats import stratified_bootstrap

__all__ = ["evaluate_command", "make_data", "make_policies", "plan_command", "table", "write_motion"]


def make_policies(options: Any, command: str) -> None:
    """Search for the behaviours of a body, one after the other, and gather them in one file."""
    body, known = find_body(options.env_id), BEHAVIOURS[options.env_id]
    for name in options.behaviours:
        if name not in known:
            raise UserError(f"{body.env_id} has no behaviour {name!r}{did_you_mean(name, known)}")
    _check_folder(options.out)
    _same_request(options.out, {n: str(getattr(options, n)) for n in ("env_id", "steps", "seed")})
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
    _check_free(options.out, (".npz", ".hdf5", ".h5"))
    if options.longest < options.shortest:
        raise UserError(f"{setting('longest', options.longest)} is below {setting('shortest', options.shortest)}.")
    simulator = Simulator(find_body(options.env_id))
    behaviours = _behaviours(options, simulator)
    parts = options.out.with_name(f".{options.out.name}.parts")
    asked = {
        n: str(getattr(options, n)) for n in ("env_id", "episode", "shortest", "longest", "noise", "means", "seed")
    }
    asked["policies"] = behaviours.command
    _same_request(parts, asked)
    data = make_motion(
        simulator, behaviours, steps=options.steps, episode=options.episode, seed=options.seed, parts=parts,
        switching=Switching(options.shortest, options.longest, options.noise, options.means),
        say=lambda done: print(f"\r{done} of {options.steps} steps", end="", file=sys.stderr),
    )  # fmt: skip
    print(file=sys.stderr)
    data.save(options.out)
    shutil.rmtree(parts)
    print(f"Wrote {data.num_episodes} episodes, {data.num_steps} steps: {options.out}")


def _behaviours(options: Any, simulator: Simulator) -> Behaviours:
    """Return the policies of the file that is asked for, or those that come with the package."""
    if options.policies is None and isinstance(simulator.body, CMUHumanoid):
        from hgap.data.scripted import scripted

        return scripted(simulator)
    behaviours = read_behaviours(options.policies or shipped(options.env_id))
    if behaviours.env_id != options.env_id:
        raise UserError(
            f"{options.policies} holds policies of {behaviours.env_id}: give {setting('env_id', behaviours.env_id)}."
        )
    policy: Any = behaviours.policy  # of a file: linear
    shape, wanted = policy.weights.shape[1:], (simulator.action_size, simulator.observation_size)
    if shape != wanted:
        raise UserError(
            f"{options.policies} holds policies of {shape[1]} states and {shape[0]} actions, and {options.env_id} has "
            f"{wanted[1]} and {wanted[0]}: search for policies of this body."
        )
    return behaviours


def _check_free(path: Path, kinds: tuple[str, ...]) -> None:
    """Refuse a place for a file before the work for it begins: it is taken, of no known kind, or not writable."""
    if path.exists():
        raise UserError(f"{path} exists: choose another file, or remove it.")
    if path.suffix.lower() not in kinds:
        raise UserError(f"{path} ends in none of {', '.join(kinds)}: choose another name for {setting('out')}.")
    _check_folder(path.parent)


def _check_folder(path: Path) -> Path:
    """Refuse a folder that could not be made or written to, and return it; nothing is made yet."""
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not there.is_dir():
        raise UserError(f"{path} cannot be written to: {there} is a file: choose another place for {setting('out')}.")
    if not os.access(there, os.W_OK):
        raise UserError(f"{path} cannot be written to: you lack the permission in {there}: choose another place.")
    return path


def _same_request(folder: Path, asked: dict[str, str]) -> None:
    """Refuse to continue what was begun with other settings."""
    from paperloop.settings import read_json

    record = folder / "asked.json"
    before = read_json(record) if record.exists() else asked
    if before != asked:
        name = next((n for n in asked if not isinstance(before, dict) or before.get(n) != asked[n]), "steps")
        raise UserError(
            f"{folder} was begun with another {setting(name)} than {asked[name]}: remove it, or choose another place "
            f"for {setting('out')}."
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(record, asked)


def convert(options: Any) -> None:
    """Write a dataset of MoCapAct's files, or poses of AMC files."""
    kinds = {check_is_file(path).suffix.lower() for path in options.files}
    _check_free(options.out, (".npz",) if kinds == {".amc"} else (".npz", ".hdf5", ".h5"))
    if kinds == {".amc"}:
        from hgap.data.amc import save_poses, to_poses

        simulator = Simulator(find_body("CMUHumanoid"))
        poses = {
            path.stem: to_poses(path, simulator, rate=options.rate, ground=options.ground) for path in options.files
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
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
    name = Path(options.objective).stem
    out = _check_folder(options.out or _folder(options.run) / "plans" / name)
    played = play(simulator, Planned(planner), episodes=1, steps=options.steps, seed=options.start)
    measured = score(played, objective, model.slices)
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
    buffer = io.BytesIO()
    parts = {"observations": played.observations, "actions": played.actions, "physics": played.physics}
    arrays: Any = {part: rows[0, :length] for part, rows in parts.items()}
    np.savez(buffer, **arrays)
    write_atomically(out / "motion.npz", buffer.getvalue())
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
    found = (model.autoencoder.state_size, model.autoencoder.action_size)
    wanted = (simulator.observation_size, simulator.action_size)
    if found != wanted:
        raise UserError(
            f"The model's states and actions have {found[0]} and {found[1]} numbers, and those of {model.env_id} "
            f"{wanted[0]} and {wanted[1]}: its data were recorded with others."
        )
    return simulator


def evaluate_command(options: Any, config: PlanConfig) -> None:
    """Measure a model and rivals on objectives, print a table, and write it."""
    model = load(options.run)
    out = _check_folder(_evaluation(options))
    names = [Path(name).stem for name in options.objectives]
    twice = [name for name in names if names.count(name) > 1]
    if twice or not names:
        given = f"{twice[0]} twice" if twice else "none"
        raise UserError(f"{setting('objectives')} name {given}: give each of them once.")
    asked = [(name, find_objective(name), _simulator(model, name, options.poses)) for name in options.objectives]
    for _, objective, _ in asked:
        Planner(model, objective, config)  # says what is wrong with one before the first is measured
    if options.data is not None or set(options.rivals) & _LEARNERS:
        _check_data(options, model)
    results: dict[str, dict[str, Measured]] = {}
    for name, objective, simulator in asked:
        for rival, controller in _controllers(options, config, model, simulator, name).items():
            found = measure(
                simulator, controller, objective, episodes=options.episodes, steps=options.steps, seed=options.start
            )
            results.setdefault(Path(name).stem, {})[rival] = found
            print(f"{name}, {rival}: {found.returns.mean():.1f}", file=sys.stderr)
    text = table(results)
    print(text)
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

    if str(options.data) not in _CLONED:
        windows = model.config.windows
        data = load_windows(
            EpisodeDataset.load(options.data), steps=windows.steps, clip=windows.clip, constant=windows.constant,
            held_out=windows.held_out,
        )  # fmt: skip
        _CLONED[str(options.data)] = clone(data)
    return _CLONED[str(options.data)]


_LEARNERS = {"cloning", "tap", "iql", "td3bc"}


def _check_data(options: Any, model: Model) -> None:
    """Refuse to begin where the rivals that learn have no data, or those of another body."""
    if options.data is None:
        learners = ", ".join(sorted(_LEARNERS & set(options.rivals)))
        raise UserError(f"The rivals {learners} learn from the data: name them with {setting('data')}.")
    data = EpisodeDataset.load(options.data)
    found = [rows.shape[1:] for rows in (data.observations, data.actions)]
    wanted = [(model.autoencoder.state_size,), (model.autoencoder.action_size,)]
    if found != wanted:
        raise UserError(
            f"{options.data}: its states and actions have shapes {found[0]} and {found[1]}, and those of the model "
            f"{wanted[0]} and {wanted[1]}: give {setting('data')} of the same body."
        )


def _specialist(name: Any, options: Any, model: Model, simulator: Simulator, asked: str) -> Controller:
    """Return what is trained for one objective on the data with its rewards."""
    from hgap.rivals.specialists import relabel, train_specialist
    from hgap.rivals.tap import train_tap

    data = relabel(EpisodeDataset.load(options.data), find_objective(asked), model.slices)
    if name == "tap":
        return train_tap(data, model.config, _evaluation(options) / "tap" / Path(asked).stem)
    return train_specialist(name, data, simulator, updates=options.updates)


def _folder(run: Path) -> Path:
    return run if run.is_dir() else run.parent


def _evaluation(options: Any) -> Path:
    return options.out or _folder(options.run) / "evaluation"


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
