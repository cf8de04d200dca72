"""Finds the folders that ship with the program: `models/` and `recipes/`.

In a wheel they are the packages `expotion_cli.models` and `expotion_cli.recipes`; in an editable install or a raw
checkout they stand beside `expotion_cli/`.
"""

from __future__ import annotations

from pathlib import Path

from expotion_cli.errors import EnvironmentProblem

_PACKAGE = Path(__file__).resolve().parent


def shipped_folder(name: str) -> Path:
    """The folder `models` or `recipes`.

    Raises:
        EnvironmentProblem: the installation lacks it.
    """
    for folder in (_PACKAGE / name, _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise EnvironmentProblem(
        f"The shipped folder {name!r} is missing.", path=_PACKAGE, remedy="Install the package again."
    )
