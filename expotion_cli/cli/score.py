"""`expotion-score`: score clips."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from expotion_cli.cli import complete, draw_flags, mix_flags
from expotion_cli.cli.backbones import OWN_MODEL, choose_backbone
from expotion_cli.cli.carry_out import OWN_BACKBONE, carry_out
from expotion_cli.cli.flags import batch_size as read_batch_size
from expotion_cli.cli.flags import extras as read_extras
from expotion_cli.cli.flags import from_python, given, recipe_with, streams_and_features
from expotion_cli.cli.flags import melody as read_melody
from expotion_cli.cli.flags import name_by as read_name_by
from expotion_cli.cli.flags import names as read_names
from expotion_cli.cli.flags import redo as read_redo
from expotion_cli.cli.flags import seed as read_seed
from expotion_cli.cli.flags import tempo as read_tempo
from expotion_cli.cli.flags import tracks as read_tracks
from expotion_cli.cli.markers import MARKER_KINDS, MARKER_START, MARKERS
from expotion_cli.cli.places import LOCAL, MOST_WORKERS, choose_place
from expotion_cli.cli.say import VERSION, handle_errors
from expotion_cli.cli.threads import set_waiting
from expotion_cli.errors import UsageError
from expotion_cli.media.clip import LONGEST_S
from expotion_cli.music.identity import MINI
from expotion_cli.prompts import read_prompts
from expotion_cli.recipe import DEFAULT_RECIPE, MAX_SEED

INPUT, MUSIC, SOUND, OUTPUT, MACHINE = "Input", "Music", "Sound", "Output", "Machine"


@from_python("carry")
@handle_errors
def score(
    clips: Annotated[
        list[str] | None,
        typer.Argument(
            help="Video files, folders or glob patterns, or URLs of such.", metavar="CLIPS", show_default=False
        ),
    ] = None,
    input_list: Annotated[
        Path | None,
        typer.Option(help="Text file with one input per line; - reads standard input.", rich_help_panel=INPUT),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive/--no-recursive", help="Look into subfolders.", rich_help_panel=INPUT)
    ] = True,
    video_track: Annotated[
        int | None,
        typer.Option(
            help="Which picture of clips that hold several, counted from 1; default: the one that players show.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    audio_track: Annotated[
        str | None,
        typer.Option(
            help="Which sound track of clips that hold several: 2, or 1,3 to mix them; default: the one players play.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    max_duration: Annotated[
        float, typer.Option(help="Refuse clips that are longer than this, in seconds.", rich_help_panel=INPUT)
    ] = LONGEST_S,
    recipe: Annotated[
        str,
        typer.Option(
            help="A name from `expotion recipes`, or the path of a .toml file.",
            rich_help_panel=MUSIC,
            autocompletion=complete.recipes,
        ),
    ] = DEFAULT_RECIPE,
    prompt: Annotated[
        str | None,
        typer.Option(
            help="What the music should be, in words, e.g. 'calm piano, no drums'; replaces the recipe's prompt.",
            rich_help_panel=MUSIC,
        ),
    ] = None,
    negative_prompt: Annotated[
        str | None,
        typer.Option(help="What the music should not be; needs --guidance above 1.", rich_help_panel=MUSIC),
    ] = None,
    melody: Annotated[
        str | None,
        typer.Option(
            help="A tune to play, for MusicGen Melody: a sound or MIDI file, or mini: composed from the picture.",
            rich_help_panel=MUSIC,
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="JSON file with prompts for single clips: clip name → prompt.", rich_help_panel=MUSIC),
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(
            help="One number for all clips, 'per-clip', or 'per-clip:N' for other music; default: the recipe's.",
            rich_help_panel=MUSIC,
        ),
    ] = None,
    tempo: Annotated[
        str | None,
        typer.Option(
            help="Beats per minute: 96, or a range like 80-120; default: the recipe's.", rich_help_panel=MUSIC
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            help="Key, with or without its mode: D, 'A minor', 'F# major'; default: the prompt's, or any.",
            rich_help_panel=MUSIC,
        ),
    ] = None,
    metre: Annotated[
        str | None, typer.Option(help="Metre: 4/4, 3/4 or 6/8; default: the prompt's, or 4/4.", rich_help_panel=MUSIC)
    ] = None,
    mute: Annotated[
        str | None,
        typer.Option(
            help="Voices or families of instruments to leave out, such as drums,bass,strings; none mutes nothing.",
            rich_help_panel=MUSIC,
        ),
    ] = None,
    streams: Annotated[
        str | None,
        typer.Option(
            help="What the music follows: encoders, NAME=FOLDER\\[@RATE] for features computed elsewhere, or none.",
            rich_help_panel=MUSIC,
            autocompletion=complete.streams,
        ),
    ] = None,
    plans: Annotated[
        Path | None,
        typer.Option(help="Folder of cue plans, written by `expotion plan` and obeyed.", rich_help_panel=MUSIC),
    ] = None,
    hits: Annotated[
        Path | None,
        typer.Option(
            help="Your own hit points: a CSV or JSON file, or markers (.edl, .fcpxml, .otio).", rich_help_panel=MUSIC
        ),
    ] = None,
    follow: Annotated[
        str | None,
        typer.Option(
            help="'layer' follows the picture by level and accents; 'none' leaves the music as composed.",
            rich_help_panel=MUSIC,
        ),
    ] = None,
    dynamics: Annotated[
        float | None,
        typer.Option(
            help="How far to lower the music where little moves, in dB, 0 to 12; default: the recipe's.",
            rich_help_panel=MUSIC,
        ),
    ] = None,
    guidance: draw_flags.Guidance = None,
    visual_guidance: draw_flags.VisualGuidance = None,
    temperature: draw_flags.Temperature = None,
    top_k: draw_flags.TopK = None,
    takes: draw_flags.Takes = None,
    model: Annotated[
        str,
        typer.Option(
            help="Music model: a name from `expotion models`, or a folder.",
            rich_help_panel=MUSIC,
            autocompletion=complete.models,
        ),
    ] = OWN_MODEL,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            help="Adapter: a folder, a .pth file or none; repeat it to add LoRA folders. Default: the model's own.",
            rich_help_panel=MUSIC,
        ),
    ] = None,
    backbone: Annotated[
        str,
        typer.Option(
            help="Code that runs MusicGen: expotion, or audiocraft (prompt alone, --model FOLDER).",
            rich_help_panel=MUSIC,
        ),
    ] = OWN_BACKBONE,
    loop: Annotated[
        bool,
        typer.Option("--loop", help="Music that repeats without a seam: whole bars, no fades.", rich_help_panel=MUSIC),
    ] = False,
    redo: Annotated[
        list[str] | None,
        typer.Option(
            help="Compose these bars of finished results anew, and keep the rest: 12.0-18.5, in seconds.",
            rich_help_panel=MUSIC,
        ),
    ] = None,
    redo_seed: Annotated[
        int | None,
        typer.Option(
            help="Seed of the bars that --redo composes; by default the next one.",
            min=0,
            max=MAX_SEED,
            show_default=False,
            rich_help_panel=MUSIC,
        ),
    ] = None,
    redo_prompt: Annotated[
        str | None, typer.Option(help="Prompt for the bars that --redo composes.", rich_help_panel=MUSIC)
    ] = None,
    lufs: Annotated[
        float | None,
        typer.Option(
            help="Integrated loudness of the result in LUFS, e.g. -16; default: the recipe's.", rich_help_panel=SOUND
        ),
    ] = None,
    peak: Annotated[
        float | None,
        typer.Option(
            help="Highest true peak of the result in dBTP, e.g. -1.5; default: the recipe's.", rich_help_panel=SOUND
        ),
    ] = None,
    mix: mix_flags.Mix = None,
    under_lu: mix_flags.UnderLu = None,
    music_gain: mix_flags.MusicGain = None,
    keep_original: mix_flags.KeepOriginal = None,
    fade_in: Annotated[
        float | None,
        typer.Option(help="Fade at the beginning, in seconds; default: the recipe's.", rich_help_panel=SOUND),
    ] = None,
    fade_out: Annotated[
        float | None, typer.Option(help="Fade at the end, in seconds; default: the recipe's.", rich_help_panel=SOUND)
    ] = None,
    audio_codec: Annotated[
        str | None,
        typer.Option(help="auto, aac, flac (MKV) or opus; auto takes opus for WebM, else aac.", rich_help_panel=SOUND),
    ] = None,
    soundfont: Annotated[
        Path | None,
        typer.Option(
            help="General-MIDI soundfont with other instruments, an .sf2 or .sf3 file.", rich_help_panel=SOUND
        ),
    ] = None,
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", help="Folder for the results, or its URL; subfolders are kept.", rich_help_panel=OUTPUT
        ),
    ] = "scored",
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Score again, and replace files that are in the way.", rich_help_panel=OUTPUT),
    ] = False,
    name_by: Annotated[
        str | None,
        typer.Option(
            help="Name results by these, too: recipe,seed,prompt,model. recipe,seed gives clip.jazz.seed7.mp4.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    midi: Annotated[
        bool, typer.Option("--midi", help="Also write each cue as a MIDI file.", rich_help_panel=OUTPUT)
    ] = False,
    markers: MARKERS = None,
    marker_kinds: MARKER_KINDS = None,
    marker_start: MARKER_START = None,
    music_only: mix_flags.MusicOnly = None,
    stems: mix_flags.Stems = None,
    keep_takes: draw_flags.KeepTakes = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.", rich_help_panel=OUTPUT)] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.", rich_help_panel=OUTPUT)] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Read every file again instead of trusting its size and times.", rich_help_panel=OUTPUT
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and stop.", rich_help_panel=OUTPUT)
    ] = False,
    batch_size: Annotated[
        str, typer.Option(help="Number of cues to compose at a time, or auto.", rich_help_panel=MACHINE)
    ] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(
            help="Number of clips to see at a time, each in a process of its own; 0 uses this process.",
            envvar="EXPOTION_WORKERS",
            rich_help_panel=MACHINE,
            min=0,
            max=MOST_WORKERS,
            show_default="half of the cores",
        ),
    ] = None,
    clip_timeout: Annotated[
        float | None,
        typer.Option(
            help="How long reading, seeing or finishing one clip may take, in seconds; 0 for no limit.",
            rich_help_panel=MACHINE,
            min=0,
            show_default="300 and 30 for each second of the clip",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="Where to compose: auto, cpu, cuda or cuda:N.", rich_help_panel=MACHINE)
    ] = "auto",
    devices: Annotated[
        str | None,
        typer.Option(
            help="Several GPUs that share the work, each with a process of its own: all, or cuda:0,cuda:1.",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    executor: Annotated[
        str, typer.Option(help='Where it runs: local, or ray (pip install "expotion\\[ray]").', rich_help_panel=MACHINE)
    ] = LOCAL,
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="Address of the Ray cluster, HOST:PORT; default: one on this machine.", rich_help_panel=MACHINE
        ),
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Number type of the decoder: auto, fp32, bf16 or fp16.", rich_help_panel=MACHINE)
    ] = "auto",
    version: Annotated[bool, VERSION] = False,
    carry: Any = None,
) -> int:
    """Score clips: compose music for each from its picture and a recipe, and remux it with the unchanged picture.

    Run the same command again after an interruption: it goes on where it stopped. Results are never replaced unasked.

    Examples: expotion-score clips; expotion-score clips --recipe jazz --lufs -16 --out jazz;
    expotion-score clips --prompt "solo harp, slow" --dry-run
    """
    # SIGTERM (from a closing terminal or a scheduler) ends the batch like Ctrl-C: resumable, with a message.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    set_waiting()
    from expotion_cli.scoring.discover import read_input_list
    from expotion_cli.scoring.markers import choose_markers
    from expotion_cli.scoring.plan import Settings
    from expotion_cli.scoring.urls import mirror
    from expotion_cli.spotting.hits_file import read_hits

    inputs = [*(clips or []), *(read_input_list(input_list) if input_list is not None else [])]
    if not inputs:
        raise UsageError("no clips were given.", remedy="Name files or folders, or pass --input-list.")
    watched, features = streams_and_features(streams)
    flags = {
        "--prompt": {"prompt": given(prompt)},
        "--negative-prompt": {"generate.negative_prompt": given(negative_prompt)},
        "--melody": {"melody": read_melody(melody)},
        "--seed": {"generate.seed": read_seed(seed)},
        "--tempo": read_tempo(tempo),
        "--key": {"compose.key": given(key)},
        "--metre": {"compose.metre": given(metre)},
        "--mute": {"compose.mute": read_names(mute)},
        "--loop": {"compose.loop": given(loop or None)},
        "--streams": {"streams.use": watched},
        "--follow": {"follow.mode": given(follow)},
        "--dynamics": {"follow.dynamics_db": given(dynamics)},
        "--guidance": {"generate.guidance": given(guidance)},
        "--visual-guidance": {"generate.visual_guidance": given(visual_guidance)},
        "--temperature": {"generate.temperature": given(temperature)},
        "--top-k": {"generate.top_k": given(top_k)},
        "--takes": {"generate.takes": given(takes)},
        "--lufs": {"loudness.lufs": given(lufs)},
        "--peak": {"loudness.peak_dbtp": given(peak)},
        "--mix": {"mix.mode": given(mix)},
        "--under-lu": {"mix.under_lu": given(under_lu)},
        "--music-gain": {"mix.music_gain_db": given(music_gain)},
        "--keep-original": {"mix.keep_original": given(keep_original)},
        "--fade-in": {"mix.fade_in_s": given(fade_in)},
        "--fade-out": {"mix.fade_out_s": given(fade_out)},
        "--audio-codec": {"mix.audio_codec": given(audio_codec)},
    }
    chosen = recipe_with(recipe, flags)
    if keep_takes and chosen.generate.takes == 1:
        raise UsageError("--keep-takes needs several takes to keep.", remedy="Add --takes 4, or leave it out.")
    settings = Settings(
        out=mirror(out),
        recursive=recursive,
        overwrite=overwrite,
        name_by=read_name_by(name_by),
        model=model,
        midi=midi,
        markers=choose_markers(markers, marker_kinds, marker_start),
        extras=read_extras(music_only, stems),
        keep_takes=keep_takes,
        batch_size=read_batch_size(batch_size),
        prompts=read_prompts(prompts) if prompts is not None else {},
        features=features,
        verify=verify,
        plans=plans,
        hits=read_hits(hits) if hits is not None else None,
        clip_timeout_s=clip_timeout,
        tracks=read_tracks(video_track, audio_track),
        max_duration_s=max_duration,
        redo=read_redo(redo, redo_seed, redo_prompt, overwrite=overwrite),
    )
    composer = {"name": model, "device": device, "dtype": dtype, "adapter": adapter, "soundfont": soundfont}
    if chosen.melody == MINI:
        composer["melody"] = MINI
    composer, chosen = choose_backbone(backbone, composer, chosen, streams, quiet=quiet)
    where = choose_place(executor, composer, workers=workers, devices=devices, ray_address=ray_address)
    with contextlib.closing(where):
        carried = carry or carry_out
        return carried(inputs, out, chosen, settings, composer, where, as_json=as_json, quiet=quiet, dry_run=dry_run)
