"""`make bench-llm-probes`: the claims of all three methods."""

from __future__ import annotations

import sys

from benchmarks.llm_probes import implicature, pcfg, rlhf, wrapped


def main() -> int:
    """Run what the tier has; 0 if all of it holds."""
    return max(module.main(sys.argv[1:]) for module in (wrapped, implicature, rlhf, pcfg))


if __name__ == "__main__":
    sys.exit(main())
