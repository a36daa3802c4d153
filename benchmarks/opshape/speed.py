"""How fast are generations next to pax's, and rooms next to jaxmarl's? The same work, in turn, on the same core.

    python -m benchmarks.opshape.speed                   # all that is installed
    python -m benchmarks.opshape.speed --only ipd --rounds 5

Both run their whole generation: roll-outs, the co-players' learning, the evolution strategy, logging. pax runs its own
command unchanged (`peers/opshape_pax_generation.py`), in the versions of its time (`peers.md`); its compiler is older
too, and that is part of what is compared. The rate that counts is joint steps per second of processor time.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import ChildProcess, Json, alternate, record, table, write_result
from opshape.agents.config import PPO, RecurrentLearner
from opshape.config import TrainConfig, TrialShape
from opshape.games.config import CoinGame, Matrix
from opshape.meta.config import Evolution
from paperloop.settings import save_config

__all__ = ["main"]


@dataclasses.dataclass(frozen=True)
class Case:
    """A comparison: our configuration, the peer's options, and the ratio that is claimed."""

    config: TrainConfig | None
    peer: tuple[str, ...]
    claim: float
    generations: int = 10


_SHAPE = ("++popsize=64", "++num_opps=2", "++num_outer_steps=40", "++num_inner_steps=50", "++num_envs=2")
_TABLE = ("++runner=evo", "++att_type=nothing", *_SHAPE)
CASES = {
    "ipd": Case(
        TrainConfig(game=Matrix(name="ipd"), generations=10, generations_per_step=10),
        ("+experiment/ipd=shaper_att_v_tabular", *_TABLE), 6.0,
    ),
    "imp": Case(
        TrainConfig(game=Matrix(name="imp"), generations=10, generations_per_step=10),
        ("+experiment/imp=shaper_att_v_tabular", "++num_devices=1", *_TABLE), 6.0,
    ),
    "coin_game": Case(
        TrainConfig(
            game=CoinGame(), trial=TrialShape(steps=16, episodes=20, games=32, co_players=1),
            co_player=RecurrentLearner(ppo=PPO(lr=0.005, minibatches=8, entropy=0.1)),
            meta=Evolution(population=16, shaping="centered_rank"), generations=10, generations_per_step=10,
        ),
        ("+experiment/cg=train_shaper", "++popsize=16", "++num_envs=32", "++num_outer_steps=20", "++num_devices=1",
         "++es.mean_reduce=False"), 10.0,
    ),
    "in_the_matrix": Case(None, ("256", "500"), 5.0),
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Measure and write the result; 0 if every ratio that could be measured is at least what is claimed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.opshape.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=sorted(CASES), default=sorted(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(argv)
    results: dict[str, Json] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in args.only:
            results[name] = measure(name, CASES[name], args.rounds, Path(folder))
    rows = [
        [name, *(str(r.get(k, "-")) for k in ("ours", "peer", "ratio", "claim", "holds"))]
        for name, r in results.items()
    ]
    print(table(rows, ["case", "ours (steps per CPU-s)", "peer", "ratio", "claimed", "holds"]))
    origin = record("benchmarks.opshape.speed", sys.argv[1:] if argv is None else argv, ["jax", "opshape"])
    part = "" if len(results) == len(CASES) else "-" + "-".join(results)
    write_result(f"opshape_speed{part}", {"record": origin, "cases": results})
    return 0 if all(r.get("holds", True) for r in results.values()) else 1


def measure(name: str, case: Case, rounds: int, folder: Path) -> Json:
    """Return rates and their ratio, round by round."""
    if case.config is None:
        script = "benchmarks/peers/opshape_room_steps.py"
        ours = ChildProcess("opshape", [script, "ours", *case.peer], cores=[0])
        peer = ChildProcess("jaxmarl", [script, "jaxmarl", *case.peer], peer="jaxmarl", cores=[0])
    else:
        save_config(case.config, folder / f"{name}.json")
        script = "benchmarks/peers/opshape_generation.py"
        ours = ChildProcess("opshape", [script, str(case.generations), str(folder / f"{name}.json")], cores=[0])
        script = "benchmarks/peers/opshape_pax_generation.py"
        peer = ChildProcess(
            "pax", [script, str(case.generations), *case.peer], peer="pax", source="checkout", cores=[0]
        )
    comparison, _ = alternate([ours, peer], rounds)
    if comparison.skipped:
        return {"skipped": comparison.skipped}
    rates = {who: comparison.rate(who, "cpu_s") for who in ("opshape", peer.name)}
    ratio = comparison.ratio("opshape", peer.name, "cpu_s")
    return {
        "ours": f"{rates['opshape']:,.0f}",
        "peer": f"{rates[peer.name]:,.0f}",
        "ratio": str(ratio),
        "wall_ratio": str(comparison.ratio("opshape", peer.name)),
        "claim": case.claim,
        "holds": ratio.median >= case.claim,
        "trials": comparison.trials,
        "contestants": comparison.info,
    }


if __name__ == "__main__":
    sys.exit(main())
