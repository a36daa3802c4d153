"""`make bench-hgap`: the claims."""

from __future__ import annotations

import sys

from benchmarks.hgap import claims

if __name__ == "__main__":
    sys.exit(claims.main())
