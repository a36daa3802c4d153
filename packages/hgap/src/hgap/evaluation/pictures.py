"""Figures of motion, and films."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from hgap.envs.objectives import Objective, Trajectory
from hgap.envs.simulator import Simulator
from hgap.evaluation.episodes import Episodes
from paperloop.files import write_atomically
from paperloop_lab.plots import new_figure, style

__all__ = ["draw_film", "motion_figure"]


def motion_figure(
    played: Episodes, objective: Objective, slices: dict[str, tuple[int, int]], *, step: float, title: str
) -> Any:
    """Return a figure of the first episode: reward, forward velocity and height over time."""
    length = int(played.alive[0].sum())
    trajectory = Trajectory(played.observations[:1, :length], played.actions[:1, :length], slices)
    curves = {"reward": np.asarray(objective(trajectory))}
    for name, label in (("velocity_x", "velocity along x, m/s"), ("height", "height, m")):
        if trajectory.has(name):
            curves[label] = trajectory[name]
    curves = {name: values for name, values in curves.items() if np.ndim(values) == 2}
    figure, axes = new_figure(6.0, 1.6 * len(curves), rows=len(curves))
    seconds = step * np.arange(length)
    for number, (axis, (label, values)) in enumerate(zip(np.atleast_1d(axes).ravel(), curves.items(), strict=True)):
        axis.plot(seconds, values[0], **style(number))
        axis.set_ylabel(label)
    np.atleast_1d(axes).ravel()[0].set_title(title)
    np.atleast_1d(axes).ravel()[-1].set_xlabel("seconds")
    return figure


def draw_film(
    simulator: Simulator, physics: np.ndarray, path: Path, *, frames: int = 100, size: tuple[int, int] = (480, 270)
) -> Path:
    """Write an episode as an endless GIF: the body's capsules and spheres from the side, the camera moving with it.

    Drawn without OpenGL, so that it works on any machine.

    Args:
        simulator: of the body.
        physics: full physics states [T, nstate].
        path: the file.
        frames: at most so many, evenly spaced.
        size: width and height in pixels; three metres are as wide as 360 of them.
    """
    from hgap.envs.simulator import mujoco

    model, data = simulator.model, mujoco.MjData(simulator.model)
    chosen = physics[:: max(1, -(-len(physics) // frames))]
    images = []
    for state in chosen:
        mujoco.mj_setState(model, data, state[: simulator.physics_size], simulator.spec)
        mujoco.mj_forward(model, data)
        images.append(_frame(model, data, size))
    pause = round(1000 * simulator.control_step * len(physics) / len(chosen))

    def save(temporary: Path) -> None:
        images[0].save(temporary, format="GIF", save_all=True, append_images=images[1:], duration=pause, loop=0)

    write_atomically(path, save)
    return path


def _frame(model: Any, data: Any, size: tuple[int, int]) -> Image.Image:
    """Return the side view (x to the right, z up) of a model in its present pose."""
    scale, ground = 120.0, size[1] * 0.85
    centre = data.subtree_com[1, 0]

    def pixel(point: np.ndarray) -> tuple[float, float]:
        return size[0] / 2 + scale * (point[0] - centre), ground - scale * point[2]

    image = Image.new("RGB", size, "#F6F8FA")
    draw = ImageDraw.Draw(image)
    draw.line([0, ground, size[0], ground], fill="#57606A", width=2)
    for metre in range(int(centre) - 3, int(centre) + 4):  # marks on the ground, by which one sees it move
        x = pixel(np.array([metre, 0.0, 0.0]))[0]
        draw.line([x, ground, x, ground + 8], fill="#57606A", width=2)
    for geom in np.argsort(-data.geom_xpos[:, 1], kind="stable"):  # those behind first
        kind, place, radius = model.geom_type[geom], data.geom_xpos[geom], model.geom_size[geom, 0]
        if kind == 0:  # the floor
            continue
        colour = "#0969DA" if place[1] <= 0.01 else "#8C959F"
        half = data.geom_xmat[geom].reshape(3, 3)[:, 2] * (model.geom_size[geom, 1] if kind == 3 else 0.0)
        ends, wide = [pixel(place - half), pixel(place + half)], scale * radius
        draw.line([*ends[0], *ends[1]], fill=colour, width=max(1, round(2 * wide)))
        for x, y in ends:
            draw.ellipse([x - wide, y - wide, x + wide, y + wide], fill=colour)
    return image
