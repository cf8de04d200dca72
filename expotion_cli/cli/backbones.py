"""Which code runs the model, and what does not work with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from expotion_cli.cli.carry_out import AUDIOCRAFT, OWN_BACKBONE
from expotion_cli.cli.say import say_aside
from expotion_cli.errors import UsageError

if TYPE_CHECKING:
    from expotion_cli.recipe import Recipe

OWN_MODEL = "expotion-mini"


def choose_backbone(
    backbone: str, composer: Mapping[str, Any], recipe: Recipe, streams: str | None, *, quiet: bool
) -> tuple[dict[str, Any], Recipe]:
    """The arguments of `load_model` and the recipe, as this backbone takes them; says what ignores the picture.

    Args:
        backbone: as `--backbone` names it.
        composer: arguments of `music.load.load_model`.
        recipe: with all flags laid over it.
        streams: as `--streams` has them.
        quiet: tell nothing.

    Raises:
        UsageError: there is no such backbone, or a flag does not work with it.
    """
    if backbone == OWN_BACKBONE:
        adapters = [name for name in composer["adapter"] or [] if name != "none"]
        if adapters and recipe.generate.visual_guidance == 0 and not quiet:
            say_aside(
                "This recipe ignores the adapter (visual_guidance = 0). --visual-guidance 1.5 lets it steer the music."
            )
        return dict(composer), recipe
    flags = {
        "--adapter": composer["adapter"],
        "--soundfont": composer["soundfont"],
        "--streams": streams,
        "--melody": recipe.melody or None,
        "--negative-prompt": recipe.generate.negative_prompt or None,
    }
    _check(backbone, composer["name"], flags)
    from expotion_cli.recipe import NO_FOLLOW

    follows = recipe.follow.mode != NO_FOLLOW
    if not follows:
        recipe = recipe.override({"streams.use": ()}, source="--backbone")
    if not quiet:
        rest = "Only the follow layer follows the picture." if follows else "The picture is ignored."
        say_aside(f"audiocraft composes from the prompt alone. {rest}")
    return {**{key: composer[key] for key in ("name", "device", "dtype")}, "backbone": backbone}, recipe


def _check(backbone: str, model: str, flags: Mapping[str, Any]) -> None:
    """Refuse flags that do not work with audiocraft."""
    if backbone != AUDIOCRAFT:
        raise UsageError(f"--backbone {backbone!r} is unknown.", remedy=f"Use {OWN_BACKBONE} or {AUDIOCRAFT}.")
    for flag, value in flags.items():
        if value not in (None, "none", ["none"]):
            raise UsageError(f"{flag} does not work with audiocraft.", remedy=f"Leave {flag} or --backbone out.")
    if model == OWN_MODEL:
        raise UsageError(
            f"audiocraft does not run {model}.", remedy="Give --model FOLDER, a folder with audiocraft's files."
        )
