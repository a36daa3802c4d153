"""Are the games and the learners those of the references? Step for step, against jaxmarl 0.2.0, pax and Haiku.

    python -m benchmarks.opshape.parity                # 10,000 steps of each game
    python -m benchmarks.opshape.parity --steps 500

The peers write traces in environments of their own (`peers/opshape_traces.py`, `peers.md`). Each step is repeated here
from the peer's state, with its coin tosses and its new positions injected as the uniform numbers that would give them.

Differences on purpose, which the traces do not touch: players start in all four directions here (jaxmarl and pax draw
from three), and the coins' fixed layout is the only one that the reference's draw can give.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import PEERS, ROOT, Json, child_environment, record, table, write_result
from opshape.agents.learners import PPOSettings
from opshape.agents.nets import gru
from opshape.agents.players import Episode
from opshape.agents.tabular import Table, TabularLearner, TabularMind
from opshape.games.coin_game import CELLS, CoinGame
from opshape.games.in_the_matrix import COINS, DECODE, SIDE, SPAWNS, InTheMatrix, Room

__all__ = ["coin_game", "in_the_matrix", "learner", "main", "traces"]

TOLERANCE = 1e-5


def traces(kind: str, count: int) -> dict[str, np.ndarray] | None:
    """Return a peer's traces, or None where it is not installed."""
    peer = "pax" if kind == "pax" else "jaxmarl"
    python = PEERS / peer / "bin" / "python"
    if not python.exists():
        return None
    environment = child_environment(1)
    if peer == "pax":
        environment["PYTHONPATH"] = str(PEERS / "pax" / "checkout" / "src")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "traces.npz"
        command = [str(python), "benchmarks/peers/opshape_traces.py", kind, str(out), str(count)]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
        with np.load(out) as file:
            return {name: file[name] for name in file.files}


def _middle(cell: np.ndarray, cells: int) -> np.ndarray:
    """The uniform number that falls into the middle of a cell."""
    return (cell + 0.5) / cells


def coin_game(trace: dict[str, np.ndarray]) -> Json:
    """Count the steps of CoinGame that differ in rewards, next state or either view."""
    game = CoinGame()
    before, after = (trace[name] @ np.array([3, 1]) for name in ("before", "after"))
    ended = trace["end"].astype(bool)
    noise = jnp.asarray(_middle(after[:, 2:], CELLS), jnp.float32)
    actions = tuple(jnp.asarray(trace["actions"][:, i]) for i in (0, 1))
    state, rewards = jax.jit(game.step)(jnp.asarray(before), actions, noise)
    fresh = game.reset(jnp.asarray(_middle(after, CELLS), jnp.float32))
    state = np.where(ended[:, None], fresh, state)
    paid = np.where(ended[:, None], 0.0, np.stack(rewards, -1))
    wrong = (state != after).any(-1) | (np.abs(paid - trace["rewards"]) > 0).any(-1)
    for seen, name in zip(game.observe(jnp.asarray(state)), ("first", "second"), strict=True):
        image = np.zeros((len(state), 36))
        np.put_along_axis(image, np.asarray(seen), 1, axis=-1)
        theirs = np.moveaxis(trace[name], -1, 1).reshape(len(state), 36)
        wrong |= (image != theirs).any(-1)
    return {"steps": len(state), "mismatches": int(wrong.sum()), "episodes": int(ended.sum()),
            "coins": int((trace["rewards"] != 0).sum())}  # fmt: skip


def _room(trace: dict[str, np.ndarray], when: str) -> Room:
    place = trace[f"{when}_place"].astype(int)
    on_cells = trace[f"{when}_grid"].reshape(len(place), -1)[:, COINS]
    blue = trace[f"{when}_blue_coins"].astype(int) @ np.array([SIDE, 1])
    return Room(
        place=jnp.asarray(place[..., :2] @ np.array([SIDE, 1])),
        facing=jnp.asarray(place[..., 2]),
        inventory=jnp.asarray(trace[f"{when}_inventory"].astype(int)),
        zapped=jnp.zeros(place.shape[:2], bool),
        colours=jnp.asarray((blue[:, None, :] == COINS[None, :, None]).any(-1).astype(int)),
        present=jnp.asarray((on_cells == 3) | (on_cells == 4)),
        freeze=jnp.asarray(trace[f"{when}_freeze"].astype(int)),
    )


def in_the_matrix(trace: dict[str, np.ndarray]) -> Json:
    """Count the steps of InTheMatrix that differ in rewards, next state or either view."""
    game = InTheMatrix(fixed_coins=False)
    before, after = _room(trace, "before"), _room(trace, "after")
    ended = trace["before_step"] + 1 == 152
    anew = trace["before_freeze"] == 1
    # The pair of starting cells and the directions that the peer drew, wherever it drew them.
    pair = (np.asarray(after.place)[:, None, :] == SPAWNS).all(-1).argmax(-1)
    spawn = np.concatenate([_middle(pair, len(SPAWNS))[:, None], _middle(np.asarray(after.facing), 4)], -1)
    toss = np.where(trace["red_keeps"] == 1, 0.75, 0.25)
    noise = jnp.asarray(np.concatenate([toss[:, None], spawn], -1), jnp.float32)
    actions = tuple(jnp.asarray(trace["actions"][:, i]) for i in (0, 1))
    state, rewards = jax.jit(game.step)(before, actions, noise)
    # Six red coins are those with the lowest of twelve numbers.
    fresh = game.reset(jnp.asarray(np.concatenate([np.asarray(after.colours) * 0.5 + 0.04 * np.arange(12) / 12, spawn],
                                                  -1), jnp.float32))  # fmt: skip
    state = jax.tree.map(
        lambda new, old: jnp.where(jnp.asarray(ended).reshape(-1, *[1] * (new.ndim - 1)), new, old), fresh, state
    )
    paid = np.where(ended[:, None], 0.0, np.stack(rewards, -1))
    wrong = np.abs(paid - trace["rewards"]).max(-1) > 1e-6
    for name in ("place", "facing", "inventory", "colours", "present", "freeze"):
        ours, theirs = (np.asarray(getattr(s, name)).reshape(len(wrong), -1) for s in (state, after))
        wrong |= (ours != theirs).any(-1)
    for seen, name in zip(game.observe(state), ("first", "second"), strict=True):
        codes = np.asarray(seen["view"])
        image = np.where(codes[..., None] >= 0, DECODE[np.maximum(codes, 0)], 0)
        wrong |= (image != trace[f"view_{name}"].reshape(image.shape)).any((-1, -2))
        wrong |= (np.asarray(seen["inventory"]) != trace[f"inventory_{name}"]).any(-1)
    return {
        "steps": len(wrong),
        "mismatches": int(wrong.sum()),
        "episodes": int(ended.sum()),
        "interactions": int((trace["rewards"] != 0).any(-1).sum()),
        "new_starts": int((anew & ~ended).sum()),
    }


def learner(trace: dict[str, np.ndarray]) -> Json:
    """Return the largest difference of the parameters after each of pax's updates, and of one step of Haiku's GRU."""
    tables = TabularLearner(settings=PPOSettings())
    mind = tables.init(jax.random.key(0))
    worst = 0.0
    for i in range(len(trace["seen"])):
        seen, actions, rewards = (trace[name][i] for name in ("seen", "actions", "rewards"))
        episode = Episode(
            (jnp.asarray(seen[:-1]), jnp.asarray(actions)), jnp.asarray(rewards, jnp.float32),
            jnp.zeros(rewards.shape), jnp.asarray(seen[-1]), jnp.asarray(float(trace["last"][i])),
        )  # fmt: skip
        mind = tables.learn(mind, episode, jnp.asarray(trace["orders"][i]))
        names = sorted(name for name in trace if name.endswith("/w"))
        logits = next(trace[name][i] for name in names if trace[name].shape[-1] == 2)
        value = next(trace[name][i] for name in names if trace[name].shape[-1] == 1)[:, 0]
        worst = max(
            worst, float(np.abs(mind.table.logits - logits).max()), float(np.abs(mind.table.value - value).max())
        )
        # From their parameters on, so that rounding in one update is not counted again in the next.
        mind = TabularMind(Table(jnp.asarray(logits), jnp.asarray(value)), mind.mean, mind.square, mind.count)
    params = {name: jnp.asarray(trace[f"gru_{name}"]) for name in ("w_i", "w_h", "b")}
    after = gru(params, jnp.asarray(trace["gru_x"]) @ params["w_i"] + params["b"], jnp.asarray(trace["gru_h"]))
    cell = float(np.abs(after - trace["gru_after"]).max())
    return {"updates": len(trace["seen"]), "largest_difference": worst, "gru_difference": cell}


CHECKS: dict[str, tuple[str, Any]] = {
    "CoinGame, jaxmarl": ("coin_game", coin_game),
    "InTheMatrix, jaxmarl": ("in_the_matrix", in_the_matrix),
    "PPO and GRU, pax": ("pax", learner),
}


def main(argv: list[str] | None = None) -> int:
    """Run all checks; 0 if those that could run found no difference."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.opshape.parity", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000, help="of each game")
    args = parser.parse_args(argv)
    results: dict[str, Json] = {}
    for name, (kind, check) in CHECKS.items():
        trace = traces(kind, 6 if kind == "pax" else args.steps)
        if trace is None:
            results[name] = {"skipped": "the peer is not installed (benchmarks/peers.md)"}
            continue
        found = check(trace)
        differences = (found.get("largest_difference", 0.0), found.get("gru_difference", 0.0))
        results[name] = {**found, "equal": found.get("mismatches", 0) == 0 and max(differences) < TOLERANCE}
    print(table([[name, ", ".join(f"{k} {v}" for k, v in r.items())] for name, r in results.items()], ["check", ""]))
    origin = record("benchmarks.opshape.parity", sys.argv[1:] if argv is None else argv, ["jax", "opshape"])
    write_result("opshape_parity", {"record": origin, "checks": results})
    return 0 if all(r.get("equal", True) for r in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
