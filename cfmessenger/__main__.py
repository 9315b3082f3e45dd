"""`python -m cfmessenger`: the same command as the `cfmessenger` script."""

from cfmessenger.cli import main

if __name__ == "__main__":
    main()
