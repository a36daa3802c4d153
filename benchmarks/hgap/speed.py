"""How fast is a plan next to TAP's own planner at equal sizes, and next to the arithmetic? In turn, on one core.

    python -m benchmarks.hgap.speed                # both sizes, an hour's patience on a busy machine
    python -m benchmarks.hgap.speed --only small --rounds 3

TAP (`ZhengyaoJiang/latentplan`, unchanged, peers.md) searches beams: 64 of 4 expansions, 5 codes, 15 steps, and decodes
256 prefixes anew at each code. Ours draws 256 plans of as many codes and steps and decodes them once. Both compare 256
complete plans of 224 state and 56 action numbers, with decoders and priors of about as many parameters. Floors are the
products that a plan or an update cannot do without, at the rate of products measured in the same rounds: for a plan, 2
FLOP for each weight of the prior and each code of each row, and of the decoder and each step of each row; for
an update 6 FLOP for each weight of the autoencoder and each step of each window.

The claim: at least 4 times as many plans per second of processor time. Batched planning for 120 environments and
training windows a second are reported without one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.harness import ChildProcess, Json, alternate, record, table, write_result

__all__ = ["main"]

CLAIM = 4.0
SCRIPT = "benchmarks/peers/hgap_tap.py"
PLANS, STEPS, CODES, WINDOW = 256, 15, 5, 15
PARTS = ("plans", "windows", "batch")
#: Size -> repetitions in a trial: of TAP's plans, ours, updates, plans of 120 environments, products.
COUNTS = {"small": (2, 10, 3, 1, 2000), "reference": (1, 2, 1, 1, 200)}


def measure(size: str, rounds: int, parts: Sequence[str]) -> Json:
    """Return rates, floors and ratios of one size."""
    theirs, mine, updates, many, products = COUNTS[size]

    def child(name: str, who: str, what: str, count: int) -> ChildProcess:
        source = {"peer": "latentplan", "source": "checkout"} if who == "tap" else {}
        return ChildProcess(name, [SCRIPT, who, what, size, str(count)], cores=[0], **source)

    contestants = [child("floor", "floor", "products", products)]
    if "plans" in parts:
        contestants += [child("tap plans", "tap", "plan", theirs), child("plans", "hgap", "plan", mine)]
        contestants.append(child("plans of 64", "hgap", "plan64", mine))
    if "windows" in parts:
        contestants += [child("tap windows", "tap", "train", updates), child("windows", "hgap", "train", updates)]
    if "batch" in parts:
        contestants.append(child("plans for 120", "hgap", "plan120", many))
    comparison, _ = alternate(contestants, rounds)
    gflops = comparison.rate("floor", "cpu_s")
    count = comparison.info[next(name for name in comparison.info if name in ("plans", "windows", "plans for 120"))]
    plan = 2e-9 * PLANS * (CODES * count["prior"] + STEPS * count["decoder"])
    update = 6e-9 * WINDOW * count["autoencoder"]
    found: Json = {
        "gflops": gflops,
        "skipped": comparison.skipped,
        "parameters": {n: {k: v for k, v in i.items() if type(v) is int} for n, i in comparison.info.items()},
        "milliseconds": {n: 1e3 / comparison.rate(n, "cpu_s") for n in comparison.trials if "plans" in n},
        "windows_per_second": {n: comparison.rate(n, "cpu_s") for n in comparison.trials if "windows" in n},
        "floor": {"plan_ms": 1e3 * plan / gflops, "windows_per_second": gflops / update},
        "trials": comparison.trials,
    }  # fmt: skip
    if "tap plans" in comparison.trials:
        ratio = comparison.ratio("plans", "tap plans", "cpu_s")
        found |= {"ratio": str(ratio), "holds": ratio.median >= CLAIM}
        found["ratio_of_64"] = str(comparison.ratio("plans of 64", "tap plans", "cpu_s"))
    if "tap windows" in comparison.trials:
        found["windows_ratio"] = str(comparison.ratio("windows", "tap windows", "cpu_s"))
    return found


def main(argv: list[str] | None = None) -> int:
    """Measure and write the result; 0 if the ratio is at least what is claimed wherever TAP is installed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hgap.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=sorted(COUNTS), default=sorted(COUNTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    args = parser.parse_args(argv)
    results = {size: measure(size, args.rounds, args.parts) for size in args.only}
    rows = []
    for size, found in results.items():
        for name, value in found["milliseconds"].items():
            rows.append([size, name, f"{value:.1f} ms each", f"{found['floor']['plan_ms']:.1f} ms"])
        for name, value in found["windows_per_second"].items():
            rows.append([size, name, f"{value:.0f} / s", f"{found['floor']['windows_per_second']:.0f} / s"])
        rows.append([size, "ratio of plans", found.get("ratio", "-"), f"claimed {CLAIM}"])
        rows.append([size, "ratio of plans of 64", found.get("ratio_of_64", "-"), ""])
    print(table(rows, ["size", "what", "processor time", "floor of ours"]))
    origin = record("benchmarks.hgap.speed", sys.argv[1:] if argv is None else argv, ["jax", "hgap"])
    chosen = [*([] if len(results) == len(COUNTS) else results), *([] if len(args.parts) == len(PARTS) else args.parts)]
    part = "".join(f"-{name}" for name in chosen)
    write_result(f"hgap_speed{part}", {"record": origin, "sizes": results})
    return 0 if all(found.get("holds", True) for found in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
