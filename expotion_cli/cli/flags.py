"""Flags that several commands share, as a recipe takes them."""

from __future__ import annotations

from typing import Any


def given(value: Any) -> Any:
    """A flag's value, or `UNSET` where it was left out."""
    from expotion_cli.recipe import UNSET

    return UNSET if value is None else value


def seed(text: str | None) -> Any:
    """`--seed`: a number, or a policy in words."""
    return int(text) if text is not None and text.lstrip("-").isdecimal() else given(text)


def streams(text: str | None) -> Any:
    """`--streams`: names with commas between them, or none."""
    if text is None:
        return given(None)
    names = [name.strip() for name in text.split(",") if name.strip()]
    return () if names == ["none"] else names
