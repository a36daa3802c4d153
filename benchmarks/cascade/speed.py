"""How fast are updates of explorers next to sheeprl's, and steps of the grid next to minigrid's? In turn, on one core.

    python -m benchmarks.cascade.speed --rounds 5
    python -m benchmarks.cascade.speed --only updates

Updates: a trial updates world model, ensemble and actor-critics at equal sizes (`peers/cascade_updates.py`). sheeprl
trains one explorer and one task policy in each, ours two explorers (the same mix) or ten. The rate that counts is
actor-critic updates per second of processor time. The arithmetic of an update is counted by hand (`flops`), and stands
next to what the same core does in products of matrices alone. Where ten explorers' time goes, each part timed alone
(330 ms in all): the ensemble along imagined sequences 95, 65 of them products; gradients of actors and critics 85;
imagination 75; the continue head 17; the rest is the world model, optimisers and copies.

Grid: both walk at random in MiniGrid's four rooms from the same layout, with the view made at every step and a reset
when an episode ends; 64 environments of ours at once, one of minigrid's. That the steps are the same is what
`packages/cascade/tests/test_grid.py` checks. xminigrid has four rooms in JAX too, with other layouts, one action less
and a view without the states of doors: a rate to know, not the same work.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import ChildProcess, Comparison, InProcess, Json, alternate, record, table, write_result
from benchmarks.peers.cascade_updates import BATCH, CLASSES, GROUPS, HEADS, HORIZON, LAYERS, LENGTH, UNITS
from cascade_explore.envs.grid import GridState, make_grid
from cascade_explore.envs.layouts import from_minigrid

GRID_CLAIM, UPDATE_CLAIM = 20.0, 5.0
ENVS, STEPS, PEER_STEPS = 64, 1000, 4000
SCRIPT, GRID_SCRIPT = "benchmarks/peers/cascade_updates.py", "benchmarks/peers/cascade_grid_steps.py"


def flops(agents: int, *, seen: int = 4, actions: int = 2) -> float:
    """Return floating-point operations of an update of ours: two a multiplication, three passes where trained."""
    latent, starts = GROUPS * CLASSES, BATCH * LENGTH
    width = latent + UNITS

    def mlp(inputs: int, out: int) -> int:
        return inputs * UNITS + (LAYERS - 1) * UNITS**2 + UNITS * out

    gru = (latent + actions) * UNITS + 2 * UNITS * 3 * UNITS
    advance, posterior = gru + UNITS**2 + UNITS * latent, 2 * UNITS * UNITS + UNITS * latent
    world = mlp(seen, 0) + advance + posterior + mlp(width, seen) + mlp(width, 1)
    ensemble = HEADS * mlp(width + actions, latent)
    trained = 3 * starts * (world + ensemble)
    step = advance + mlp(width, actions) + mlp(width, 1) + ensemble + mlp(width, 1)  # actor, end, heads, target
    imagined = starts * HORIZON * (step + 3 * (mlp(width, actions) + mlp(width, 1)))
    return 2.0 * (trained + agents * imagined)


def updates(rounds: int, agents: list[int]) -> Json:
    """Return rates of actor-critic updates and their ratios."""
    sizes = {f"{b} explorers": b for b in agents}
    arms = [ChildProcess(name, [SCRIPT, str(b), "10"], cores=[0]) for name, b in sizes.items()]
    floor = ChildProcess("products", [SCRIPT, "floor", "500"], cores=[0])
    peer = ChildProcess("sheeprl", [SCRIPT, "sheeprl", "10"], peer="sheeprl", cores=[0])
    comparison, _ = alternate([*arms, peer, floor], rounds)
    peak = comparison.rate("products", "cpu_s")
    rows, found = [], {}
    for name, b in sizes.items():
        rate = comparison.rate(name, "cpu_s")
        of_peak = rate / b * flops(b) / peak
        found[name] = {"rate": rate, "gflop_an_update": flops(b) / 1e9, "share_of_products": of_peak}
        rows.append([name, f"{rate:.1f}", f"{flops(b) / 1e9:.2f}", f"{peak / flops(b) * b:.0f}", f"{of_peak:.0%}"])
    if "sheeprl" in comparison.trials:
        rows.append(["sheeprl", f"{comparison.rate('sheeprl', 'cpu_s'):.1f}", "-", "-", "-"])
        found["ratios"] = {name: _ratio(comparison, name, "sheeprl") for name in sizes}
        found["holds"] = comparison.ratio(arms[-1].name, "sheeprl", "cpu_s").median >= UPDATE_CLAIM
        print(f"next to sheeprl: {found['ratios']}; {arms[-1].name} claimed at least {UPDATE_CLAIM:.0f}x")
    print(table(rows, ["actor-critic updates per CPU-s", "rate", "GFLOP an update", "at the floor", "of it"]))
    print(f"products of matrices alone: {peak / 1e9:.0f} GFLOP a second")
    return {**found, "claim": UPDATE_CLAIM, **_details(comparison)}


def _ratio(comparison: Comparison, ours: str, peer: str) -> dict[str, str]:
    return {clock: str(comparison.ratio(ours, peer, clock)) for clock in ("cpu_s", "wall_s")}


def _details(comparison: Comparison) -> Json:
    return {"contestants": comparison.info, "skipped": comparison.skipped, "trials": comparison.trials}


def _minigrid() -> gymnasium.Env:
    import minigrid  # noqa: F401  # registers its environments

    env = gymnasium.make("MiniGrid-FourRooms-v0", disable_env_checker=True)
    env.reset(seed=0)
    return env


def our_grid() -> tuple[Json, Callable[[], Json]]:
    """Return a trial of `ENVS` x `STEPS` steps on the device."""
    grid = make_grid([from_minigrid(_minigrid())], limit=100)

    def step(states: GridState, key: jax.Array) -> tuple[GridState, jax.Array]:
        action = jax.random.randint(key, (ENVS,), 0, 7)
        after, _, terminal, cut = jax.vmap(grid.step)(states, action)
        fresh = jax.vmap(grid.reset)(jax.random.split(key, ENVS))
        over = terminal | cut
        states = jax.tree.map(lambda a, b: jnp.where(over.reshape(-1, *[1] * (a.ndim - 1)), a, b), fresh, after)
        return states, jax.vmap(grid.observe)(states).sum(dtype=jnp.int32)

    @jax.jit
    def play(key: jax.Array) -> jax.Array:
        one, two = jax.random.split(key)
        states = jax.vmap(grid.reset)(jax.random.split(one, ENVS))
        return jax.lax.scan(step, states, jax.random.split(two, STEPS))[1].sum()

    key = jax.random.key(0)
    play(key).block_until_ready()

    def trial() -> Json:
        play(key).block_until_ready()
        return {"work": ENVS * STEPS}

    return {"environments": ENVS}, trial


def minigrids() -> tuple[Json, Callable[[], Json]]:
    """Return a trial of `PEER_STEPS` steps of minigrid."""
    env = _minigrid()
    actions = np.random.default_rng(0).integers(0, 7, PEER_STEPS)

    def trial() -> Json:
        for action in actions:
            _, _, terminal, cut, _ = env.step(int(action))
            if terminal or cut:
                env.reset(seed=0)
        return {"work": PEER_STEPS}

    return {"environments": 1}, trial


def grid(rounds: int, _: list[int]) -> Json:
    """Return rates of steps and their ratios."""
    jax_peer = [GRID_SCRIPT, str(ENVS), str(STEPS)]
    comparison, _ = alternate(
        [
            InProcess("cascade-explore", our_grid),
            InProcess("minigrid", minigrids),
            ChildProcess("xminigrid", jax_peer, peer="xminigrid", cores=[0]),
        ],
        rounds,
    )
    print(table([[n, f"{comparison.rate(n, 'cpu_s'):,.0f}"] for n in comparison.trials], ["grid", "steps per CPU-s"]))
    ratio = comparison.ratio("cascade-explore", "minigrid", "cpu_s")
    print(f"next to minigrid {ratio}; claimed at least {GRID_CLAIM:.0f}x")
    found = {"ratio": str(ratio)}
    if "xminigrid" in comparison.trials:
        found["next to xminigrid"] = str(comparison.ratio("cascade-explore", "xminigrid", "cpu_s"))
        print(f"next to xminigrid {found['next to xminigrid']}")
    return {**found, "claim": GRID_CLAIM, "holds": ratio.median >= GRID_CLAIM, **_details(comparison)}


CASES = {"updates": updates, "grid": grid}


def main(argv: list[str] | None = None) -> int:
    """Measure and write a result for each case; 0 if the ratios are at least what is claimed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cascade.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=list(CASES), nargs="*", default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--agents", type=int, nargs="*", default=[2, 10], help="numbers of explorers of ours")
    args = parser.parse_args(argv)
    holds = True
    for name in args.only:
        found = CASES[name](args.rounds, args.agents)
        origin = record("benchmarks.cascade.speed", sys.argv[1:] if argv is None else argv, ["jax", "cascade-explore"])
        write_result(f"cascade_speed-{name}", {"record": origin, **found})
        holds &= found.get("holds", True)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
