"""The demonstration: motion, a small model of it, and one episode for each of three objectives, in half a minute."""

from __future__ import annotations

from pathlib import Path

from hgap.config import PRESETS, Data, PlanConfig
from hgap.data.behaviours import read_behaviours, shipped
from hgap.data.motion import make_motion
from hgap.envs.bodies import find_body
from hgap.envs.objectives import OBJECTIVES
from hgap.envs.simulator import Simulator
from hgap.evaluation.commands import table, write_motion
from hgap.evaluation.episodes import Measured, play, score
from hgap.fitting import fit
from hgap.planner.plan import Planner
from hgap.rivals.controllers import Planned, RandomCodes
from paperloop.files import write_atomically
from paperloop.settings import replace_in

__all__ = ["run_demo"]

OBJECTIVES_SHOWN = ("forward", "backward", "jump")


def run_demo(out: Path) -> None:
    """Fill `out` with motion of a cheetah, a model of it, and an episode for each of three objectives."""
    simulator = Simulator(find_body("HalfCheetah-v5"))
    path = out / "motion.npz"
    if not path.exists():
        behaviours = read_behaviours(shipped("HalfCheetah-v5"))
        data = make_motion(simulator, behaviours, steps=32_000, episode=250, seed=0, parts=out / "parts")
        data.save(path)
    model = fit(Data(path=str(path), model=PRESETS["tiny"]), out / "run")[0]
    config = replace_in(PlanConfig(), {"samples": 32, "search.top_p": 0.95})
    results: dict[str, dict[str, Measured]] = {}
    for name in OBJECTIVES_SHOWN:
        objective = OBJECTIVES[name]
        controllers = {"hgap": Planned(Planner(model, objective, config)), "random codes": RandomCodes(model)}
        for rival, controller in controllers.items():
            played = play(simulator, controller, episodes=4, steps=100, seed=1)
            results.setdefault(name, {})[rival] = score(played, objective, model.slices)
            if rival == "hgap":
                write_motion(played, objective, model, simulator, out / name, title=name, film=50)
    text = table(results)
    print(text)
    write_atomically(out / "demo.md", f"# One model, three objectives, 100 steps\n\n{text}\n".encode())
