"""`python -m loadstair`."""

from loadstair.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
