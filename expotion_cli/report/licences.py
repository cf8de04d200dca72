"""Under which licences a result stands: its model's, its adapter's and its soundfont's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from expotion_cli.report.facts import Facts
from expotion_cli.weights.manifest import Manifest

NOT_STATED = "not stated"
OWN = "(its own)"
"""How a sidecar marks the adapter that comes with a model."""
_NO_SALE = re.compile(r"\bNC\b|non-?commercial|no commercial", re.IGNORECASE)
_VAGUE = ("", NOT_STATED, "as its source states")


@dataclass(frozen=True)
class Part:
    """Something that a result was made with.

    Attributes:
        kind: "model", "adapter" or "soundfont".
        name: what the sidecar calls it; empty where the result has none.
        licence: its licence, or `NOT_STATED`; empty where the result has none.
    """

    kind: str
    name: str
    licence: str

    @property
    def verdict(self) -> str:
        """Commercial use: "no" where it is forbidden, "check" where the licence says nothing we know, else empty."""
        if not self.name:
            return ""
        if forbids_sale(self.licence):
            return "no"
        return "check" if self.licence in _VAGUE else ""


def forbids_sale(licence: str) -> bool:
    """Whether a licence forbids commercial use, by its words."""
    return _NO_SALE.search(licence) is not None


def parts(facts: Facts, manifests: Mapping[str, Manifest]) -> tuple[Part, Part, Part]:
    """The model, the adapter and the soundfont of a result.

    Args:
        facts: its sidecar.
        manifests: what is known of models and soundfonts.
    """
    model, soundfont = facts.table("model"), facts.table("soundfont")
    licence = model.text("licence")
    known = manifests.get(model.text("name"))
    if licence in _VAGUE and known is not None:
        licence = known.licence
    adapter = facts.text("adapter")
    own = all(name.endswith(OWN) for name in adapter.split(" + "))
    adapted = (licence if own else NOT_STATED) if adapter else ""
    font = soundfont.text("file")
    return (
        Part("model", model.text("name"), licence or NOT_STATED),
        Part("adapter", adapter, adapted),
        Part("soundfont", font, _of_font(soundfont.text("sha256"), manifests) if font else ""),
    )


def _of_font(sha256: str, manifests: Mapping[str, Manifest]) -> str:
    """By its content: another file may have the same name."""
    for manifest in manifests.values():
        if any(file.sha256 == sha256 and PurePath(file.name).suffix in (".sf2", ".sf3") for file in manifest.files):
            return manifest.licence
    return NOT_STATED
