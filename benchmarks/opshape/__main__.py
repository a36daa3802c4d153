"""`make bench-opshape`: the claims, and in the cpu tier parity and speed next to the peers that are installed."""

from __future__ import annotations

import sys

from benchmarks.opshape import claims, parity, speed


def main() -> int:
    """Run what the tier has; 0 if all of it holds."""
    codes = [claims.main(sys.argv[1:])]
    if "smoke" not in sys.argv:
        codes += [parity.main([]), speed.main([])]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
