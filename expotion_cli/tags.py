"""The 50 tags that the tagger (`tagging`) knows: MagnaTagATune's most frequent, in the order of its outputs."""

from __future__ import annotations

import re

TAGS: tuple[str, ...] = (
    "guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano",
    "ambient", "beat", "violin", "vocal", "synth", "female", "indian", "opera", "male", "singing",
    "vocals", "no vocals", "harpsichord", "loud", "quiet", "flute", "woman", "male vocal", "no vocal", "pop",
    "soft", "sitar", "solo", "man", "classic", "choir", "voice", "new age", "dance", "male voice",
    "female vocal", "beats", "harp", "cello", "no voice", "weird", "country", "metal", "female voice", "choral",
)  # fmt: skip
_ANY = "|".join(sorted(TAGS, key=len, reverse=True))
_NAMED = re.compile(rf"\b(?:(?P<tag>{_ANY})|(?:no|not|without)\s+(?:any\s+)?(?:{_ANY}))\b", re.IGNORECASE)


def tags_in(prompt: str) -> tuple[str, ...]:
    """The tags that a prompt names, as whole words; what it says it is without is left out."""
    found = [match["tag"].lower() for match in _NAMED.finditer(prompt) if match["tag"]]
    return tuple(dict.fromkeys(found))
