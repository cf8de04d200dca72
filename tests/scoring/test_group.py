"""The group step: cues spotted one by one and composed together."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_composer import FakeComposer

from expotion_cli.errors import DecodeError, WeightsError
from expotion_cli.recipe import load_recipe
from expotion_cli.scoring.group import GPU_GROUP, GROUP, Order, compose, groups
from expotion_cli.scoring.ladder import Seen
from expotion_cli.scoring.takes.layout import take_seed

SINGLE, TWO = (load_recipe("cinematic", {"generate.takes": takes}) for takes in (1, 2))


def order(number: int, see=Seen) -> Order:
    clip = SimpleNamespace(path=Path(f"{number}.mp4"), duration=Fraction(number + 1))
    return Order(clip, SINGLE, f"prompt {number}", number, see=see, key=number)


def broken() -> Seen:
    raise DecodeError("broken.", path="1.mp4")


def test_cues_come_with_all_that_decided_them_and_tokens_depend_on_no_neighbour():
    composer = FakeComposer()
    cues = {cue.order.key: cue for cue in compose(composer, [order(n) for n in range(3)], failed=pytest.fail)}
    assert sorted(cues) == [0, 1, 2]
    for number, cue in cues.items():
        assert cue.together == 3 and cue.request.seed == number and cue.request.prompt == f"prompt {number}"
        assert [take.shape for take in cue.takes] == [(2, 10 * (number + 1))]
        assert cue.tempo is None, "this codec has no beat grid"
        (alone,) = compose(composer, [order(number)], failed=pytest.fail)
        assert np.array_equal(alone.takes, cue.takes)


def test_takes_are_composed_by_their_numbers_and_the_first_is_the_cue_of_one_take():
    (every,) = compose(FakeComposer(), [replace(order(1), take_numbers=(0, 1, 2, 3))], failed=pytest.fail)
    assert len({take.tobytes() for take in every.takes}) == 4
    (some,) = compose(FakeComposer(), [replace(order(1), take_numbers=(3, 0))], failed=pytest.fail)
    assert np.array_equal(some.takes[0], every.takes[3]) and np.array_equal(some.takes[1], every.takes[0])
    (alone,) = compose(FakeComposer(), [order(1)], failed=pytest.fail)
    (two,) = compose(FakeComposer(), [replace(order(1), recipe=TWO)], failed=pytest.fail)
    assert (len(alone.takes), len(two.takes)) == (1, 2) and np.array_equal(alone.takes[0], every.takes[0])
    seeds = [take_seed(42, number) for number in range(5)]
    assert seeds[0] == 42 and len(set(seeds)) == 5 and all(0 <= seed < 2**31 for seed in seeds)


def test_a_clip_that_fails_leaves_the_others_to_go_on():
    failures = []
    orders = [order(0), order(1, broken), order(2)]
    cues = list(compose(FakeComposer(), orders, failed=lambda who, error: failures.append((who.key, error.reason))))
    assert sorted(cue.order.key for cue in cues) == [0, 2] and failures == [(1, "broken.")]


def test_where_composing_breaks_down_each_cue_not_there_yet_fails_under_its_own_name():
    class Breaking(FakeComposer):
        def generate(self, requests, **options):
            yield from list(super().generate(requests, **options))[:1]
            raise RuntimeError("out of luck")

    failures = []
    cues = list(compose(Breaking(), [order(n) for n in range(3)], failed=lambda who, error: failures.append(error)))
    assert [cue.order.key for cue in cues] == [2]
    assert sorted(str(error.path) for error in failures) == ["0.mp4", "1.mp4"]
    assert all("out of luck" in error.reason and error.details for error in failures)


def test_fatal_errors_end_everything():
    def missing() -> Seen:
        raise WeightsError("missing.")

    with pytest.raises(WeightsError):
        list(compose(FakeComposer(), [order(0, missing)], failed=pytest.fail, fatal=(WeightsError,)))


def test_progress_names_the_orders_that_are_not_done():
    said, begun = [], []
    orders = [order(n) for n in range(2)]
    list(compose(FakeComposer(), orders, failed=pytest.fail, on_begin=lambda some: begun.append(len(some)),
                 on_progress=lambda left, share: said.append(([o.key for o in left], share))))  # fmt: skip
    assert begun == [2] and said == [([0, 1], 0.5), ([0], 0.5)]


def test_groups_grow_with_the_device_and_with_the_batch_size():
    items = list(range(200))
    assert len(next(groups(items, "cpu"))) == GROUP
    assert len(next(groups(items, "cuda:0"))) == GPU_GROUP
    assert [len(some) for some in groups(items, "cpu", 50)] == [50] * 4
    assert len(next(groups(items, "cpu", 2))) == GROUP, "smaller batches are made by the engine"
    assert [item for some in groups(items, "cpu") for item in some] == items
