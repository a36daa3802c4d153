"""Every package's demo, one after the other, into one folder.

    python tools/demo.py --out demo

Each package brings its own as `<command> demo --out FOLDER`; a new package adds a line to DEMOS.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

#: Folder below --out -> the command that fills it.
DEMOS = {
    "minimax-ued": ["minimax-ued", "demo"],
    "policy-finetune": ["policy-finetune", "demo"],
    "otr": ["otr", "demo"],
}


def main() -> int:
    """Run the demos and say where their figures are."""
    parser = argparse.ArgumentParser(description="Run every package's demo.")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="where the figures go")
    out = parser.parse_args().out
    start = time.monotonic()
    for name, command in DEMOS.items():
        program = Path(sys.executable).with_name(command[0])
        print(f"\n=== {name}", flush=True)
        code = subprocess.run([program, *command[1:], "--out", out / name], check=False).returncode
        if code:
            print(f"demo: {name} ended with {code}", file=sys.stderr)
            return code
    print(f"\nThe demo took {(time.monotonic() - start) / 60:.1f} minutes. Look at:")
    for file in sorted(p for suffix in ("png", "gif", "md") for p in out.rglob(f"*.{suffix}")):
        print(f"  {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
