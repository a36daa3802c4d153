"""`make bench-cascade`: the claims in tables and with a learned model, and in the cpu tier the speed of the grid."""

from __future__ import annotations

import sys

from benchmarks.cascade import rooms, speed, tabular


def main() -> int:
    """Run what the tier has; 0 if all of it holds."""
    codes = [tabular.main(sys.argv[1:]), rooms.main(sys.argv[1:])]
    if "smoke" not in sys.argv:
        codes.append(speed.main([]))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
