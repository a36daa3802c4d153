"""Every package's demo, one after the other, into one folder.

    python tools/demo.py --out demo            all of them
    python tools/demo.py --out demo otr        one

Each package brings its own as `<command> demo --out FOLDER`; a new package adds a line to DEMOS.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

#: Package's folder -> the command whose `demo` fills the folder of that name below --out.
DEMOS = {
    "minimax": "minimax-ued",
    "policy-finetune": "policy-finetune",
    "otr": "otr",
    "opshape": "opshape",
    "cascade": "cascade-explore",
    "exploration": "generalized-exploration",
    "llm-probes": "llm-probes",
    "hgap": "hgap",
}
#: Figures listed for each demo at the end; the others are next to them.
LISTED = 4


def main() -> int:
    """Run the demos and say where their figures are."""
    parser = argparse.ArgumentParser(description="Run the packages' demos.")
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help=f"of {', '.join(DEMOS)}; none given: all")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="where the figures go")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.packages if name not in DEMOS]
    if unknown:
        print(f"demo: there is no demo of {', '.join(unknown)}; there are {', '.join(DEMOS)}", file=sys.stderr)
        return 2
    start = time.monotonic()
    figures: list[Path] = []
    for name in arguments.packages or DEMOS:
        print(f"\n=== {name}", flush=True)
        out = arguments.out / DEMOS[name]
        program = Path(sys.executable).with_name(DEMOS[name])
        code = subprocess.run([program, "demo", "--out", out], check=False).returncode
        if code:
            print(f"demo: {name} ended with {code}", file=sys.stderr)
            return code
        found = sorted((p for suffix in ("gif", "png") for p in out.rglob(f"*.{suffix}")), key=lambda p: len(p.parts))
        figures += found[:LISTED]
    print(f"\nThe demo took {(time.monotonic() - start) / 60:.1f} minutes. Look at:")
    for file in figures:
        print(f"  {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
