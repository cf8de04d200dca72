"""Faces found by MTCNN and embedded by FaceNet, with random weights in the published layout."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import expotion_cli
from expotion_cli.errors import MissingLibraryError, UsageError, WeightsError
from expotion_cli.media.frames import Frame
from expotion_cli.timing import num_rows
from expotion_cli.vision import mtcnn, networks
from expotion_cli.vision.encoder import StreamSource
from expotion_cli.vision.facenet import FacenetEncoder, embed, load_network
from expotion_cli.vision.streams import available_encoders, encode_clip
from expotion_cli.vision.tracking import overlap


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A file in the layout of the published one, its classifier included."""
    from facenet_pytorch import InceptionResnetV1

    torch.manual_seed(0)
    network = InceptionResnetV1(pretrained=None, classify=True, num_classes=8631)
    path = tmp_path_factory.mktemp("facenet") / "vggface2.pt"
    torch.save(network.state_dict(), path)
    yield path
    networks.release()


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    """uint8 [480, 640, 3]: a face of about 150 pixels before a grey wall."""
    person = Image.open(Path(expotion_cli.__file__).parent / "data" / "portrait.jpg").convert("RGB")
    scale = 440 / person.height
    person = person.resize((round(person.width * scale), 440))
    wall = Image.new("RGB", (640, 480), (120, 125, 130))
    wall.paste(person, ((640 - person.width) // 2, 40))
    return np.asarray(wall)


def look(weights: Path, frames: list[np.ndarray], rate_hz: float = 5.0) -> tuple[np.ndarray, np.ndarray]:
    encoder = FacenetEncoder(weights=weights, device="cpu", rate_hz=rate_hz)
    encoder.begin()
    for number, pixels in enumerate(frames):
        encoder.feed(Frame(number / rate_hz, pixels))
    return encoder.finish(Fraction(len(frames)) / Fraction(rate_hz))


def shifted(portrait: np.ndarray, right: int) -> np.ndarray:
    return np.roll(portrait, right, axis=1)


def test_a_face_becomes_a_vector_of_length_one_at_each_row(weights, portrait):
    values, mask = look(weights, [shifted(portrait, 4 * i) for i in range(6)])
    assert values.shape == (6, 512) and values.dtype == np.float32 and mask.all()
    assert np.linalg.norm(values, axis=1) == pytest.approx(np.ones(6), abs=1e-5)


def test_the_vectors_are_facenets_own_of_the_same_cuts(weights, portrait):
    """Folding the batch norms into the convolutions changes roundings alone."""
    from facenet_pytorch import InceptionResnetV1

    own = InceptionResnetV1(pretrained=None, classify=False).eval()
    tensors = torch.load(weights, weights_only=True)
    own.load_state_dict({name: t for name, t in tensors.items() if not name.startswith("logits.")})
    finder = mtcnn.FaceFinder()
    (box,), _ = finder.find(0.0, portrait)
    face = mtcnn.cut_out(portrait, box)
    with torch.no_grad():
        wanted = own((torch.from_numpy(face.copy()).permute(2, 0, 1)[None].float() - 127.5) / 128)[0].numpy()
    found = next(embed(load_network(weights, "", "cpu"), [face], "cpu"))[0]
    assert found == pytest.approx(wanted, abs=1e-4) and wanted.std() > 0.01


def test_boxes_are_those_of_mtcnn_at_full_size(portrait):
    usual = networks_mtcnn().detect(Image.fromarray(portrait))[0]
    finder, found = mtcnn.FaceFinder(), []
    for number in range(4):
        boxes, _ = finder.find(number / 5, portrait)
        found.append(boxes[0])
    overlaps = [overlap(box, usual[0]) for box in found]
    assert len(usual) == 1 and np.mean(overlaps) > 0.88 and min(overlaps) > 0.75


def networks_mtcnn():
    """facenet-pytorch's MTCNN with its defaults."""
    from facenet_pytorch import MTCNN

    return MTCNN()


def test_gaps_are_filled_and_told(weights, portrait):
    wall = np.full_like(portrait, 128)
    values, mask = look(weights, [portrait] * 4 + [wall] + [portrait] * 4 + [wall] * 5)
    assert mask.tolist() == [True] * 4 + [False] + [True] * 4 + [False] * 5
    assert np.linalg.norm(values, axis=1) == pytest.approx(np.ones(14), abs=1e-5)
    assert np.array_equal(values[9], values[13])  # held


def test_where_nobody_is_seen_all_is_zero_and_nothing_masked_in(weights):
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    values, mask = look(weights, [noise] * 4)
    assert not values.any() and not mask.any() and values.shape == (4, 512)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (2, 900), (720, 1280)])
def test_pictures_of_every_size_pass(weights, size):
    values, mask = look(weights, [np.full((*size, 3), 90, np.uint8)] * 3)
    assert values.shape == (3, 512) and not mask.any()


def test_a_second_clip_remembers_nothing_and_a_second_run_is_identical(weights, portrait):
    encoder = FacenetEncoder(weights=weights, device="cpu")
    results = []
    for pixels in (portrait, np.full_like(portrait, 128), portrait):
        encoder.begin()
        for number in range(4):
            encoder.feed(Frame(number / 5, pixels))
        results.append(encoder.finish(Fraction(4, 5)))
    assert np.array_equal(results[0][0], results[2][0]) and results[0][1].all()
    assert not results[1][1].any()


def test_it_can_be_closed_in_the_middle_of_a_clip_and_begun_again(weights, portrait):
    encoder = FacenetEncoder(weights=weights, device="cpu")
    encoder.begin()
    encoder.feed(Frame(0.0, portrait))
    encoder.close()
    encoder.close()
    encoder.begin()
    encoder.feed(Frame(0.0, portrait))
    values, mask = encoder.finish(Fraction(1, 5))
    assert values.shape == (1, 512) and mask.all()


def test_what_goes_wrong_while_faces_are_sought_is_told_at_the_end(weights, portrait, monkeypatch):
    def break_down(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(mtcnn.FaceFinder, "find", break_down)
    with pytest.raises(RuntimeError, match="out of memory"):
        look(weights, [portrait] * 20)


@pytest.mark.parametrize("fps", [15, 25, 60])
def test_rows_fill_a_clip_at_5_a_second(weights, moving_patch, fps):
    clip = moving_patch(160, 120, 0.9, fps=fps)
    source = StreamSource("facenet", {"weights": weights, "device": "cpu"})
    stream = encode_clip(clip, [source])["facenet"]
    assert len(stream.values) == num_rows(Fraction(9, 10), Fraction(5)) and not stream.mask.any()
    assert stream.dims == tuple(map(str, range(512)))


def test_without_weights_it_names_the_command_that_fetches_them(moving_patch):
    reason = available_encoders()["facenet"]
    assert "expotion fetch facenet" in reason and "111.9 MB" in reason
    with pytest.raises(MissingLibraryError, match="expotion fetch facenet"):
        encode_clip(moving_patch(160, 120, 0.2), ["facenet"])


def test_a_damaged_or_foreign_file_is_refused(weights, tmp_path, portrait):
    tensors = torch.load(weights, weights_only=True)
    del tensors["last_linear.weight"]
    torch.save(tensors, tmp_path / "lacking.pt")
    with pytest.raises(WeightsError, match="last_linear.weight"):
        load_network(tmp_path / "lacking.pt", "", "cpu")
    (tmp_path / "cut.pt").write_bytes(weights.read_bytes()[:50_000])
    with pytest.raises(WeightsError, match="can't be read"):
        load_network(tmp_path / "cut.pt", "", "cpu")


@pytest.mark.parametrize("rate_hz", [0, -1, 26])
def test_rates_out_of_range_are_refused(rate_hz):
    with pytest.raises(UsageError, match="rate_hz"):
        FacenetEncoder(rate_hz=rate_hz)


def test_all_that_decides_the_values_is_in_the_identity(weights):
    plain = FacenetEncoder(weights=weights, device="cpu").identity()
    assert plain["weights"] and plain["mtcnn"] and plain["device"] == "cpu"
    assert plain != FacenetEncoder(weights=weights, device="cpu", rate_hz=10).identity()
