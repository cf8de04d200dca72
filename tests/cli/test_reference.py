"""Every command and every flag stands in the documentation, as `--help` has it."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from expotion_cli.cli import reference
from expotion_cli.cli.app import app

OF_TYPER = {"--help", "--install-completion", "--show-completion"}


@pytest.fixture(scope="module")
def sections(request) -> dict[str, str]:
    """The parts of the page by command."""
    page = (request.config.rootpath / "docs" / "commands.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)\n", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_page_says_what_the_help_says(repository):
    page = (repository / "docs" / "commands.md").read_text(encoding="utf-8")
    assert page == reference.page(), "run: python -m expotion_cli.cli.reference > docs/commands.md"


@pytest.mark.parametrize("path", [path for path, _ in reference.commands()], ids=" ".join)
def test_every_flag_of_the_help_stands_on_the_page(sections, path):
    done = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    shown = set(re.findall(r"^\W*(?:-\w,? +)?(--[a-z][\w-]+)", done.stdout, re.MULTILINE)) - OF_TYPER
    section = sections[f"expotion {' '.join(path)}"]
    assert done.exit_code == 0 and shown - set(re.findall(r"--[a-z][\w-]+", section)) == set()


def test_flags_were_found(sections):
    assert len(re.findall(r"^\| `--", "".join(sections.values()), re.MULTILINE)) > 150
    assert "`--recipe`" in sections["expotion score"] and "`--max-size`" in sections["expotion cache prune"]
