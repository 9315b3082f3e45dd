"""`python -m tests.system.sim`: see `sweep`. Workers find it under its own name."""

import sys

from tests.system.sim.sweep import main

if __name__ == "__main__":
    sys.exit(main())
