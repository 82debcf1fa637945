"""`python -m loadstair.simserver`."""

import sys

from loadstair.simserver.main import main

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
