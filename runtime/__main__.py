"""`python -m superstep.runtime` is the same as the console script `runtime`."""

from __future__ import annotations

import sys

from superstep.runtime.cli import main

if __name__ == "__main__":
    sys.exit(main())
