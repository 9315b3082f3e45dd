"""`python -m tests.sim`: see `sweep`. Workers must find it under its own name."""

import sys

from tests.sim.sweep import main

if __name__ == "__main__":
    sys.exit(main())
