"""General MIDI's names of programs and drum kits."""

from __future__ import annotations

PROGRAM_NAMES = tuple(
    " ".join(name.split())
    for name in """
    acoustic grand piano, bright acoustic piano, electric grand piano, honky-tonk piano, electric piano 1,
    electric piano 2, harpsichord, clavinet, celesta, glockenspiel, music box, vibraphone, marimba, xylophone,
    tubular bells, dulcimer, drawbar organ, percussive organ, rock organ, church organ, reed organ, accordion,
    harmonica, bandoneon, nylon guitar, steel guitar, jazz guitar, clean electric guitar, muted electric guitar,
    overdriven guitar, distortion guitar, guitar harmonics, acoustic bass, fingered electric bass,
    picked electric bass, fretless bass, slap bass 1, slap bass 2, synth bass 1, synth bass 2, violin, viola, cello,
    contrabass, tremolo strings, pizzicato strings, orchestral harp, timpani, string ensemble 1, string ensemble 2,
    synth strings 1, synth strings 2, choir aahs, voice oohs, synth voice, orchestra hit, trumpet, trombone, tuba,
    muted trumpet, French horn, brass section, synth brass 1, synth brass 2, soprano saxophone, alto saxophone,
    tenor saxophone, baritone saxophone, oboe, English horn, bassoon, clarinet, piccolo, flute, recorder, pan flute,
    blown bottle, shakuhachi, whistle, ocarina, square lead, sawtooth lead, calliope lead, chiff lead, charang lead,
    voice lead, fifths lead, bass and lead, new age pad, warm pad, polysynth pad, choir pad, bowed pad, metallic pad,
    halo pad, sweep pad, rain, soundtrack, crystal, atmosphere, brightness, goblins, echoes, science fiction, sitar,
    banjo, shamisen, koto, kalimba, bagpipe, fiddle, shanai, tinkle bell, agogo, steel drums, woodblock, taiko drum,
    melodic tom, synth drum, reverse cymbal, guitar fret noise, breath noise, seashore, bird tweet, telephone ring,
    helicopter, applause, gunshot
    """.split(",")
)
KIT_NAMES = {0: "Standard", 8: "Room", 16: "Power", 24: "Electronic", 25: "TR-808", 32: "Jazz", 40: "Brush",
             48: "Orchestra", 56: "Sound effects"}  # fmt: skip
STANDARD_KIT = 0


def program_text(program: int) -> str:
    """A program with its name: "40 (violin)"."""
    return f"{program} ({PROGRAM_NAMES[program]})"


def kit_text(kit: int) -> str:
    """A drum kit with its name, if General MIDI gives it one: "8 (Room)"."""
    return f"{kit} ({KIT_NAMES[kit]})" if kit in KIT_NAMES else str(kit)


def nearest_program(program: int, programs: list[int]) -> int:
    """The nearest of some programs: the same family of eight first, then the smallest distance."""
    return min(programs, key=lambda other: (other // 8 != program // 8, abs(other - program), other))


def instrument_name(program: int, *, is_kit: bool) -> str:
    """What General MIDI calls a program, or a drum kit: "violin", "Orchestra kit".

    Args:
        program: 0..127.
        is_kit: it is a drum kit.
    """
    return f"{KIT_NAMES.get(program, 'drum')} kit" if is_kit else PROGRAM_NAMES[program]
