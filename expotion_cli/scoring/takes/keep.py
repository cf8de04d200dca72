"""Keeps all takes of a cue beside its result: a small file to listen to, and all that playing it again takes.

Tokens lie beside the result as well as in the cue store: the store is a cache, which may be pruned or be another
machine's, and a folder of results may travel. Sound is kept small, because choosing a take plays its tokens anew.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expotion_cli.recipe import REPLACE, Recipe
from expotion_cli.scoring.cue_store import StoredCue, cue_bytes
from expotion_cli.scoring.follow import ACCENTS_VERSION, FOLLOW_VERSION, align
from expotion_cli.scoring.sidecar import RESULT_VERSION
from expotion_cli.scoring.takes.layout import CUE, SOUND, kept_name, takes_folder
from expotion_cli.storage import digest_of

if TYPE_CHECKING:
    from expotion_cli.music.identity import ModelIdentity
    from expotion_cli.scoring.ladder import Score
    from expotion_cli.scoring.plan import Job
    from expotion_cli.scoring.takes.playing import Played


@dataclass(frozen=True)
class Kept:
    """What the sidecar says of kept takes.

    Attributes:
        files: by number of the take, its files' records.
        again: what playing another take needs to know besides.
    """

    files: Mapping[int, Mapping[str, Any]]
    again: Mapping[str, Any]


@dataclass
class Keeper:
    """Gathers the files of a cue's takes while they are played.

    Attributes:
        recipe: with all flags laid over it.
        cues: the takes, by number from 1.
    """

    recipe: Recipe
    cues: Sequence[StoredCue]
    _content: dict[tuple[int, str], bytes] = field(default_factory=dict)

    def add(self, number: int, played: Played) -> None:
        """A take was played."""
        self._content[number, SOUND] = to_listen_to(played.score, self.recipe)
        self._content[number, CUE] = cue_bytes(self.cues[number - 1])

    def files(self, video: Path) -> dict[Path, bytes]:
        """All files, by their places beside a result."""
        return {takes_folder(video) / kept_name(*key): content for key, content in self._content.items()}

    def kept(self, job: Job, identity: ModelIdentity, run_notes: Sequence[str]) -> Kept:
        """What the sidecar says of them.

        Args:
            job: the clip.
            identity: of the model that plays them.
            run_notes: what holds for all results of the run.
        """
        files: dict[int, dict[str, Any]] = {}
        for (number, kind), content in self._content.items():
            record = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            files.setdefault(number, {})[kind] = {"file": kept_name(number, kind), **record}
        chosen = job.clip.chosen
        again = {
            "clip": os.path.relpath(job.clip.path, job.destination.parent),
            "video_track": chosen.video,
            "audio_tracks": list(chosen.audio),
            "player": player_digest(identity),
            "run_notes": list(run_notes),
        }
        return Kept(files, again)


def player_digest(identity: ModelIdentity) -> str:
    """Hash of all that decides how given tokens, plan and recipe sound in a finished video.

    Args:
        identity: of the model that composed the tokens.
    """
    aligned = () if identity.has_tempo else align.deciding().values()
    return digest_of([identity.codec_digest, FOLLOW_VERSION, ACCENTS_VERSION, RESULT_VERSION, *aligned])


def to_listen_to(score: Score, recipe: Recipe) -> bytes:
    """A take's music alone, with the recipe's fades and at its loudness, as the content of an .m4a file.

    Raises:
        OutputError: it can't be written.
    """
    from expotion_cli.media.listening import to_m4a
    from expotion_cli.media.mix import mix

    faded = mix(
        score.audio,
        score.sample_rate,
        original=None,
        mode=REPLACE,
        num_samples=score.audio.shape[1],
        fade_in_s=recipe.mix.fade_in_s,
        fade_out_s=recipe.mix.fade_out_s,
        under_lu=recipe.mix.under_lu,
        music_gain_db=recipe.mix.music_gain_db,
        is_loop=recipe.compose.loop,
    ).sound
    loudness = recipe.loudness
    return to_m4a(faded, score.sample_rate, target_lufs=loudness.lufs, peak_dbtp=loudness.peak_dbtp)
