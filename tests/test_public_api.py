"""The public Python API: what `import expotion_cli` exports, and the examples in its docstrings."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys

import pytest

import expotion_cli
from expotion_cli import _EXPORTS

WITH_EXAMPLE = ("load_model", "load_recipe", "probe", "score_clip", "score_folder", "see", "spot")


def test_every_export_is_declared_once_and_is_there():
    assert sorted(expotion_cli.__all__) == sorted(["__version__", *_EXPORTS]) and set(expotion_cli.__all__) <= set(
        dir(expotion_cli)
    )
    for name, module in _EXPORTS.items():
        value = getattr(expotion_cli, name)
        assert value.__module__ == f"expotion_cli.{module}" and value.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        expotion_cli.nothing  # noqa: B018


def test_exported_functions_are_typed():
    for name in expotion_cli.__all__:
        value = getattr(expotion_cli, name)
        if inspect.isfunction(value):
            signature = inspect.signature(value)
            kinds = [parameter.annotation for parameter in signature.parameters.values()] + [
                signature.return_annotation
            ]
            assert inspect.Signature.empty not in kinds and "Any" not in kinds, name


def test_importing_the_package_imports_nothing_else_of_it(repository):
    code = "import sys, expotion_cli; print([name for name in sys.modules if name.startswith('expotion_cli.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=repository, check=True)
    assert done.stdout.strip() == "['expotion_cli.version']"


@pytest.mark.long
@pytest.mark.parametrize("name", WITH_EXAMPLE)
def test_the_example_in_the_docstring_runs(name, make_video, tmp_path, monkeypatch):
    make_video(tmp_path / "clip.mp4", duration_s=2.0)
    make_video(tmp_path / "clips" / "clip.mp4", duration_s=2.0)
    monkeypatch.chdir(tmp_path)
    value = getattr(expotion_cli, name)
    (example,) = doctest.DocTestFinder(recurse=False).find(value, name, globs={})
    assert example.examples, "a runnable example"
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example)
    assert (result.failed, result.attempted) == (0, len(example.examples))
