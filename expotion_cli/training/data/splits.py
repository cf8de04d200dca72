"""Chooses held-out clips that share no track and no person with the training clips; finds leaks in a given split.

Clips of one track and clips of one person belong together. If these links leave several groups, whole groups are held
out. If they join nearly all clips (few people, each to much music), some people and some tracks are held out: clips
with both are held out, clips with neither are trained on, and all others are set aside.

Hashes of the groups' names decide which are held out, so adding clips moves few others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from expotion_cli.storage import digest_of

TRAIN, HELD_OUT, ASIDE = "train", "held_out", "aside"
_TOLERANCE = 2.0  # a held-out set this many times too large or too small is accepted before clips are set aside


@dataclass(frozen=True)
class Identity:
    """Whose and which music a clip is.

    Attributes:
        name: of the clip.
        track: stated, or "".
        person: stated, or "".
        tokens: digest of its tokens.
        duration_s: length in seconds.
    """

    name: str
    track: str
    person: str
    tokens: str
    duration_s: float


@dataclass(frozen=True)
class Leaks:
    """What the held-out clips share with the training clips.

    Attributes:
        held_out: number of held-out clips.
        same_track: names of held-out clips that share their track with a training clip.
        same_sound: names of those that share a recording with one.
        same_target: names of those whose exact tokens a training clip has.
        same_person: names of those that share their person with one.
        unknown_person: number of held-out clips without a stated person.
        unknown_track: number of those without a stated track; only their sound was compared.
    """

    held_out: int
    same_track: tuple[str, ...] = ()
    same_sound: tuple[str, ...] = ()
    same_target: tuple[str, ...] = ()
    same_person: tuple[str, ...] = ()
    unknown_person: int = 0
    unknown_track: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether no leak is known."""
        return not (self.same_track or self.same_sound or self.same_target or self.same_person)

    def to_dict(self) -> dict:
        """Plain JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}

    def lines(self) -> list[str]:
        """Sentences for the user, one a leak."""
        kinds = (
            ("have the exact tokens of a training clip", self.same_target),
            ("share a recording with a training clip", self.same_sound),
            ("are of a track that is also in the training clips", self.same_track),
            ("show a person who is also in the training clips", self.same_person),
        )
        said = [
            f"{len(names)} of {self.held_out} held-out clips {what} ({', '.join(names[:3])}"
            f"{' ...' if len(names) > 3 else ''})"
            for what, names in kinds
            if names
        ]
        if not said and self.held_out:
            said = ["no held-out clip shares its track, its recording or its person with a training clip"]
        if self.unknown_person and self.held_out:
            said.append(f"the person in {self.unknown_person} held-out clips is not stated and could not be compared")
        return said


def split(clips: Sequence[Identity], pairs: Iterable[Sequence[int]], share: float = 0.1, seed: int = 0) -> list[str]:
    """Choose held-out clips that share no track and no person with the training clips.

    Args:
        clips: all of them.
        pairs: indices of clips that share a recording.
        share: share of the whole duration to hold out, 0..1; 0 holds nothing out.
        seed: of the choice.

    Returns:
        TRAIN, HELD_OUT or ASIDE for each clip. Nothing is held out if no clean split exists.
    """
    result = [TRAIN] * len(clips)
    if share <= 0 or len(clips) < 2:
        return result
    pairs = [tuple(pair) for pair in pairs]
    tracks = _tracks(clips, pairs)
    people = [clip.person and f"person {clip.person}" for clip in clips]
    groups = _groups(len(clips), [*_links(tracks), *_links(people)])
    chosen = _choose(groups, clips, share, seed)
    wanted = share * sum(clip.duration_s for clip in clips)
    got = sum(clip.duration_s for clip, group in zip(clips, groups, strict=True) if group in chosen)
    if chosen and wanted / _TOLERANCE <= got <= wanted * _TOLERANCE:
        return [HELD_OUT if group in chosen else TRAIN for group in groups]
    apart = _split_crosswise(clips, tracks, people, share, seed)
    if apart is not None:
        return apart
    # Groups of the wrong size are better than none, as long as most of the data are trained on.
    if chosen and got <= 0.5 * wanted / share:
        return [HELD_OUT if group in chosen else TRAIN for group in groups]
    return result


def find_leaks(clips: Sequence[Identity], pairs: Iterable[Sequence[int]], splits: Sequence[str]) -> Leaks:
    """Find what the held-out clips share with the training clips.

    Args:
        clips: all of them.
        pairs: indices of clips that share a recording.
        splits: TRAIN, HELD_OUT or ASIDE for each clip.
    """
    trained = [n for n, where in enumerate(splits) if where == TRAIN]
    held = [n for n, where in enumerate(splits) if where == HELD_OUT]
    tracks, people, targets = ({getattr(clips[n], key) for n in trained} for key in ("track", "person", "tokens"))
    neighbours: dict[int, set[int]] = {}
    for one, other in pairs:
        neighbours.setdefault(one, set()).add(other)
        neighbours.setdefault(other, set()).add(one)
    known = set(trained)

    def names(numbers: Iterable[int]) -> tuple[str, ...]:
        return tuple(clips[n].name for n in numbers)

    return Leaks(
        len(held),
        names(n for n in held if clips[n].track and clips[n].track in tracks),
        names(n for n in held if neighbours.get(n, set()) & known),
        names(n for n in held if clips[n].tokens in targets),
        names(n for n in held if clips[n].person and clips[n].person in people),
        sum(not clips[n].person for n in held),
        sum(not clips[n].track for n in held),
    )


def drop_leaks(clips: Sequence[Identity], pairs: Iterable[Sequence[int]], splits: Sequence[str]) -> list[str]:
    """Set training clips aside that share a track, a recording or a person with a held-out clip.

    Args:
        clips: all of them.
        pairs: indices of clips that share a recording.
        splits: TRAIN, HELD_OUT or ASIDE for each clip.

    Returns:
        The split, with ASIDE for those clips.
    """
    pairs = [tuple(pair) for pair in pairs]
    swapped = [{TRAIN: HELD_OUT, HELD_OUT: TRAIN}.get(where, where) for where in splits]
    leaks = find_leaks(clips, pairs, swapped)  # from the training clips' side
    leaking = {*leaks.same_track, *leaks.same_sound, *leaks.same_target, *leaks.same_person}
    return [
        ASIDE if where == TRAIN and clip.name in leaking else where for clip, where in zip(clips, splits, strict=True)
    ]


def _tracks(clips: Sequence[Identity], pairs: Sequence[Sequence[int]]) -> list[str]:
    """A name for each clip's track, the same for a common stated track, equal tokens or a shared recording."""
    links = [*_links([c.track and f"track {c.track}" for c in clips]), *_links([c.tokens for c in clips]), *pairs]
    return [f"track {clips[group].name}" for group in _groups(len(clips), links)]


def _links(keys: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs that chain all entries with the same key; "" links nothing."""
    last: dict[str, int] = {}
    links = []
    for number, key in enumerate(keys):
        if key:
            if key in last:
                links.append((last[key], number))
            last[key] = number
    return links


def _groups(count: int, links: Iterable[Sequence[int]]) -> list[int]:
    """For each index, the smallest one that it is linked to (union-find)."""
    parent = list(range(count))

    def root(n: int) -> int:
        while parent[n] != n:
            parent[n] = parent[parent[n]]
            n = parent[n]
        return n

    for one, other in links:
        a, b = root(one), root(other)
        parent[max(a, b)] = min(a, b)
    return [root(n) for n in range(count)]


def _choose(groups: Sequence[int], clips: Sequence[Identity], share: float, seed: int) -> set[int]:
    """Groups to hold out: in order of their hashes, each taken if it brings the total closer to the share."""
    sizes: dict[int, float] = defaultdict(float)
    for group, clip in zip(groups, clips, strict=True):
        sizes[group] += clip.duration_s
    if len(sizes) < 2:
        return set()
    order = sorted(sizes, key=lambda group: digest_of([seed, clips[group].name]))
    wanted, got = share * sum(sizes.values()), 0.0
    chosen: set[int] = set()
    for group in order:
        if abs(got + sizes[group] - wanted) < abs(got - wanted):
            chosen.add(group)
            got += sizes[group]
    if not chosen:  # all are too large: take the smallest
        chosen.add(min(order, key=lambda group: sizes[group]))
    return chosen if len(chosen) < len(sizes) else set()


def _split_crosswise(
    clips: Sequence[Identity], tracks: Sequence[str], people: Sequence[str], share: float, seed: int
) -> list[str] | None:
    """Hold out some people with some tracks; None if that leaves nothing on either side."""
    whose = [person or f"nobody {clip.name}" for person, clip in zip(people, clips, strict=True)]
    best: tuple[float, list[str]] | None = None
    total = sum(clip.duration_s for clip in clips)
    for of_tracks in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
        for of_people in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
            held_tracks = _first(tracks, of_tracks, seed)
            held_people = _first(whose, of_people, seed)
            result = []
            for track, person in zip(tracks, whose, strict=True):
                out = (track in held_tracks) + (person in held_people)
                result.append((TRAIN, ASIDE, HELD_OUT)[out])
            length: dict[str, float] = defaultdict(float)
            for where, clip in zip(result, clips, strict=True):
                length[where] += clip.duration_s
            if length[HELD_OUT] and length[TRAIN] > 0.25 * total:
                held = length[HELD_OUT] / total
                # A clip set aside is lost, but reaching at least half the wanted share is worth more.
                cost = 10 * max(0.0, share / 2 - held) + abs(held - share) + 0.5 * length[ASIDE] / total
                if best is None or cost < best[0]:
                    best = (cost, result)
    return best[1] if best is not None else None


def _first(names: Sequence[str], share: float, seed: int) -> set[str]:
    """A share of the distinct names, at least one and never all, in order of their hashes."""
    different = sorted(set(names), key=lambda name: digest_of([seed, name]))
    return set(different[: min(len(different) - 1, max(1, round(share * len(different))))])
