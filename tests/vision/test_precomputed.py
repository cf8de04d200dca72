"""Rows computed elsewhere take an encoder's place, if they are what they should be."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from expotion_cli.errors import ClipError, EmptyStreamError, ProbeError, UsageError
from expotion_cli.media.probe import probe
from expotion_cli.vision import streams
from expotion_cli.vision.encoder import StreamSource
from expotion_cli.vision.precomputed import check_folder, read_stream

ROWS = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
CLIP = SimpleNamespace(path=Path("somewhere/one.mp4"), duration=Fraction(10))


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "features").mkdir()
    return tmp_path / "features"


def write(folder: Path, content, suffix: str = ".pt", **metadata: str) -> Path:
    path = folder / f"one{suffix}"
    path.parent.mkdir(exist_ok=True)
    if suffix == ".npy":
        np.save(path, content)
    elif suffix == ".pt":
        torch.save(torch.from_numpy(content) if isinstance(content, np.ndarray) else content, path)
    else:
        tensors = content if isinstance(content, dict) else {"values": content}
        save_file({name: torch.as_tensor(value) for name, value in tensors.items()}, path, metadata or None)
    return path


def read(folder: Path, **more):
    return read_stream(StreamSource("synchformer", folder=folder, **more), CLIP)


@pytest.mark.parametrize("suffix", [".pt", ".npy", ".safetensors"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_each_kind_of_file_and_number_gives_the_same_rows(folder, suffix, dtype):
    write(folder, ROWS.astype(dtype), suffix)
    stream = read(folder)
    assert (stream.name, stream.rate_hz, stream.values.dtype) == ("synchformer", 5.0, np.float32)
    assert np.allclose(stream.values, ROWS, atol=2e-3) and stream.mask.all()
    assert stream.dims == tuple(map(str, range(8))) and stream.encoder == "precomputed"


@pytest.mark.parametrize(
    "content",
    [
        {"features": torch.from_numpy(ROWS)},
        {"anything": torch.from_numpy(ROWS).bfloat16()},
        {"values": torch.from_numpy(ROWS), "mask": torch.arange(50) > 10},
        torch.from_numpy(ROWS).requires_grad_(),
    ],
    ids=["named", "alone", "masked", "with gradients"],
)
def test_a_torch_file_may_hold_a_dict_with_the_tensor(folder, content):
    write(folder, content)
    stream = read(folder)
    assert np.allclose(stream.values, ROWS, atol=2e-2)
    assert stream.coverage == (0.78 if isinstance(content, dict) and "mask" in content else 1.0)


def test_a_masked_safetensors_file_keeps_its_mask_and_tells_rate_and_dims(folder):
    mask = np.arange(50) % 2 == 0
    dims = [f"joint{i}" for i in range(8)]
    write(folder, {"values": ROWS, "mask": mask}, ".safetensors", rate_hz="4.9", dims=json.dumps(dims))
    stream = read(folder, dims=("joint3",))
    assert stream.rate_hz == 4.9 and np.array_equal(stream.mask, mask) and stream.dims == tuple(dims)
    assert read(folder, rate_hz=5.1).rate_hz == 5.1, "who names the folder is believed first"


def test_the_folder_may_tell_the_rate(folder):
    write(folder, ROWS[:40])
    with pytest.raises(ClipError, match="40 rows; at 5 a second 50"):
        read(folder)
    (folder / "features.json").write_text('{"rate_hz": 4}')
    assert read(folder).rate_hz == 4.0
    for text in ('{"rate": 4}', "{", "[]", '{"rate_hz": "often"}', '{"rate_hz": -1}'):
        (folder / "features.json").write_text(text)
        with pytest.raises(ClipError, match=r"features\.json|rows a second"):
            read(folder)


@pytest.mark.parametrize("rows", [45, 50, 51, 55])
def test_a_few_rows_more_or_less_than_the_clip_has_are_no_matter(folder, rows):
    write(folder, np.resize(ROWS, (rows, 8)))
    assert len(read(folder).values) == rows


@pytest.mark.parametrize(("rows", "fits"), [(250, "25"), (44, "4.4"), (56, "5.6"), (1, "0.1")])
def test_rows_of_another_length_name_both_numbers_and_the_rate_that_would_fit(folder, rows, fits):
    write(folder, np.resize(ROWS, (rows, 8)))
    with pytest.raises(ClipError, match=rf"one\.pt.*{rows} rows; at 5 a second 50.*10\.0 s.*synchformer=.*@{fits}$"):
        read(folder)
    assert len(read(folder, rate_hz=float(fits)).values) == rows


def test_a_very_short_clip_may_have_one_row(folder):
    write(folder, ROWS[:1])
    assert (
        len(
            read_stream(
                StreamSource("s", folder=folder), SimpleNamespace(path=CLIP.path, duration=Fraction(1, 3))
            ).values
        )
        == 1
    )


NOT_A_NUMBER = ROWS.copy()
NOT_A_NUMBER[7, 3] = np.nan


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (ROWS[None], r"shape 1x50x8, expected \[T, D\]"),
        (ROWS[0], "shape 8, expected"),
        (np.zeros((4, 500), dtype=np.int64), "int64"),
        (NOT_A_NUMBER, "row 7 of 50"),
        ((ROWS * 1e30).astype(np.float64) * 1e30, "not finite"),
        ({"a": torch.zeros(50, 8), "b": torch.zeros(50, 8)}, "a, b"),
        ({"values": torch.zeros(50, 8), "mask": torch.ones(49, dtype=torch.bool)}, "mask"),
        ({"values": torch.zeros(50, 8), "mask": torch.ones(50)}, "mask"),
        ({"caption": "a person waves"}, "no tensor"),
        ([torch.zeros(50, 8)], "a list"),
        (SimpleNamespace(values=ROWS), "tensors only"),
    ],
)
def test_what_is_no_table_of_finite_numbers_is_an_error_with_the_file(folder, content, said):
    path = write(folder, content)
    with pytest.raises(ClipError, match=said) as caught:
        read(folder)
    assert caught.value.path == path and caught.value.remedy


def test_without_rows_there_is_no_stream(folder):
    write(folder, ROWS[:0])
    with pytest.raises(EmptyStreamError, match=r"one\.pt"):
        read(folder)


@pytest.mark.parametrize("suffix", [".pt", ".npy", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a file of tensors", b"\x93NUMPY\x01\x00"], ids=["empty", "text", "cut"])
def test_a_damaged_file_is_an_error_with_the_file(folder, suffix, content):
    path = folder / f"one{suffix}"
    path.write_bytes(content)
    with pytest.raises(ClipError, match="damaged, or not a") as caught:
        read(folder)
    assert caught.value.path == path


class Runs:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_nothing_in_a_file_is_executed(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(folder, {"values": torch.from_numpy(ROWS), "more": Runs()})
    with pytest.raises(ClipError, match="tensors only"):
        read(folder)
    (folder / "one.pt").unlink()
    np.save(folder / "one.npy", np.array([Runs()], dtype=object), allow_pickle=True)
    with pytest.raises(ClipError, match="tensors only"):
        read(folder)
    assert not (tmp_path / "ran").exists()


def test_another_width_than_the_adapter_reads_names_both(folder):
    write(folder, ROWS)
    with pytest.raises(ClipError, match="8 numbers a row, the adapter reads 768 of synchformer"):
        read(folder, dims=tuple(map(str, range(768))))
    with pytest.raises(ClipError, match=r"reads synchformer\.accent, which no column of it is called.*dims"):
        read(folder, dims=("accent", "energy"))


def test_a_clip_without_a_file_is_named_with_the_place_where_it_belongs(folder):
    with pytest.raises(ClipError, match=r"somewhere/one\.mp4: there are no synchformer features") as caught:
        read(folder)
    assert str(folder / "one.pt") in caught.value.remedy


def test_two_files_for_one_clip_are_told_apart_only_by_the_clips_own_folder(folder):
    write(folder, ROWS)
    write(folder / "somewhere", 2 * ROWS)
    assert np.allclose(read(folder).values, 2 * ROWS)
    write(folder, ROWS, ".npy")
    assert np.allclose(read(folder).values, 2 * ROWS)
    (folder / "somewhere" / "one.pt").unlink()
    with pytest.raises(ClipError, match=r"several files.*one\.npy, one\.pt"):
        read(folder)


def test_the_digest_follows_content_rate_and_name_and_no_place(folder, tmp_path):
    path = write(folder, ROWS)
    first = read(folder).digest
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    path.rename(moved / path.name)
    assert read(moved).digest == first
    assert read(moved, rate_hz=5.2).digest != first
    assert read_stream(StreamSource("other", folder=moved), CLIP).digest != first
    write(moved, ROWS + 1)
    assert read(moved).digest != first


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_without_features_is_a_wrong_flag(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "readme.txt").touch()
    with pytest.raises(UsageError, match=f"{name}.*features") as caught:
        check_folder(StreamSource("synchformer", folder=tmp_path / name))
    assert "--streams synchformer=FOLDER" in caught.value.remedy


def test_encoded_and_precomputed_streams_come_together_in_the_order_asked_for(folder, moving_patch, cache):
    clip = moving_patch(160, 120, 2.0)
    np.save(folder / "clip.npy", ROWS[:10])
    sources = (StreamSource("synchformer", folder=folder), "flow")
    for info in (clip, probe(clip)):
        found = streams.encode_clip(info, sources, cache=cache)
        assert list(found) == ["synchformer", "flow"] and found["flow"].encoder == "flow"
        assert {name: stream.digest for name, stream in found.items()} == streams.stream_digests(info, sources)
    assert cache.info().by_encoder == {"flow": 1, "cuts": 1}
    with pytest.raises(ProbeError, match="No such file"):
        streams.encode_clip(folder / "gone.mp4", sources, cache=cache)
