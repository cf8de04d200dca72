"""An evaluation from files: clips and outputs are found, read and measured; what can't be read is reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from expotion_cli.declare import nearest_hint
from expotion_cli.errors import ClipError, EnvironmentProblem, ExpotionError, UsageError
from expotion_cli.evaluation import measuring
from expotion_cli.evaluation.measuring import EvaluatedClip, MeasureOptions, OnStatus
from expotion_cli.evaluation.outputs import (
    FILE,
    MusicSet,
    Outputs,
    find_clips,
    find_outputs,
    known_prompts,
    no_matching_file,
    own_sound,
    read_cue,
    read_reference,
)
from expotion_cli.evaluation.results import GROUPS, Evaluation
from expotion_cli.media.sound import SOUND_SUFFIXES
from expotion_cli.scoring.guard import guard

if TYPE_CHECKING:
    from expotion_cli.media.clip import ClipInfo
    from expotion_cli.vision.cache import EmbeddingCache

OWN_SOUND = "own sound"
LATE_PICTURE_S = 0.02


@dataclass(frozen=True)
class Sources:
    """What to evaluate.

    Attributes:
        clips: files, folders or patterns.
        outputs: (name, folder) of each set; none to measure the clips' own sound.
        reference: name of one of the sets, or a folder of sound.
        prompts: a JSON file, or None to look for sidecars and `captions.json`.
        zero: what a sound file's first sample belongs to, see `outputs.read_cue`.
        motion: the embedding stream whose energy counts.
        common: only clips that all sets have.
    """

    clips: Sequence[str | Path]
    outputs: Sequence[tuple[str, Path]] = ()
    reference: str | None = None
    prompts: Path | None = None
    zero: str = FILE
    motion: str = "flow"
    common: bool = False


def evaluate_files(
    sources: Sources, options: MeasureOptions, *, cache: EmbeddingCache | None = None, on_status: OnStatus | None = None
) -> Evaluation:
    """Find and read clips and outputs, then measure them.

    Args:
        sources: what to evaluate.
        options: which measures, and how.
        cache: of embedding streams.
        on_status: called with a line of text at each step.

    Raises:
        UsageError: a set's folder, name or prompts are wrong, or the baseline or reference is not a set.
        ClipError: nothing of the baseline or the reference could be read.
    """
    on_status = on_status or (lambda text: None)
    check_options(options)
    _check_names(sources, options)
    infos, failures = probe_clips(sources.clips)
    if not infos:
        return nothing_measured(failures)
    captions = known_prompts(sources.prompts, measuring.input_folders(sources.clips))
    found = [find_outputs(name, folder, infos) for name, folder in sources.outputs]
    if not found:
        found = [own_sound(OWN_SOUND, infos)]
    notes = _together(found)
    for one, place in zip(found, [folder for _, folder in sources.outputs] or sources.clips, strict=False):
        if not one.files:
            failures.append(no_matching_file(place) if sources.outputs else _no_sound(place))
    wanted = {clip for one in found for clip in one.files}
    if sources.common:
        wanted = {clip for clip in wanted if all(clip in one.files for one in found if one.files)}
    clips: dict[str, EvaluatedClip] = {}
    for name in (name for name in infos if name in wanted):
        on_status(name)
        with guard(infos[name].path, failures.append, fatal=(UsageError, EnvironmentProblem)):
            clips[name] = measuring.prepare_clip(name, infos[name], stream=sources.motion, cache=cache)
    sets = []
    for one in found:
        folder = next((Path(folder) for name, folder in sources.outputs if name == one.name), None)
        own = {**captions, **(known_prompts(None, [folder]) if folder and sources.prompts is None else {})}
        made = read_set(one, clips, own, sources.zero, failures)
        if made.cues:
            sets.append(made)
    if not sets:
        return nothing_measured(failures, notes)
    if sources.zero == FILE and any(_starts_late(one, clips) for one in clips_with_sound_files(found)):
        notes.append(
            "the pictures of some clips begin later than their files: sound files are laid to the files' beginnings "
            "(--sound-starts picture lays them to the pictures')"
        )
    reference = _reference(sources, sets, infos, failures)
    if options.baseline is not None and options.baseline not in {one.name for one in sets}:
        raise ClipError(
            f"nothing of the baseline {options.baseline!r} could be read.", remedy="Choose another --baseline."
        )
    return measuring.evaluate(
        clips, sets, options, reference=reference, cache=cache, notes=notes, failures=failures, on_status=on_status
    )


def probe_clips(inputs: Sequence[str | Path]) -> tuple[dict[str, ClipInfo], list[ExpotionError]]:
    """The clips by name, and what could not be read."""
    from expotion_cli.media.probe import probe

    found, failures = find_clips(inputs)
    infos: dict[str, ClipInfo] = {}
    for name, source in found.items():
        with guard(source.path, failures.append):
            infos[name] = probe(source.path)
    return infos, failures


def nothing_measured(failures: Sequence[ExpotionError], notes: Sequence[str] = ()) -> Evaluation:
    """The evaluation of nothing at all: why there is none, and exit code 3."""
    said = tuple(failures) or (ClipError("there is nothing to measure.", remedy="Give clips and outputs."),)
    return Evaluation((), {}, {}, notes=tuple(notes), failures=said)


def read_set(
    one: Outputs,
    clips: Mapping[str, EvaluatedClip],
    captions: Mapping[str, str],
    zero: str,
    failures: list[ExpotionError],
) -> MusicSet:
    """Read a set's files; what can't be read goes to `failures`."""
    cues, notes = [], []
    for name, clip in clips.items():
        if name not in one.files:
            continue
        prompt = captions.get(name) or captions.get(Path(name).name)
        with guard(one.files[name].path, failures.append):
            cue, said = read_cue(one.files[name], clip.info, zero=zero, prompt=prompt)
            cues.append(cue)
            notes += [f"{one.name}: {line}" for line in said]
    return MusicSet(one.name, tuple(cues), tuple(notes))


def check_options(options: MeasureOptions) -> None:
    """Check measure options before anything is loaded.

    Raises:
        UsageError: an unknown group, or a folder of weights that is not there.
    """
    for group in options.groups:
        if group not in GROUPS:
            raise UsageError(
                f"There are no measures called {group!r}{nearest_hint(group, GROUPS)}.",
                remedy=f"Measures: {', '.join(GROUPS)}.",
            )
    if options.weights.folder is not None and not options.weights.folder.is_dir():
        raise UsageError("there is no such folder of weights.", path=options.weights.folder, remedy="Check --weights.")


def _check_names(sources: Sources, options: MeasureOptions) -> None:
    names = [name for name, _ in sources.outputs] or [OWN_SOUND]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"Two sets are called {name!r}.", remedy="Name them apart: --outputs NAME=FOLDER.")
    if options.baseline is not None and options.baseline not in names:
        raise UsageError(
            f"No set is called {options.baseline!r}{nearest_hint(options.baseline, names)}.",
            remedy=f"Sets: {', '.join(names)}.",
        )
    if sources.reference is not None and sources.reference not in names and not Path(sources.reference).is_dir():
        raise UsageError(
            f"{sources.reference!r} is neither a set{nearest_hint(sources.reference, names)} nor a folder.",
            remedy=f"Sets: {', '.join(names)}.",
        )


def _reference(
    sources: Sources, sets: Sequence[MusicSet], infos: Mapping[str, ClipInfo], failures: list[ExpotionError]
) -> MusicSet | None:
    if sources.reference is None:
        return None
    for one in sets:
        if one.name == sources.reference:
            return one
    return read_reference(Path(sources.reference), infos, failures, zero=sources.zero)


def _together(found: Sequence[Outputs]) -> list[str]:
    """The sets' notes, those that several sets share said once."""
    owners: dict[str, list[str]] = {}
    for one in found:
        for note in one.notes:
            owners.setdefault(note.removeprefix(f"{one.name}: "), []).append(one.name)
    return [f"{', '.join(names)}: {note}" for note, names in owners.items()]


def clips_with_sound_files(found: Sequence[Outputs]) -> list[list[str]]:
    """For each set the clips whose outputs are sound files, not video."""
    return [[c for c, file in one.files.items() if file.path.suffix.lower() in SOUND_SUFFIXES] for one in found]


def _starts_late(names: Sequence[str], clips: Mapping[str, EvaluatedClip]) -> bool:
    return any(abs(float(clips[name].info.start)) > LATE_PICTURE_S for name in names if name in clips)


def _no_sound(place: str | Path) -> ClipError:
    return ClipError(
        "none of the clips has sound.", path=place, remedy="Name what was made for them: --outputs FOLDER."
    )
