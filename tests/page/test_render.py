"""What all pages share: escaping, addresses, the policy that lets one script run."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from urllib.parse import unquote_to_bytes

import pytest
from jinja2 import UndefinedError

from expotion_cli.errors import OutputError
from expotion_cli.page import render


def test_addresses_hold_any_byte_that_a_name_may_hold(tmp_path):
    name = 'a#b?c%d <"é>' + os.fsdecode(b"\xff\x0a") + ".mp4"
    address = render.link(tmp_path / "sub" / name, tmp_path)
    assert re.fullmatch(r"[\w./%~-]+", address, re.ASCII)
    assert unquote_to_bytes(address) == b"sub/" + os.fsencode(name)
    assert render.link(tmp_path / "one.mp4", tmp_path / "pages") == "../one.mp4"


def test_a_value_that_a_template_lacks_is_an_error_not_an_empty_place():
    with pytest.raises(UndefinedError):
        render.render("evaluation.html", {"title": "x"})


def test_the_policy_names_the_digest_of_the_script_that_the_page_holds():
    template = "{% extends 'base.html' %}{% block body %}<script>{{ source('report.js') }}</script>{% endblock %}"
    page = render._environment().from_string(template).render(title="x")
    (script,) = re.findall(r"<script>(.*)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in render._script_policy("report.js") and "default-src 'none'" in render._script_policy(
        "report.js"
    )


def test_a_page_that_can_not_be_written_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").touch()
    values = {"title": "x", "folder": "x", "composed": "", "cues": [], "left_out": [], "forbidden": 0, "unclear": 0}
    with pytest.raises(OutputError, match="cue.html"):
        render.write_page(tmp_path / "file" / "cue.html", "cuesheet.html", {**values, "version": "1"})
