"""`expotion-score`: score clips."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from expotion_cli.cli.carry_out import AUDIOCRAFT, OWN_BACKBONE, carry_out
from expotion_cli.cli.flags import given, recipe_with, streams_and_features
from expotion_cli.cli.flags import name_by as read_name_by
from expotion_cli.cli.flags import names as read_names
from expotion_cli.cli.flags import redo as read_redo
from expotion_cli.cli.flags import seed as read_seed
from expotion_cli.cli.flags import tempo as read_tempo
from expotion_cli.cli.flags import tracks as read_tracks
from expotion_cli.cli.places import LOCAL, MOST_WORKERS, choose_place
from expotion_cli.cli.say import handle_errors, say_aside
from expotion_cli.cli.threads import set_waiting
from expotion_cli.errors import UsageError
from expotion_cli.media.clip import LONGEST_S
from expotion_cli.prompts import read_prompts
from expotion_cli.recipe import DEFAULT_RECIPE, MAX_SEED, NO_FOLLOW

INPUT, MUSIC, SOUND, OUTPUT, MACHINE = "Input", "Music", "Sound", "Output", "Machine"
OWN_MODEL = "expotion-mini"


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
        typer.Option(help="Which picture of clips that hold several: 1, 2, ...", rich_help_panel=INPUT),
    ] = None,
    audio_track: Annotated[
        str | None,
        typer.Option(
            help="Which sound track of clips that hold several: 2, or 1,3 to mix them.", rich_help_panel=INPUT
        ),
    ] = None,
    max_duration: Annotated[
        float, typer.Option(help="Refuse clips that last longer, in seconds.", rich_help_panel=INPUT)
    ] = LONGEST_S,
    recipe: Annotated[
        str, typer.Option(help="A shipped recipe's name, or the path of a .toml file.", rich_help_panel=MUSIC)
    ] = DEFAULT_RECIPE,
    prompt: Annotated[
        str | None, typer.Option(help="Describes the music; replaces the recipe's prompt.", rich_help_panel=MUSIC)
    ] = None,
    negative_prompt: Annotated[
        str | None,
        typer.Option(help="What the music should not be; needs --guidance above 1.", rich_help_panel=MUSIC),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="JSON file with prompts for single clips: clip name → prompt.", rich_help_panel=MUSIC),
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(
            help="One number for all clips, 'per-clip', or 'per-clip:N' for another take of each.",
            rich_help_panel=MUSIC,
        ),
    ] = None,
    tempo: Annotated[
        str | None, typer.Option(help="Beats per minute: 96, or a range like 80-120.", rich_help_panel=MUSIC)
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Key, with or without its mode: D, 'A minor', 'F# major'.", rich_help_panel=MUSIC)
    ] = None,
    metre: Annotated[str | None, typer.Option(help="Metre: 4/4, 3/4 or 6/8.", rich_help_panel=MUSIC)] = None,
    mute: Annotated[
        str | None,
        typer.Option(
            help="What nobody plays: voices or families of instruments, such as drums,bass,strings; or none.",
            rich_help_panel=MUSIC,
        ),
    ] = None,
    streams: Annotated[
        str | None,
        typer.Option(
            help="What the music follows: encoders, NAME=FOLDER[@RATE] for features computed elsewhere, or none.",
            rich_help_panel=MUSIC,
        ),
    ] = None,
    plans: Annotated[
        Path | None,
        typer.Option(help="Folder of cue plans, written by `expotion plan` and obeyed.", rich_help_panel=MUSIC),
    ] = None,
    hits: Annotated[
        Path | None,
        typer.Option(help="CSV or JSON file with hit points of your own, in seconds or frames.", rich_help_panel=MUSIC),
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
        typer.Option(help="How far the music is lowered where little moves, in dB.", rich_help_panel=MUSIC),
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Weight of the prompt; 1 is neutral.", rich_help_panel=MUSIC)
    ] = None,
    visual_guidance: Annotated[
        float | None, typer.Option(help="Weight of the picture; 1 is neutral.", rich_help_panel=MUSIC)
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(help="Sampling temperature; 0 always takes the likeliest token.", rich_help_panel=MUSIC),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(help="Sample from this many likeliest tokens; 0 for all.", rich_help_panel=MUSIC)
    ] = None,
    takes: Annotated[
        int | None,
        typer.Option(
            help="Compose this many takes and keep the best (models that write notes).", rich_help_panel=MUSIC
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="Music model: a name from `expotion models`, or a folder.", rich_help_panel=MUSIC)
    ] = OWN_MODEL,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            help="Adapter: a folder, a .pth file or none. Repeat it to add LoRA folders.", rich_help_panel=MUSIC
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
        float | None, typer.Option(help="Integrated loudness of the result, in LUFS.", rich_help_panel=SOUND)
    ] = None,
    peak: Annotated[
        float | None, typer.Option(help="Maximum true peak of the result, in dBTP.", rich_help_panel=SOUND)
    ] = None,
    mix: Annotated[
        str | None,
        typer.Option(help="'replace' the clip's sound, or lay the music 'under' it.", rich_help_panel=SOUND),
    ] = None,
    fade_in: Annotated[float | None, typer.Option(help="Length in seconds.", rich_help_panel=SOUND)] = None,
    fade_out: Annotated[float | None, typer.Option(help="Length in seconds.", rich_help_panel=SOUND)] = None,
    audio_codec: Annotated[
        str | None, typer.Option(help="auto, aac, flac or opus, where the container allows it.", rich_help_panel=SOUND)
    ] = None,
    soundfont: Annotated[
        Path | None,
        typer.Option(help="A General-MIDI .sf2 or .sf3 file with other instruments.", rich_help_panel=SOUND),
    ] = None,
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", help="Folder for the results, or its URL; mirrors the input.", rich_help_panel=OUTPUT
        ),
    ] = "scored",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Score again, and replace what is there.", rich_help_panel=OUTPUT)
    ] = False,
    name_by: Annotated[
        str | None,
        typer.Option(
            help="Put into the results' names what they are made by: recipe,seed,prompt,model.", rich_help_panel=OUTPUT
        ),
    ] = None,
    midi: Annotated[
        bool, typer.Option("--midi", help="Also write each cue as a MIDI file.", rich_help_panel=OUTPUT)
    ] = False,
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
        str, typer.Option(help="Number of cues composed at a time, or auto.", rich_help_panel=MACHINE)
    ] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(
            help="Clips seen at a time, each in a process of its own; 0: in this process.",
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
            help="Seconds that reading, seeing or finishing one clip may take; 0 for any time.",
            rich_help_panel=MACHINE,
            min=0,
            show_default="300 and 30 for each second of the clip",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.", rich_help_panel=MACHINE)] = "auto",
    devices: Annotated[
        str | None,
        typer.Option(
            help="Several devices that share the work, each with a process of its own: all, or cuda:0,cuda:1 ...",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    executor: Annotated[
        str, typer.Option(help="Where it runs: local, or ray (pip install expotion[ray]).", rich_help_panel=MACHINE)
    ] = LOCAL,
    ray_address: Annotated[
        str | None, typer.Option(help="Of the Ray cluster; by default one on this machine.", rich_help_panel=MACHINE)
    ] = None,
    dtype: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.", rich_help_panel=MACHINE)] = "auto",
) -> int:
    """Score clips: compose music for each from its picture and a recipe, and remux it with the unchanged picture."""
    # SIGTERM (from a closing terminal or a scheduler) ends the batch like Ctrl-C: resumable, with a message.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    set_waiting()
    from expotion_cli.scoring.discover import read_input_list
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
        "--fade-in": {"mix.fade_in_s": given(fade_in)},
        "--fade-out": {"mix.fade_out_s": given(fade_out)},
        "--audio-codec": {"mix.audio_codec": given(audio_codec)},
    }
    chosen = recipe_with(recipe, flags)
    settings = Settings(
        out=mirror(out),
        recursive=recursive,
        overwrite=overwrite,
        name_by=read_name_by(name_by),
        model=model,
        midi=midi,
        batch_size=_batch_size(batch_size),
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
    if backbone != OWN_BACKBONE:
        _check_backbone(
            backbone,
            model,
            {
                "--adapter": adapter,
                "--soundfont": soundfont,
                "--streams": streams,
                "--negative-prompt": chosen.generate.negative_prompt or None,
            },
        )
        follows = chosen.follow.mode != NO_FOLLOW
        if not follows:
            chosen = chosen.override({"streams.use": ()}, source="--backbone")
        if not quiet:
            rest = "only the follow layer follows the picture" if follows else "the picture is ignored"
            say_aside(f"audiocraft composes from the prompt alone; {rest}")
        composer = {"name": model, "device": device, "dtype": dtype, "backbone": backbone}
    elif [name for name in adapter or [] if name != "none"] and chosen.generate.visual_guidance == 0 and not quiet:
        say_aside("this recipe lets the picture steer no token; --visual-guidance 1.5 lets the adapter steer")
    where = choose_place(executor, composer, workers=workers, devices=devices, ray_address=ray_address)
    with contextlib.closing(where):
        return carry_out(inputs, out, chosen, settings, composer, where, as_json=as_json, quiet=quiet, dry_run=dry_run)


def _check_backbone(backbone: str, model: str, flags: dict[str, Any]) -> None:
    """Refuse flags that do not work with audiocraft."""
    if backbone != AUDIOCRAFT:
        raise UsageError(f"--backbone {backbone!r} is unknown.", remedy=f"Use {OWN_BACKBONE} or {AUDIOCRAFT}.")
    for flag, value in flags.items():
        if value not in (None, "none", ["none"]):
            raise UsageError(f"{flag} does not work with audiocraft.", remedy=f"Leave {flag} or --backbone out.")
    if model == OWN_MODEL:
        raise UsageError(
            f"audiocraft does not run {model}.", remedy="Give --model FOLDER, a folder with audiocraft's files."
        )


def _batch_size(text: str) -> int | str:
    if text == "auto":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--batch-size {text!r} is out of range.", remedy="Give auto, or 1 or more.")
    return int(text)
