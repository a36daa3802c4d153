"""`make bench-exploration`: supervised claims, growth and levels; in the cpu tier also speed next to jaxued."""

from __future__ import annotations

import sys

from benchmarks.exploration import growth, levels, speed, supervised


def main() -> int:
    """Run what the tier has; 0 if all of it holds."""
    arguments = sys.argv[1:]
    codes = [part.main(arguments) for part in (supervised, growth, levels)]
    if "smoke" not in arguments:
        codes.append(speed.main([]))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
