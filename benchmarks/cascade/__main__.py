"""`make bench-cascade`: the claims in tables."""

from __future__ import annotations

import sys

from benchmarks.cascade import tabular


def main() -> int:
    """Run what the tier has; 0 if all of it holds."""
    return tabular.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
