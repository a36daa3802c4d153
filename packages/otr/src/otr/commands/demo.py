"""The demo: two textbook tasks simulated on the spot, labelled three ways.

The pendulum swings up in episodes of one length, so that only what happens in them can be told from labels. The cart
with a pole earns 1 a step until the pole falls, so that the length of an episode is its return, and a constant label
ranks the episodes as well as any: the length confound that `otr diagnose` warns of.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from otr.commands.diagnose import diagnosis_table
from otr.diagnosis.diagnose import Diagnosis, diagnose
from otr.diagnosis.figures import draw_returns, plan_figure
from otr.episodes.demonstrations import best_episodes
from otr.labels.labelling import label
from otr.presets import preset
from paperloop.errors import UserError
from paperloop.files import write_json
from paperloop_data import EpisodeDataset
from paperloop_lab.plots import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LABELLERS", "cart_pole_data", "pendulum_data", "run_demo"]

LABELLERS = ("otr", "seabo", "constant")


def pendulum_data(rng: np.random.Generator, episodes: int = 60, steps: int = 200) -> EpisodeDataset:
    """Simulate swing-ups by controllers from good to random.

    Task, constants and reward are those of Gym's Pendulum-v1: a rod of mass 1 and length 1 under g = 10, torque at
    most 2, steps of 0.05 s, reward -(angle² + 0.1 speed² + 0.001 torque²); but every episode starts hanging. The
    controller pumps energy and balances by proportional-derivative control at the top (Åström & Furuta 2000); in the
    k-th episode a share k/(episodes - 1) of its torques is replaced by random ones.

    Args:
        rng: of starts and torques.
        episodes: how many.
        steps: in each.
    """
    observations = np.empty((episodes, steps + 1, 3), np.float32)
    actions, rewards = np.empty((episodes, steps, 1), np.float32), np.empty((episodes, steps))
    share = np.linspace(0, 1, episodes)
    angle, speed = math.pi + rng.uniform(-0.5, 0.5, episodes), rng.uniform(-1, 1, episodes)
    for t in range(steps):
        observations[:, t] = np.stack([np.cos(angle), np.sin(angle), speed], axis=1)
        wrapped = (angle + math.pi) % (2 * math.pi) - math.pi
        energy = speed**2 / 2 + 15 * (np.cos(angle) - 1)  # 0 upright and at rest
        pumping = np.where(energy < 0, 2.0, -2.0) * np.where(speed >= 0, 1.0, -1.0)
        torque = np.where(np.abs(wrapped) < 0.4, -(10 * wrapped + 2 * speed), pumping)
        torque = np.where(rng.random(episodes) < share, rng.uniform(-2, 2, episodes), torque)
        torque = np.clip(torque, -2, 2)
        actions[:, t, 0] = torque
        rewards[:, t] = -(wrapped**2 + 0.1 * speed**2 + 0.001 * torque**2)
        speed = np.clip(speed + (15 * np.sin(angle) + 3 * torque) * 0.05, -8, 8)
        angle = angle + speed * 0.05
    observations[:, steps] = np.stack([np.cos(angle), np.sin(angle), speed], axis=1)
    truncated = np.zeros((episodes, steps), bool)
    truncated[:, -1] = True
    return EpisodeDataset(
        observations=observations[:, :steps].reshape(-1, 3),
        actions=actions.reshape(-1, 1),
        rewards=rewards.reshape(-1).astype(np.float32),
        terminated=np.zeros(episodes * steps, bool),
        truncated=truncated.reshape(-1),
        final_observations=observations[:, steps],
        provenance=({"action": "simulate", "task": "pendulum swing-up"},),
    )


def cart_pole_data(rng: np.random.Generator, episodes: int = 60, steps: int = 200) -> EpisodeDataset:
    """Simulate balancing by controllers from good to random, until the pole falls.

    Task and constants are those of Barto, Sutton & Anderson (1983) as in Gym's CartPole: pushes of 10 N left or right
    every 0.02 s, the end at 12 degrees or 2.4 m, reward 1 a step. The controller pushes by the sign of a linear
    function of the state, with random pushes mixed in as in `pendulum_data`.

    Args:
        rng: of starts and pushes.
        episodes: how many.
        steps: at most, in each.
    """
    gravity, cart, pole, half = 9.8, 1.0, 0.1, 0.5
    rows: list[np.ndarray] = []
    pushes: list[float] = []
    lengths, terminated, finals = [], [], []
    for share in np.linspace(0, 1, episodes):
        x, v, angle, spin = rng.uniform(-0.05, 0.05, 4)
        for t in range(steps):
            push = 1.0 if angle + 0.3 * spin + 0.05 * x + 0.1 * v > 0 else -1.0
            if rng.random() < share:
                push = rng.choice([-1.0, 1.0])
            rows.append(np.array([x, v, angle, spin]))
            pushes.append(push)
            sine, cosine = math.sin(angle), math.cos(angle)
            force = (10 * push + pole * half * spin**2 * sine) / (cart + pole)
            turn = (gravity * sine - cosine * force) / (half * (4 / 3 - pole * cosine**2 / (cart + pole)))
            push_on = force - pole * half * turn * cosine / (cart + pole)
            x, v, angle, spin = x + 0.02 * v, v + 0.02 * push_on, angle + 0.02 * spin, spin + 0.02 * turn
            fallen = abs(x) > 2.4 or abs(angle) > math.radians(12)
            if fallen or t == steps - 1:
                break
        lengths.append(t + 1)
        terminated.append(fallen)
        finals.append([x, v, angle, spin])
    last = np.cumsum(lengths) - 1
    ends = np.zeros((2, len(rows)), bool)
    ends[0, last], ends[1, last] = terminated, np.logical_not(terminated)
    return EpisodeDataset(
        observations=np.array(rows, np.float32),
        actions=np.array(pushes, np.float32)[:, None],
        rewards=np.ones(len(rows), np.float32),
        terminated=ends[0],
        truncated=ends[1],
        final_observations=np.array(finals, np.float32),
        provenance=({"action": "simulate", "task": "cart with pole"},),
    )


def run_demo(out: Path, *, seed: int = 0, episodes: int = 60) -> dict[str, dict[str, Diagnosis]]:
    """Make the data, label it, and show what the labels are worth.

    Args:
        out: folder for the data, the labelled files, labels.png, plan.png and diagnosis.json; replaces those.
        seed: of the data.
        episodes: of each task, at least 10.

    Returns:
        task -> labeller -> diagnosis.
    """
    start = time.perf_counter()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out} cannot be made ({error.strerror}): choose another folder.") from None
    rng = np.random.default_rng(seed)
    tasks = {"pendulum": pendulum_data(rng, episodes), "cart-pole": cart_pole_data(rng, episodes)}
    console = Console()
    found: dict[str, dict[str, Diagnosis]] = {}
    labelled: dict[str, dict[str, EpisodeDataset]] = {}
    for task, data in tasks.items():
        data.save(out / f"{task}.hdf5", overwrite=True)
        demos = best_episodes(data, 1)
        labelled[task], found[task] = {}, {}
        for name in LABELLERS:
            result = label(data, demos, preset(name))
            result.dataset.save(out / f"{task}-{name}.hdf5", overwrite=True)
            labelled[task][name] = result.dataset
            found[task][name] = diagnose(result.dataset, data.rewards)
            if task == "pendulum" and result.fitted is not None and name == "otr":
                tenth = int(np.argsort(-data.returns(), kind="stable")[9])
                plan: Any = getattr(result.fitted, "plan")(data, tenth)  # noqa: B009  # only transport has one
                save_figure(plan_figure(plan, title="tenth-best swing-up onto the best"), out / "plan.png")
        console.print(f"\n{task}: one demonstration")
        console.print(diagnosis_table(found[task]))
    save_figure(_figure(labelled, found), out / "labels.png")
    report = {task: {name: one.to_dict() for name, one in by.items()} for task, by in found.items()}
    write_json(out / "diagnosis.json", report)
    console.print(
        "Swing-ups have one length, so a constant label says nothing there. The pole's episodes are worth their "
        "length: a constant label ranks them perfectly, and a labeller's score on such data shows nothing.",
        soft_wrap=True,
    )
    print(f"{out / 'labels.png'}  ({time.perf_counter() - start:.0f} s)")
    return found


def _figure(labelled: dict[str, dict[str, EpisodeDataset]], found: dict[str, dict[str, Diagnosis]]) -> Figure:
    figure, grid = new_figure(9.0, 5.4, len(labelled), len(LABELLERS))
    for row, (task, by) in zip(grid, labelled.items(), strict=True):
        for axes, (name, data) in zip(row, by.items(), strict=True):
            draw_returns(axes, data)
            value = found[task][name].by_episode
            rank = "no ranking" if math.isnan(value) else f"{value:.2f}"
            axes.set_title(f"{task}, {name}: {rank}", loc="left", fontsize=10)
            axes.locator_params(axis="x", nbins=5)  # more would touch each other
    figure.supxlabel("in the titles: rank correlation of labelled with true return", fontsize=8, x=0.99, ha="right")
    for axes in grid[-1]:
        axes.set_xlabel("true return")
    for axes in grid[:, 0]:
        axes.set_ylabel("labelled return")
    return figure
