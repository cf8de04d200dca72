"""`python -m expotion_cli.cli`: the command `expotion`, for launchers that start modules."""

from __future__ import annotations

from expotion_cli.cli import main

if __name__ == "__main__":
    main()
