"""Face and pose on a person whose motion is known, and on hand-made landmarks."""

import numpy as np
import pytest

from expotion_cli.vision import landmarks
from expotion_cli.vision.face import BLENDSHAPES, FaceEncoder, face_features, face_state
from expotion_cli.vision.pose import JOINTS, PoseEncoder, pose_features, pose_state
from expotion_cli.vision.streams import encode_clip
from expotion_cli.vision.worker import FACE_COLUMNS, NUM_LANDMARKS, POSE_COLUMNS

TIMES = np.arange(75) / 25


def body(left_wrist=None, hips_visible=True):
    """[75, POSE_COLUMNS] of a person standing still, the left wrist [75, 2] moving by picture heights."""
    places = np.tile([0.5, 0.5], (NUM_LANDMARKS, 1))
    metres = np.zeros((NUM_LANDMARKS, 2))
    known = {"nose": (0, 0.75), "left_shoulder": (0.18, 0.5), "right_shoulder": (-0.18, 0.5),
             "left_elbow": (0.25, 0.25), "right_elbow": (-0.25, 0.25), "left_wrist": (0.3, 0.05),
             "right_wrist": (-0.3, 0.05), "left_hip": (0.12, 0), "right_hip": (-0.12, 0)}  # fmt: skip
    for name, (x, y) in known.items():
        metres[JOINTS[name]] = x, -y
        places[JOINTS[name]] = 0.5 + 0.6 * x, 0.7 - 0.6 * y  # 0.6 picture heights a metre: the torso is 0.3 high
    raw = np.ones((75, POSE_COLUMNS), dtype=np.float32)
    points = raw[:, 1:].reshape(75, NUM_LANDMARKS, 6)
    points[:, :, 2] = 0.0
    points[:, list(JOINTS.values()), 2] = 1.0
    points[:, :, :2], points[:, :, 3:5], points[:, :, 5] = places, metres, 0
    if left_wrist is not None:
        points[:, JOINTS["left_wrist"], :2] += left_wrist
    if not hips_visible:
        points[:, [23, 24], 2] = 0.1
    return raw


def pose_dims(raw):
    values, mask = pose_features(TIMES, pose_state(raw, aspect=1.0), 75)
    return {name: values[:, i] for i, name in enumerate(PoseEncoder.dims)}, mask


@pytest.mark.parametrize("hips_visible", [True, False])
def test_joints_are_measured_in_torso_lengths_even_when_hips_are_hidden(hips_visible):
    dims, mask = pose_dims(body(hips_visible=hips_visible))
    assert mask.all()
    assert dims["torso_size"] == pytest.approx(0.3, abs=0.003)
    assert dims["nose_y"] == pytest.approx(0.5, abs=0.01)
    assert dims["hands_height"] == pytest.approx(0.1, abs=0.01)
    assert dims["openness"] == pytest.approx(1.2, abs=0.02)
    assert dims["energy"].max() == 0


def test_a_moving_left_hand_is_left_energy_and_its_turns_are_accents():
    wave = np.zeros((75, 2))
    wave[:, 0] = 0.1 * (2 / np.pi) * np.arcsin(np.sin(2 * np.pi * TIMES))  # 1 Hz, sharp turns at .25 + n/2
    dims, _ = pose_dims(body(wave))
    assert dims["left_wrist_vx"][5:].max() == pytest.approx(0.4 / 0.3 - 0.06, rel=0.05)
    assert dims["energy_left"].mean() > 0.3 and dims["energy_right"].max() < 1e-4
    peaks = [i for i in range(2, 73) if dims["accent"][i] == dims["accent"][i - 2 : i + 3].max() > 0.1]
    turns = np.arange(0.25, 2.9, 0.5)
    assert len({min(range(len(turns)), key=lambda n: abs(turns[n] - i / 25)) for i in peaks}) == len(turns)
    assert all(min(abs(turns - i / 25)) <= 0.06 for i in peaks)


def test_a_hand_that_is_only_guessed_does_not_move():
    wave = np.zeros((75, 2))
    wave[:, 1] = 0.1 * np.sin(2 * np.pi * TIMES)
    raw = body(wave)
    raw[:, 1:].reshape(75, NUM_LANDMARKS, 6)[:, JOINTS["left_wrist"], 2] = 0.3
    dims, _ = pose_dims(raw)
    assert dims["energy"].max() == 0 and dims["left_wrist_vy"].max() == 0


def test_a_turned_head_has_the_angle_it_was_turned_by():
    raw = np.zeros((75, FACE_COLUMNS), dtype=np.float32)
    raw[:, 0] = 1
    raw[:, 1 + BLENDSHAPES.index("mouthSmileLeft")] = raw[:, 1 + BLENDSHAPES.index("mouthSmileRight")] = 0.8
    yaw = 0.5 * TIMES
    matrices = np.tile(np.eye(4), (75, 1, 1))
    matrices[:, 0, 0] = matrices[:, 2, 2] = np.cos(yaw)
    matrices[:, 0, 2], matrices[:, 2, 0] = np.sin(yaw), -np.sin(yaw)
    raw[:, -16:] = matrices.reshape(75, 16)
    values, mask = face_features(TIMES, face_state(raw), 75)
    dims = {name: values[:, i] for i, name in enumerate(FaceEncoder.dims)}
    assert mask.all()
    assert dims["head_yaw"][5:-5] == pytest.approx(yaw[5:-5], abs=1e-3)
    assert dims["head_yaw_speed"][5:-5] == pytest.approx(0.5, abs=1e-3) == dims["head_speed"][5:-5]
    assert dims["head_pitch"] == pytest.approx(0, abs=1e-6) and dims["valence"] == pytest.approx(0.8, abs=1e-6)
    assert dims["expression_speed"].max() == pytest.approx(0, abs=1e-6)


@pytest.mark.long
def test_a_swaying_person_is_seen_and_their_accents_meet_the_beats(person_clips, capfd):
    clip = person_clips["sway"]
    streams = encode_clip(clip.path)
    face, pose, flow = (streams[name] for name in ("face", "pose", "flow"))
    assert face.coverage >= 0.95 and pose.coverage >= 0.95
    assert pose.dim("left_shoulder_seen").mean() > 0.9 and pose.dim("right_shoulder_seen").mean() > 0.9
    for stream, energy, accent, least in ((face, "head_speed", "head_accent", 0.8), (pose, "energy", "accent", 0.5),
                                          (flow, "energy", "accent", 0.8)):  # fmt: skip
        assert np.corrcoef(stream.dim(energy), clip.energy)[0, 1] > 0.8, stream.name
        times = np.arange(len(stream.mask)) / 25
        truth = sum(np.exp(-0.5 * ((times - beat) / 0.04) ** 2) for beat in clip.accent_times_s)
        assert np.corrcoef(stream.dim(accent), truth)[0, 1] > least, stream.name
    assert capfd.readouterr() == ("", ""), "MediaPipe's chatter stays out of the way"


@pytest.mark.long
def test_a_person_at_rest_has_a_small_fraction_of_a_moving_ones_energy(person_clips, seen_in):
    moving, still = (seen_in(person_clips[name].path) for name in ("sway", "still"))
    for stream, dim, share in (("face", "head_speed", 0.1), ("pose", "energy", 0.3), ("flow", "energy", 0.05)):
        assert still[stream].dim(dim).mean() < share * moving[stream].dim(dim).mean(), stream


def test_where_nobody_is_the_mask_is_false_and_values_are_zero(moving_patch):
    streams = encode_clip(moving_patch(160, 120, 1.0), ["face", "pose"])
    assert set(streams) == {"face", "pose"}
    for stream in streams.values():
        assert stream.values.shape == (25, len(stream.dims))
        assert not stream.mask.any() and (stream.values == 0).all()


@pytest.mark.long
def test_a_clip_seen_after_another_gives_the_same_values_as_alone(person_clips, moving_patch):
    landmarks.close_idle()
    alone = encode_clip(person_clips["still"].path, ["face"])["face"]
    encode_clip(person_clips["sway"].path, ["face"])
    after = encode_clip(person_clips["still"].path, ["face"])["face"]
    assert np.array_equal(alone.values, after.values) and alone.digest == after.digest


@pytest.mark.long
def test_tennis_seen_from_afar_has_players_but_no_faces(real_clip, seen_in):
    streams = seen_in(real_clip("tennis.mp4"))
    assert streams["face"].coverage < 0.02
    assert streams["pose"].coverage > 0.9
    assert streams["flow"].dim("energy").mean() > 0
