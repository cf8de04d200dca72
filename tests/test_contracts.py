"""What must stay true of the package as a whole."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from expotion_cli import errors
from expotion_cli.assets import shipped_folder
from expotion_cli.recipe import load_recipe, recipe_names
from expotion_cli.storage import digest_file
from expotion_cli.weights.manifest import is_commit, read_manifests, weights_folder

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "expotion_cli"

FLOORS = (
    {"errors", "processes", "version"},
    {"assets", "storage", "timing", "declare", "tags", "keys", "vocabulary", "spans"},
    {"compose", "audio", "hints", "page", "phrases", "timed_prompts", "recipe_files", "timeline"},
    {"recipe", "prompt_reader"},
    {"media", "weights", "prompts"},
    {"brief"},
    {"vision", "demo"},
    {"spotting", "speech", "tagging"},
    {"music"},
    {"scoring"},
    {"evaluation", "inspection", "regression", "report", "training"},
    {"cli"},
)
"""Rooms from the ground up: each imports from the floors below it, and from no other room of its own floor."""
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
HEAVY = {"torch", "torchvision", "transformers", "mediapipe", "cv2", "av", "symusic", "facenet_pytorch"}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent != PACKAGE)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_name(path: Path) -> str:
    """The dotted name of a module's file."""
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in [*modules(), PACKAGE / "__init__.py"]}


def imported_modules(path: Path) -> set[str]:
    """Modules of this package that a module imports anywhere in its code, for annotations included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else node.module for name in whole]
        found |= {name for name in names if name in MODULES}
    return found - {module_name(path)}


def imported_rooms(path: Path) -> set[str]:
    """Rooms of this package that a module imports."""
    return {name.split(".")[1] for name in imported_modules(path) if "." in name}


def test_every_module_has_its_floor():
    assert {room_of(path) for path in modules()} == set(FLOOR_OF)
    assert sum(map(len, FLOORS)) == len(FLOOR_OF), "a room stands on two floors"


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_downward_only(path):
    here = room_of(path)
    for room in imported_rooms(path) - {here}:
        assert FLOOR_OF[room] < FLOOR_OF[here], f"{here} (floor {FLOOR_OF[here]}) imports {room} ({FLOOR_OF[room]})"


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: imported_modules(path) for name, path in MODULES.items()}
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for other in sorted(graph[name]):
                walk(other, (*trail, name))
            done.add(name)

    for name in graph:
        walk(name, ())


def test_vision_and_music_never_import_each_other():
    for path in modules():
        other = {"vision": "music", "music": "vision"}.get(room_of(path))
        assert other is None or other not in imported_rooms(path), path


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_file_grows_beyond_measure(path):
    assert len(path.read_text().splitlines()) <= 420


def test_errors_form_one_tree_that_the_module_draws():
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    for error in classes:
        assert issubclass(error, errors.ExpotionError) and error.__name__ in errors.__doc__
    codes = {error.__name__: error.exit_code for error in classes}
    assert (codes["UsageError"], codes["EnvironmentProblem"], codes["Interrupted"]) == (2, 4, 130)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("expotion_cli.scoring.ladder", "see spot compose_request render finish"),
        ("expotion_cli.scoring.streams", "choose_streams streams_for needs_of needs_ahead"),
        ("expotion_cli.scoring.api", "score_clip score_folder"),
        ("expotion_cli.scoring.group", "compose Order ComposedCue"),
        ("expotion_cli.scoring.batch", "run"),
        ("expotion_cli.scoring.account", "Listener Summary artefact_digests"),
        ("expotion_cli.scoring.plan", "plan Settings Plan Job Result"),
        ("expotion_cli.recipe", "load_recipe recipe_names Recipe UNSET"),
        ("expotion_cli.scoring.discover", "discover Source"),
        ("expotion_cli.music.model", "Model"),
        ("expotion_cli.music.load", "load_model"),
        ("expotion_cli.music.generate.engine", "Engine"),
        ("expotion_cli.music.request", "CueRequest"),
        ("expotion_cli.vision.streams", "encode_clip available_encoders"),
        ("expotion_cli.media.probe", "probe"),
        ("expotion_cli.media.clip", "ClipInfo output_suffix"),
        ("expotion_cli.media.remux", "remux"),
        ("expotion_cli.media.mix", "mix"),
        ("expotion_cli.media.loudness", "measure Loudness"),
        ("expotion_cli.tagging.tagger", "Tagger Heard style style_ratio"),
    ],
)
def test_exported_names_are_there_and_documented(module, names):
    loaded = importlib.import_module(module)
    for name in names.split():
        assert hasattr(loaded, name), name
        assert name == "UNSET" or getattr(loaded, name).__doc__, f"{name} has no docstring"


def test_every_manifest_loads_with_a_licence_and_the_files_that_ship_are_whole():
    manifests = read_manifests()
    encoders = {"facenet", "flow", "mediapipe-face", "mediapipe-pose", "mediapipe-pose-full", "mediapipe-pose-heavy"}
    sizes = {
        f"musicgen-{side}{size}"
        for side in ("", "stereo-")
        for size in ("small", "medium", "large", "melody", "melody-large")
    }
    shipped = {"expotion-mini", "fluidr3mono", "musicnn", "silero-vad"}
    assert manifests.keys() == shipped | {"ace-step-1.5-xl-turbo", "raft", "synchformer"} | encoders | sizes
    assert {manifest.kind for manifest in manifests.values()} == {"music", "encoder", "tagger", "speech", "soundfont"}
    for manifest in manifests.values():
        assert manifest.licence and manifest.title and (manifest.files or manifest.name == "flow")
        assert bool(manifest.streams) == (manifest.kind == "encoder")
        assert (shipped_folder("models") / f"{manifest.name}.md").is_file(), f"{manifest.name} has no card"
        for file in manifest.files if manifest.ships else ():
            assert file.path.stat().st_size == file.num_bytes and digest_file(file.path) == file.sha256


def test_every_model_on_the_hub_states_where_it_is_and_what_it_needs():
    fetched = [manifest for manifest in read_manifests().values() if manifest.repo]
    sizes = ("small", "medium", "large", "stereo-small", "stereo-medium", "stereo-large")
    assert {manifest.repo for manifest in fetched} >= {f"facebook/musicgen-{size}" for size in sizes}
    for manifest in fetched:
        names = {file.name for file in manifest.files}
        assert {Path(name).name for name in names} >= {"config.json", "tokenizer.json"}
        assert manifest.revision and manifest.about_bytes > 1e9
        assert {Path(name).suffix for name in names} == {".json", ".safetensors"}, "no pickle is ever fetched"
        assert manifest.folder == weights_folder() / manifest.name
        assert manifest.restricted == ("no commercial use" in manifest.licence)
        pinned = [file.sha256 for file in manifest.files if file.sha256]
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in pinned)
        assert is_commit(manifest.revision) or not pinned, "a digest without a commit will stop fitting"


def test_recipes_and_models_hold_data_never_code():
    for folder in ("models", "recipes"):
        root = shipped_folder(folder)
        assert not [path for path in root.rglob("*") if path.suffix in (".py", ".pkl", ".pt", ".bin")]
    for path in (shipped_folder("recipes")).rglob("*.toml"):
        tomllib.loads(path.read_text(encoding="utf-8"))
    assert all(load_recipe(name) for name in recipe_names())


def commands() -> list[list[str]]:
    """Every command of `expotion`, subcommands included."""
    from typer.main import get_command

    from expotion_cli.cli.app import app

    found: list[list[str]] = []

    def walk(command, path):
        for name, child in getattr(command, "commands", {}).items():
            found.append([*path, name])
            walk(child, [*path, name])

    walk(get_command(app), [])
    return found


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_has_help_and_stands_in_the_readme(command):
    from typer.testing import CliRunner

    from expotion_cli.cli.app import app

    done = CliRunner().invoke(app, [*command, "--help"])
    assert done.exit_code == 0 and len(done.stdout) > 200
    assert CliRunner().invoke(app, [*command, "-h"]).stdout == done.stdout
    assert f"expotion {' '.join(command)}" in (REPOSITORY / "README.md").read_text()


def test_every_flag_of_the_main_job_stands_in_the_readme():
    from typer.main import get_command

    from expotion_cli.cli.app import app

    readme = (REPOSITORY / "README.md").read_text()
    flags = [option for param in get_command(app).commands["score"].params for option in param.opts]
    missing = [flag for flag in flags if flag.startswith("--") and flag != "--help" and flag not in readme]
    assert len(flags) > 25 and not missing


def test_help_and_the_bare_package_import_nothing_heavy():
    code = (
        "import json, sys, expotion_cli\n"
        "from typer.testing import CliRunner\n"
        "from expotion_cli.cli.app import app\n"
        "assert CliRunner().invoke(app, ['score', '--help']).exit_code == 0\n"
        f"print(json.dumps(sorted(set(sys.modules) & {HEAVY!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_no_absolute_paths_of_a_machine_stand_in_the_repository():
    pattern = re.compile(r"(?<![\w.])/(?:home|root|Users|work|mnt|opt)/\w")
    suffixes = {".py", ".toml", ".md", ".json", ".yaml", ".cfg", ""}
    skipped = {".git", "build", "dist", "__pycache__", ".venv"}
    for path in REPOSITORY.rglob("*"):
        parts = path.relative_to(REPOSITORY).parts
        if not path.is_file() or path.suffix not in suffixes or skipped & set(parts) or path == Path(__file__):
            continue
        if any(part.endswith((".egg-info", "_cache")) for part in parts):
            continue
        found = pattern.search(path.read_text(encoding="utf-8", errors="ignore"))
        assert found is None, f"{path}: {found.group()}"


def test_every_module_that_is_named_in_code_docs_or_settings_is_there():
    """Also in strings that are run, patched or shown, which nothing else would miss after a move."""
    pattern = re.compile(r"\bexpotion_cli((?:[./]\w+)+)")
    folders = ("expotion_cli", "tests", "benchmarks", "docs", "models", "recipes")
    files = [path for folder in folders for path in (REPOSITORY / folder).rglob("*") if path.suffix in (".py", ".md")]
    named: dict[tuple[str, ...], Path] = {}
    for path in (*files, REPOSITORY / "README.md", REPOSITORY / "pyproject.toml"):
        for found in pattern.findall(path.read_text(encoding="utf-8")):
            named.setdefault(tuple(found.removesuffix(".py").replace("/", ".").split(".")[1:]), path)
    assert len(named) > 100
    for parts, path in named.items():
        place, rest = PACKAGE, list(parts)
        while rest and (place / rest[0]).is_dir():
            place /= rest.pop(0)
        is_module = bool(rest) and (place / f"{rest[0]}.py").is_file()
        data = parts[0] in ("models", "recipes", "data")
        if len(parts) > 1 and not (is_module or data or not rest):  # names of the package itself: test_public_api.py
            package = importlib.import_module(module_name(place / "__init__.py"))
            assert hasattr(package, rest[0]), f"{path}: expotion_cli.{'.'.join(parts)}"


def test_the_readme_begins_with_the_main_job_and_says_how_to_test():
    readme = (REPOSITORY / "README.md").read_text()
    first, second = re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)[:2]
    assert first.splitlines() == ["pip install .", "expotion demo clips", "expotion-score clips --recipe cinematic"]
    assert "[test]" in second and "pytest" in second
    assert f"<!-- test -->\n```sh\n{second}```" in readme, ".ci/run finds the test command by this mark"


def test_every_page_is_linked_from_the_readme_and_links_lead_somewhere():
    pages = sorted((REPOSITORY / "docs").glob("*.md"))
    readme = (REPOSITORY / "README.md").read_text()
    assert [page.name for page in pages if f"](docs/{page.name})" not in readme] == []
    for page in (REPOSITORY / "README.md", *pages):
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_architecture_page_names_what_exists():
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")

    def place(path: str) -> Path | None:
        return next((root / path for root in (PACKAGE, REPOSITORY) if (root / path).exists()), None)

    named = re.findall(r"`((?:[\w-]+/)*[\w-]+\.(?:py|toml|md|jsonl?))(?::(\w+))?`", page)
    assert len(named) > 80
    for path, name in named:
        if path in ("NAME.toml", "NAME.md", "ledger.jsonl"):
            continue
        assert place(path), f"docs/architecture.md names {path}, which does not exist"
        defined = rf"^\s*(?:def|class) {name}\b|^\s*{name}\s*(?::[^=\n]+)?="
        assert not name or re.search(defined, place(path).read_text(), re.MULTILINE), f"{path} defines no {name}"
    for dotted in re.findall(r"`(expotion_cli(?:\.\w+)+)`", page):
        assert dotted in MODULES or place(dotted.partition(".")[2].replace(".", "/")), f"there is no {dotted}"
    rows = re.findall(r"^\| `([\w/]+)/` \| ([\w, ]+) \|", page, re.MULTILINE)
    assert len(rows) > 15
    for folder, names in rows:
        for name in names.split(", ") if names != "data" else ():
            root = PACKAGE if folder == "expotion_cli" else PACKAGE / folder
            assert (root / f"{name}.py").is_file(), f"docs/architecture.md lists {folder}/{name}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The package as it would be published, built from a copy so that the checkout stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info")
    for name in ("expotion_cli", "models", "recipes"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_every_module_and_all_data(wheel):
    inside = set(wheel.namelist())
    wanted = {path.relative_to(REPOSITORY).as_posix() for path in PACKAGE.rglob("*.py")}
    wanted |= {f"expotion_cli/{p.relative_to(REPOSITORY).as_posix()}" for p in _data("models") + _data("recipes")}
    for folder in ("expotion_cli/data", "expotion_cli/page/templates"):
        wanted |= {path.relative_to(REPOSITORY).as_posix() for path in _data(folder)}
    assert not wanted - inside
    assert not [name for name in inside if name.startswith("tests/") or "/tests/" in name]


def test_the_wheel_states_its_commands_and_requirements(wheel):
    text = {Path(name).name: wheel.read(name).decode() for name in wheel.namelist() if ".dist-info/" in name}
    assert "expotion-score = expotion_cli.cli:score_main" in text["entry_points.txt"]
    assert "expotion = expotion_cli.cli:main" in text["entry_points.txt"]
    assert "Requires-Python: >=3.11" in text["METADATA"]
    assert re.search(r"Requires-Dist: torch>=2\.11$", text["METADATA"], re.MULTILINE)


def test_the_published_requirements_are_the_projects_own_and_no_groups(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    published = re.findall(r"^Requires-Dist: ([\w.-]+)", wheel.read(name).decode(), re.MULTILINE)
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    project = settings["project"]
    stated = sum(project["optional-dependencies"].values(), project["dependencies"])
    assert sorted(published) == sorted(re.match(r"[\w.-]+", line)[0] for line in stated)
    (stand_in,) = settings["tool"]["uv"]["dependency-metadata"]
    assert settings["dependency-groups"]["audiocraft"] == [f"{stand_in['name']}=={stand_in['version']}"]
    assert not {"audiocraft", "torchaudio", "xformers"} & set(published)


def test_an_unpacked_wheel_finds_its_models_and_recipes(wheel, tmp_path):
    wheel.extractall(tmp_path)
    code = (
        "from expotion_cli.recipe import load_recipe; from expotion_cli.weights.manifest import read_manifests\n"
        "import expotion_cli\n"
        "print(load_recipe('cinematic').path, expotion_cli.__file__)\n"
        "assert read_manifests()"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert all(str(tmp_path) in path for path in done.stdout.split())


def _data(folder: str) -> list[Path]:
    files = [path for path in (REPOSITORY / folder).rglob("*") if path.is_file()]
    return [path for path in files if "__pycache__" not in path.parts]
