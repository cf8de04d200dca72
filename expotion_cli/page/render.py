"""Templates made into pages: one HTML file with style and script inside, whatever it shows escaped."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from expotion_cli.errors import writing
from expotion_cli.storage import write_bytes

TEMPLATES = Path(__file__).resolve().parent / "templates"


def render(template: str, values: Mapping[str, Any]) -> str:
    """A page's HTML.

    Args:
        template: a file's name in `templates/`.
        values: what the template shows; strings are escaped, lone surrogates may be among them.
    """
    return _environment().get_template(template).render(values)


def write_page(path: str | Path, template: str, values: Mapping[str, Any]) -> Path:
    """Write a page; returns its path.

    Args:
        path: of the file.
        template: see `render`.
        values: see `render`.

    Raises:
        OutputError: it can't be written.
    """
    path, text = Path(path), render(template, values)
    with writing(path, "the page"):
        write_bytes(path, text.encode("utf-8", "replace"))
    return path


def link(path: str | Path, folder: str | Path) -> str:
    """A file's address relative to a page's folder; any byte a name may hold is quoted.

    Args:
        path: of the file.
        folder: of the page.
    """
    try:
        return quote(os.fsencode(os.path.relpath(path, folder)).replace(os.sep.encode(), b"/"))
    except ValueError:  # on another drive
        return Path(path).absolute().as_uri()


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["sentence"] = lambda text: text[:1].upper() + text[1:]
    made.globals["source"] = _source
    made.globals["script_policy"] = _script_policy
    return made


def _source(name: str) -> Markup:
    """A style sheet or script of ours, which stands in the page as it is."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _script_policy(name: str) -> str:
    """The content security policy of a page that runs this script of ours and nothing else."""
    digest = base64.b64encode(hashlib.sha256(_source(name).encode()).digest()).decode()
    return (
        "default-src 'none'; img-src data: file: 'self'; media-src file: 'self'; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )
