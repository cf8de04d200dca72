"""Words of prompts: instruments with their General-MIDI programs, ensembles, styles, moods. Data only.

Words are lower-case and without hyphens ("lo fi"). Plurals with -s are understood without being listed.
"""

from __future__ import annotations

from dataclasses import dataclass

KEYS, PLUCKED, PAD, BELLS, HIGH, LOW, BASS, BEAT = "keys", "plucked", "pad", "bells", "high", "low", "bass", "beat"
"""Kinds of instruments: those that play many notes at once (keys, plucked, pad, bells), melodic ones in a high or a low
register, those that play bass lines, and those that beat time."""


@dataclass(frozen=True)
class Instrument:
    """An instrument that a prompt can ask for.

    Attributes:
        name: what messages call it.
        program: General-MIDI program; for what beats time the kit, or -1 for the recipe's.
        kind: what it can play.
        lowest, highest: MIDI keys of its register.
        words: what prompts call it.
        covers: programs that its name stands for, e.g. when it is unwanted.
        beats: which of the voices "drums" and "percussion" it plays.
        is_generic: any instrument that it covers will do, so a recipe that has one keeps it.
    """

    name: str
    program: int
    kind: str
    lowest: int
    highest: int
    words: tuple[str, ...]
    covers: tuple[int, ...] = ()
    beats: tuple[str, ...] = ()
    is_generic: bool = False


def _span(first: int, last: int) -> tuple[int, ...]:
    return tuple(range(first, last + 1))


def _one(
    name: str, program: int, kind: str, low: int, high: int, words: str = "", covers: tuple[int, ...] = ()
) -> Instrument:
    said = (name, *(word.strip() for word in words.split(",") if word.strip()))
    return Instrument(name, program, kind, low, high, said, covers or (program,), is_generic=bool(covers))


def _beat(name: str, words: str, beats: str = "drums percussion", kit: int = -1) -> Instrument:
    said = (name, *(word.strip() for word in words.split(",") if word.strip()))
    return Instrument(name, kit, BEAT, 0, 127, said, (), tuple(beats.split()))


INSTRUMENTS: tuple[Instrument, ...] = (
    _one("piano", 0, KEYS, 24, 103, "grand piano, concert piano, acoustic piano, felt piano, pianoforte, "
         "upright piano, "
         "pianno, paino, piano chords, piano keys, pianist", _span(0, 3)),
    _one("bright piano", 1, KEYS, 24, 103, "rock piano"),
    _one("honky-tonk piano", 3, KEYS, 24, 103, "honky tonk piano, honky tonk, saloon piano, ragtime piano, tack piano"),
    _one("electric piano", 4, KEYS, 28, 103, "rhodes, rhodes piano, wurlitzer, e piano, epiano, fender rhodes, "
         "electric keys, keys, keyboard"),
    _one("FM piano", 5, KEYS, 28, 103, "fm piano, dx7, digital piano"),
    _one("harpsichord", 6, KEYS, 29, 89, "cembalo, harpsicord, spinet"),
    _one("clavinet", 7, KEYS, 28, 89, "clavichord, clav"),
    _one("celesta", 8, BELLS, 60, 103, "celeste"),
    _one("glockenspiel", 9, BELLS, 67, 103, "glock, orchestra bells, glockenspeil"),
    _one("music box", 10, BELLS, 60, 96, "musical box, toy box, toy piano"),
    _one("vibraphone", 11, BELLS, 53, 89, "vibes, vibraharp, mallets, vibrafone"),
    _one("marimba", 12, BELLS, 45, 96, "marimbas, balafon"),
    _one("xylophone", 13, BELLS, 60, 103, "xylofone, zylophone"),
    _one("bells", 14, BELLS, 55, 84, "tubular bells, church bell, church bells, chimes, bell, tubular bell, gongs, "
         "gong",
         (8, 9, 14)),
    _one("dulcimer", 15, PLUCKED, 45, 84, "hammered dulcimer, zither, cimbalom, santur"),
    _one("organ", 16, PAD, 36, 96, "hammond, hammond organ, drawbar organ, rock organ, jazz organ, electric organ, "
         "organist", _span(16, 20)),
    _one("church organ", 19, PAD, 36, 96, "pipe organ, cathedral organ"),
    _one("harmonium", 20, PAD, 36, 89, "reed organ, pump organ"),
    _one("accordion", 21, PAD, 41, 89, "accordian, squeezebox, concertina, accordeon, musette"),
    _one("harmonica", 22, HIGH, 60, 96, "mouth organ, blues harp"),
    _one("bandoneon", 23, PAD, 41, 89, "tango accordion"),
    _one("guitar", 24, PLUCKED, 40, 83, "acoustic guitar, guitarist, guitars, giutar, gutar, guitare, strummed guitar, "
         "fingerpicked guitar, picked guitar", _span(24, 31)),
    _one("nylon guitar", 24, PLUCKED, 40, 83, "classical guitar, spanish guitar, flamenco guitar, nylon string guitar"),
    _one("ukulele", 24, PLUCKED, 55, 84, "ukelele, uke"),
    _one("mandolin", 25, PLUCKED, 55, 88, "mandoline, bouzouki"),
    _one("lute", 24, PLUCKED, 40, 79, "oud, theorbo"),
    _one("steel guitar", 25, PLUCKED, 40, 83, "folk guitar, steel string guitar, western guitar, twelve string guitar, "
         "12 string guitar, country guitar, slide guitar, lap steel, pedal steel"),
    _one("jazz guitar", 26, PLUCKED, 40, 86, "archtop guitar, mellow guitar"),
    _one("electric guitar", 27, PLUCKED, 40, 86, "clean guitar, clean electric guitar, surf guitar, electric guitars, "
         "strat, telecaster", _span(26, 31)),
    _one("muted guitar", 28, PLUCKED, 40, 83, "palm muted guitar, funk guitar, funky guitar"),
    _one("overdriven guitar", 29, PLUCKED, 40, 86, "rock guitar, rock guitars, overdrive guitar, crunchy guitar, "
         "lead guitar, guitar riff, guitar riffs"),
    _one("distorted guitar", 30, PLUCKED, 40, 86, "distortion guitar, metal guitar, heavy guitar, heavy guitars, "
         "metal guitars, fuzz guitar, power chords, shredding"),
    _one("bass", 33, BASS, 28, 55, "bass line, bassline, bass lines, basslines, deep bass, low bass, bases, drone",
         _span(32, 39)),
    _one("upright bass", 32, BASS, 28, 60, "walking bass, jazz bass, acoustic bass, string bass, stand up bass"),
    _one("bass guitar", 33, BASS, 28, 60, "electric bass, e bass, finger bass, picked bass, bass gitar"),
    _one("fretless bass", 35, BASS, 28, 60, ""),
    _one("slap bass", 36, BASS, 28, 60, "funk bass, slapped bass, funky bass"),
    _one("synth bass", 38, BASS, 28, 60, "bass synth, synthesizer bass, acid bass, moog bass, synthbass, reese bass, "
         "wobble bass",
         (38, 39)),
    _one("sub bass", 39, BASS, 28, 60, "soft bass, subbass, 808 bass"),
    _one("violin", 40, HIGH, 55, 100, "violinist, violine, violen, voilin, fiddles"),
    _one("viola", 41, HIGH, 48, 88, "violas"),
    _one("cello", 42, LOW, 36, 76, "violoncello, celli, chello, celo, cellist, cellos"),
    _one("double bass", 43, BASS, 28, 60, "contrabass, double basses, contrabasses, doublebass, bowed bass, "
         "orchestral bass"),
    _one("tremolo strings", 44, PAD, 36, 96, "shivering strings"),
    _one("pizzicato strings", 45, PLUCKED, 36, 96, "pizzicato, pizz, plucked strings, pizzicatos"),
    _one("harp", 46, PLUCKED, 28, 103, "harps, concert harp, lyre, celtic harp, harpist"),
    _one("strings", 48, PAD, 28, 96, "string section, string ensemble, string orchestra, orchestral strings, "
         "lush strings, "
         "string, bowed strings, strings section, stings section", (*_span(40, 45), *_span(48, 51))),
    _one("slow strings", 49, PAD, 28, 96, "soft strings, legato strings, sustained strings"),
    _one("synth strings", 50, PAD, 36, 96, "synthetic strings, string machine, string synth, solina"),
    _one("choir", 52, PAD, 40, 84, "chorus, choral, choirs, chorale voices, chant, gregorian chant, monks, aahs, "
         "angelic voices, church choir, wordless choir, quire", (52, 53, 54, 91)),
    _one("voice oohs", 53, PAD, 40, 84, "oohs, humming, wordless vocals, wordless voice, vocalise, ahhs, vocal pad"),
    _one("trumpet", 56, HIGH, 54, 84, "trumpeter, trumpit, trumpets, cornet, flugelhorn, bugle, fanfare, fanfares",
         (56, 59)),
    _one("trombone", 57, LOW, 40, 72, "trombonist, tromboon, bass trombone"),
    _one("tuba", 58, BASS, 28, 58, "sousaphone, euphonium, low brass"),
    _one("muted trumpet", 59, HIGH, 54, 82, "harmon mute trumpet"),
    _one("french horn", 60, LOW, 41, 77, "horn, horns, french horns, waldhorn, hunting horn"),
    _one("brass", 61, PAD, 36, 82, "brass section, brass ensemble, horn section, brasses, brass stabs, braams, braam",
         _span(56, 63)),
    _one("synth brass", 62, PAD, 36, 84, "synthetic brass, brass synth"),
    _one("saxophone", 66, LOW, 44, 76, "sax, tenor sax, tenor saxophone, saxaphone, saxophon, saxofone, saxophonist, "
         "saxes",
         _span(64, 67)),
    _one("soprano saxophone", 64, HIGH, 56, 88, "soprano sax"),
    _one("alto saxophone", 65, HIGH, 49, 81, "alto sax"),
    _one("baritone saxophone", 67, LOW, 36, 69, "baritone sax, bari sax, bass saxophone"),
    _one("oboe", 68, HIGH, 58, 91, "oboes, hautboy, oboist"),
    _one("english horn", 69, HIGH, 52, 81, "cor anglais"),
    _one("bassoon", 70, LOW, 34, 72, "basson, contrabassoon, fagotto, bassoons"),
    _one("clarinet", 71, HIGH, 50, 91, "clarinette, clarinets, bass clarinet, clarinettist, clairinet"),
    _one("piccolo", 72, HIGH, 74, 103, "piccolo flute, fife"),
    _one("flute", 73, HIGH, 60, 96, "flutes, flut, flutist, flautist, alto flute, bansuri, wooden flute"),
    _one("recorder", 74, HIGH, 60, 96, "block flute, recorders"),
    _one("pan flute", 75, HIGH, 60, 96, "panpipes, panflute, pan pipes, zampona"),
    _one("shakuhachi", 77, HIGH, 55, 86, "bamboo flute, japanese flute, shakuhatchi"),
    _one("whistle", 78, HIGH, 60, 96, "tin whistle, penny whistle, whistling, irish whistle, whistles"),
    _one("ocarina", 79, HIGH, 60, 96, ""),
    _one("woodwinds", 73, HIGH, 60, 96, "woodwind, winds, wind section, wood winds, woodwind section, reeds",
         _span(64, 79)),
    _one("synth lead", 81, HIGH, 48, 96, "saw lead, lead synth, sawtooth, saw synth, supersaw, saw wave, theremin",
         (80, 81)),
    _one("square lead", 80, HIGH, 48, 96, "chiptune, chip tune, 8 bit, 8bit, square wave, bleeps"),
    _one("synth pad", 89, PAD, 36, 96, "warm pad, pad, pads, ambient pad, warm pads, synth pads, soft pad, lush pads, "
         "atmospheric pads, new age pad", (*_span(88, 95), 50, 54)),
    _one("polysynth", 90, PAD, 36, 96, "synth chords, poly synth, synth stabs, analog synth, analogue synth"),
    _one("choir pad", 91, PAD, 40, 84, "synth choir, synth voices"),
    _one("synth arpeggio", 81, PLUCKED, 48, 96, "arpeggiator, plucked synth, synth pluck, synth plucks, synth arp, "
         "arpeggiated synth, synth arpeggios, arpeggiated synths", (80, 81)),
    _one("sitar", 104, PLUCKED, 48, 84, "sitars, tanpura, veena"),
    _one("banjo", 105, PLUCKED, 48, 84, "banjos"),
    _one("shamisen", 106, PLUCKED, 48, 84, "pipa, erhu, guzheng"),
    _one("koto", 107, PLUCKED, 45, 84, "japanese harp"),
    _one("kalimba", 108, BELLS, 53, 89, "thumb piano, mbira, sansula, hang drum, handpan"),
    _one("bagpipes", 109, HIGH, 55, 84, "bagpipe, uilleann pipes, pipes"),
    _one("fiddle", 110, HIGH, 55, 96, "irish fiddle, country fiddle"),
    _one("steel drums", 114, BELLS, 52, 88, "steel drum, steel pan, steelpan, steelpans"),
    _beat("drums", "drum, drum kit, drum set, drumkit, drummer, drumming, drumbeat, drum beat, live drums, "
         "acoustic drums, "
          "hip hop beat, boom bap drums, boom bap beat, trap drums, epic drums, hybrid drums, soft drums, jazz drums, "
          "drum pattern, backbeat, rock drums, pounding drums, heavy drums, big drums, drum groove, rock beat"),
    _beat("percussion", "percussive, percussions, percusion, percussionist, hand percussion, electronic percussion, "
          "world percussion, ethnic percussion"),
    _beat("drum machine", "electronic drums, electronic beat, 808, 808s, 909, tr 808, drum machines, programmed drums, "
          "electro drums, 808 drums, synth drums", kit=25),
    _beat("brushed drums", "brushes, brush drums, drum brushes, jazz brushes, brushed snare", kit=40),
    _beat("orchestral drums", "orchestral percussion, orchestral drum, bass drum, concert drums", kit=48),
    _beat("timpani", "tympani, kettledrum, kettledrums, timpany, kettle drums", "drums", 48),
    _beat("taiko", "taiko drums, taiko drum, taikos, war drums, tribal drums, war drum", "drums", 48),
    _beat("snare", "snare drum, snares, toms, tom toms, kick, kick drum, kicks, kick and snare, marching drums, "
          "bongo, bongos, conga, congas, tabla, djembe, cajon, darbuka, surdo, tablas, bodhran", "drums"),
    _beat("hi-hats", "hi hat, hi hats, hihat, hihats, hats, hi hat rhythm, cymbal, cymbals, ride cymbal, shaker, "
          "shakers, tambourine, tambourines, claps, clap, hand claps, handclaps, finger snaps, snaps, maracas, "
          "woodblock, wood block, triangle, crash cymbal, castanets, cowbell, vinyl style hats, "
          "clock like hats", "percussion"),
)  # fmt: skip
BY_NAME = {instrument.name: instrument for instrument in INSTRUMENTS}

Roster = dict[str, tuple[int, ...]]

ENSEMBLES: dict[str, tuple[str, Roster]] = {
    "string quartet": ("string quartets, quartet of strings, string quintet",
        {"melody": (40,), "figure": (40, 41), "counter": (41,), "bass": (42,)}),
    "string trio": ("", {"melody": (40,), "counter": (41,), "bass": (42,)}),
    "brass quintet": ("brass quartet, brass band, brass choir",
        {"melody": (56,), "figure": (57,), "counter": (60,), "bass": (58,)}),
    "wind quintet": ("woodwind quintet, wind quartet, woodwind quartet",
        {"melody": (73,), "figure": (68, 71), "counter": (71, 60), "bass": (70,)}),
    "saxophone quartet": ("sax quartet", {"melody": (64,), "figure": (65,), "counter": (66,), "bass": (67,)}),
    "piano trio": ("piano quartet, piano quintet",
        {"harmony": (0,), "figure": (0,), "melody": (40,), "counter": (42,), "bass": (0,)}),
    "jazz trio": ("jazz piano trio",
        {"harmony": (0,), "melody": (0,), "bass": (32,), "drums": (40,), "percussion": (40,)}),
    "jazz quartet": ("jazz quintet, jazz band, jazz combo, jazz ensemble, dixieland band, swing band",
        {"harmony": (0,), "melody": (66,), "counter": (56,), "bass": (32,), "drums": (-1,), "percussion": (-1,)}),
    "big band": ("bigband, jazz orchestra", {"harmony": (61,), "figure": (0,), "melody": (56,), "counter": (66,),
        "bass": (32,), "drums": (-1,), "percussion": (-1,)}),
    "orchestra": ("symphony orchestra, full orchestra, symphony, orchestras, philharmonic, orquestra, orchestration",
        {"harmony": (48, 61, 52), "figure": (48, 46, 71), "melody": (60, 73, 48), "counter": (42, 71, 60),
         "bass": (43, 70, 58), "drums": (48,), "percussion": (48,)}),
    "chamber orchestra": ("chamber ensemble, small orchestra",
        {"harmony": (48, 71), "figure": (46, 48), "melody": (40, 73), "counter": (71, 42), "bass": (42, 70)}),
    "rock band": ("metal band, punk band, garage band, live band, full band",
        {"harmony": (29, 16), "figure": (27, 0), "melody": (30, 81), "bass": (33,), "drums": (-1,),
        "percussion": (-1,)}),
    "mariachi band": ("mariachi",
        {"harmony": (24,), "figure": (24,), "melody": (56,), "counter": (40,), "bass": (32,)}),
    "marching band": ("military band", {"harmony": (61,), "melody": (56,), "figure": (72, 73), "counter": (57,),
        "bass": (58,), "drums": (-1,), "percussion": (-1,)}),
    "guitar duo": ("two guitars, guitar quartet", {"harmony": (24,), "figure": (24,), "melody": (24,), "bass": (24,)}),
    "piano duo": ("two pianos, piano four hands, four hands", {"harmony": (0,), "figure": (0,), "melody": (0,),
        "counter": (0,), "bass": (0,)}),
    "strings": ("", {"harmony": (48, 42), "figure": (48, 41), "melody": (48, 40), "counter": (42, 41), "bass": (43,
    42)}),
    "brass": ("", {"harmony": (61, 60), "figure": (57, 60), "melody": (56, 60), "counter": (60, 57), "bass": (58, 57)}),
    "woodwinds": ("", {"figure": (68, 71), "melody": (73, 68), "counter": (71, 69), "bass": (70, 71)}),
    "choir": ("", {"harmony": (52,), "figure": (53,), "melody": (52,), "counter": (53,), "bass": (52,)}),
    "synthesizer": ("synth, synths, synthesiser, synthesizers, synthesisers, modular synth, moog, sythesizer",
        {"harmony": (90,), "figure": (81,), "melody": (80,), "counter": (50,), "bass": (38,)}),
}  # fmt: skip
"""Name → (other names, voice → programs it may have there, the best first). A kit of -1 is the recipe's.

The last five are families: "strings" stands here for who plays which voice, and in `INSTRUMENTS` for the section."""

FAMILIES: dict[str, tuple[int, ...]] = {
    "piano": _span(0, 5),
    "keyboards": (*_span(0, 7), *_span(16, 20)),
    "bells": _span(8, 14),
    "organ": _span(16, 20),
    "guitar": _span(24, 31),
    "strings": (*_span(40, 45), *_span(48, 51), 110),
    "harp": (46,),
    "choir": (52, 53, 54, 91),
    "brass": _span(56, 63),
    "woodwinds": _span(64, 79),
    "synth": (38, 39, 50, 51, 54, 62, 63, *_span(80, 103)),
}
"""Programs of each family that `compose.mute` knows and that a prompt can exclude."""
FAMILY_WORDS = {
    "keyboards": "keyboards", "synth": "synth, synths, synthesizer, synthesizers, synthesiser, synthesisers, "
    "electronics",
    "brass": "brass, horns, brass section", "guitar": "guitar, guitars", "woodwinds": "woodwind, woodwinds, winds",
    "strings": "strings, string section, string, orchestral strings", "choir": "choir, chorus, choirs",
    "organ": "organ, organs", "bells": "bells, bell, chimes", "harp": "harp, harps",
}  # fmt: skip
"""What an excluded family is called."""

STYLES = (
    "cinematic, film score, orchestral, epic trailer, soundtrack, movie score, ambient, atmospheric, drone ambient, "
    "soundscape, new age, classical, classical music, chamber music, chamber, romantic classical, chorale, hymn, "
    "baroque, sacred, chorale music, comedy, cartoon, suspense, thriller, horror, tension, trailer, score, film "
    "music, jazz, jazzy, cool jazz, free jazz, smooth jazz, folk, celtic, irish, medieval, renaissance, oriental, "
    "arabic, indian, chinese, japanese, african, spanish, flamenco, tango, neoclassical, minimalist, impressionist, "
    "romantic, gospel, soul, acoustic, singer songwriter, lounge, chillout, lullaby, nocturne, prelude, fugue, "
    "sonata, etude, ballad, western, noir, film noir, fantasy, science fiction, sci fi, christmas, experimental, "
    "avant garde, opera, musical, ragtime, dixieland, bolero, symphonic"
)
BEAT_STYLES = (
    "electronic, electronic dance, edm, house, techno, synthwave, trance, lofi, lo fi, lofi hip hop, lo fi hip hop, "
    "hip hop, hiphop, chillhop, lofi beat, pop, upbeat pop, pop rock, indie pop, pop music, indie, rock, hard rock, "
    "metal, heavy metal, thrash metal, punk, funk, funky, disco, dance, dance music, club, rap beat, trap, drill, "
    "dubstep, drum and bass, dnb, drum n bass, jungle, breakbeat, reggae, ska, dub, latin, salsa, samba, "
    "bossa nova, bossa, rumba, "
    "mambo, reggaeton, afrobeat, country, bluegrass, blues, r&b, rnb, rhythm and blues, boogie, rock and roll, rock n "
    "roll, rockabilly, grunge, big beat, downbeat, trip hop, triphop, vaporwave, retrowave, electro, garage, k pop, "
    "kpop, boom bap, march, marching, surf rock, swing, bebop, groove, grooves, groovy, beat, beats, four on the "
    "floor, workout, danceable, hardcore, industrial, dancehall"
)
"""Styles that go to a beat."""
MINOR_MOODS = (
    "sad, sadness, melancholic, melancholy, mournful, somber, sombre, gloomy, sorrowful, tragic, grief, lonely, "
    "loneliness, dark, darkness, eerie, ominous, sinister, scary, creepy, spooky, haunting, menacing, suspenseful, "
    "tense, brooding, depressing, heartbreaking, bleak, angry, anger, evil, moody, mysterious, mystery, wistful, "
    "bittersweet, despair, fear"
)
MAJOR_MOODS = (
    "happy, happiness, cheerful, joyful, joy, joyous, uplifting, triumphant, playful, optimistic, bright, sunny, "
    "funny, lighthearted, upbeat, festive, celebratory, feel good, merry, jolly, hopeful, hope, carefree, silly, "
    "comical, cute, whimsical, victorious, cheery, exuberant, heartwarming, blissful, positive"
)
MOODS = (
    "ticking, clock, heartbeat, intensity, bursts, stays, "
    "calm, calming, dreamy, tender, peaceful, warm, gentle, nostalgic, serene, relaxed, relaxing, romantic, light, "
    "energetic, exciting, serious, emotional, longing, intense, aggressive, furious, rebellious, dramatic, "
    "urgent, powerful, fierce, "
    "driving, solemn, sweeping, heroic, epic, grand, ethereal, floating, meditative, spacious, shimmering, hypnotic, "
    "cool, futuristic, pumping, mellow, chill, sleepy, laid back, head nodding, confident, smoky, intimate, smooth, "
    "sophisticated, swinging, lively, delicate, elegant, graceful, lyrical, spirited, brilliant, passionate, "
    "reverent, dignified, majestic, catchy, easygoing, sweet, quirky, sneaky, cheeky, zany, bouncy, uneasy, "
    "thrilling, pleasant, tranquil, soothing, beautiful, lovely, magical, mystical, inspiring, inspirational, "
    "motivational, soft, softly, quiet, loud, restrained, forceful, strong, hard, big, huge, heavy, soaring, lush, "
    "deep, low, high, high energy, low energy, medium energy, moderate energy, gentle dynamics, intense energy, "
    "building, builds up, builds, build up, gradually grows, rising energy, crescendo, fading, winds down, gradually "
    "calms, falling energy, decrescendo, diminuendo, sudden changes, dynamic contrasts, bursts of energy, stops and "
    "starts, steady, even, constant energy, swung, triplet feel, straight, staccato, legato, pizz, sustained, "
    "arpeggio, arpeggios, arpeggiated, ostinato, tremolo, expressive, virtuosic, raw, dirty, gritty, clean, vintage, "
    "retro, modern, old, ancient, space, cosmic, nature, ocean, rain, night, morning, winter, summer, spring, autumn, "
    "love, action, adventure, adventurous, battle, war, chase, fight, sport, sports, party, dance floor, travel, "
    "wedding, funeral, ballet, meditation, yoga, sleep, study, documentary, commercial, advert, vlog, game, video "
    "game, church, ceremony, dinner, bar, coffee shop, detective, crime, drama, anthemic, anthem, surreal, chaotic, "
    "wild, crazy, restless, nervous, anxious, hectic, frantic, gothic, tribal, ethnic, exotic, royal, noble, regal, "
    "innocent, childlike, children, kids, fun, sexy, sensual, cozy, cosy, comforting, contemplative, reflective, "
    "introspective, thoughtful, pensive, sentimental, touching, moving, timeless, cold, icy, hot, fiery, airy, "
    "organic, punchy, plucky, crisp, rich, thick, thin, wide, distant, close, contrapuntal, polyphonic, harmonic, "
    "melodic, rhythmic, syncopated, driving rhythm, walking, strummed, picked, fingerpicked, plucked, bowed, muted, "
    "distorted, reverberant, reverb, echo, echoing, vinyl crackle, hopeless, neutral, dynamic, energy, tension "
    "building, climax, climactic, finale, intro, outro, opening, ending, swelling, swells"
)
DENSITIES = {
    "sparse": "sparse, minimal, few notes, simple, spacious, bare, stripped down, sparingly, uncluttered, sparsely",
    "dense": "busy, dense, full, rich texture, many notes, virtuosic, lots of notes, complex, intricate, thick",
    "medium": "flowing, balanced, steady texture",
}
TEMPO_WORDS = (
    "slow, slowly, slow tempo, slow paced, unhurried, downtempo, adagio, largo, fast, quick, quickly, uptempo, up "
    "tempo, fast tempo, fast paced, presto, allegro, medium tempo, moderate tempo, mid tempo, moderate, medium, mid, "
    "paced, tempo, bpm, beats per minute, beats a minute, andante, vivace, moderato, lento, rubato, pace, pulse, "
    "pulsing"
)
VOCALS = (
    "vocal, vocals, voice, voices, singing, singer, singers, sung, lyrics, rap, rapping, rapper, female vocals, male "
    "vocals, spoken word, acapella, a cappella, female voice, male voice, words sung"
)
ORDINARY = (
    "a, an, the, and, or, of, for, with, without, in, on, at, to, by, from, as, is, are, be, it, its, this, that, "
    "these, there, here, which, who, what, when, where, while, than, then, so, some, any, all, both, each, every, "
    "more, most, much, many, very, too, quite, rather, really, bit, little, lot, lots, kind, sort, type, like, just, "
    "only, also, but, not, no, nor, nothing, else, please, make, makes, want, need, would, could, should, can, will, "
    "i, me, my, we, our, you, your, he, she, his, her, they, their, them, into, over, under, up, down, out, off, "
    "about, around, through, between, after, before, during, again, one, two, three, four, five, six, seven, eight, "
    "first, second, third, main, played, playing, play, plays, featuring, features, feature, including, include, "
    "includes, accompanied, accompaniment, accompanying, accompany, backing, background, foreground, carries, carry, "
    "comes, come, provided, keeping, keep, keeps, heard, used, use, using, suit, suits, give, gives, has, have, "
    "having, do, does, sounds, sound, sounding, music, musical, track, tracks, piece, pieces, song, songs, tune, "
    "tunes, melody, melodies, theme, themes, score, composition, instrumental, instrumentals, instrument, "
    "instruments, instrumentation, ensemble, band, orchestra, solo, soloist, duo, duet, trio, quartet, quintet, "
    "group, section, line, lines, part, parts, chord, chords, harmony, harmonies, rhythm, rhythms, note, notes, "
    "texture, textures, layer, layers, layered, lead, riff, riffs, style, styles, genre, mood, moods, feel, feeling, "
    "feelings, vibe, vibes, atmosphere, tone, overall, dynamics, tempo, key, mode, scale, major, minor, sharp, flat, "
    "metre, meter, time, signature, bar, bars, beat, minute, minutes, second, seconds, long, short, full, half, "
    "scene, scenes, road, "
    "video, videos, clip, clips, film, films, movie, movies, picture, show, shows, tv, series, story, "
    "moment, moments, person, people, man, woman, someone, day, world, life, made, based, inspired, perfect, good, "
    "great, nice, best, suitable, appropriate, matching, ideal, set, setting, set in, place, new, same, other, "
    "another, mostly, mainly, maybe, almost, always, never, still, slightly, gradually, slowly, towards, toward, end, "
    "start, starts, begin, begins, begins with, beginning, throughout, constant, gets, becomes, become, grow, grows, "
    "change, changes, sudden, level, together, alone, something, anything, everything, s, t, don, doesn, isn, re, ve, "
    "ll, m, free, except, minus, exclude, excluding, avoid, sans, lacking, unaccompanied, plus, instead, historical, "
    "period, sketch, fashion, city, studying, relaxation, ambience, rise, rises, calms, falls, away, quieter, louder, "
    "jumps, energetic, fade, fades, feels, waltz, jig, ternary, common, cut, double, go, goes, going, being, been, "
    "was, were, if, even, own, per"
)
"""Words that say nothing by themselves, or that others of a prompt give their meaning."""
