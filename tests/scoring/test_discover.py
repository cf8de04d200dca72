"""Discovery: which files count as clips, and where their results go."""

from __future__ import annotations

import io
from pathlib import Path, PurePath

import pytest

from expotion_cli.errors import UsageError
from expotion_cli.scoring.discover import discover, looks_like_video, read_input_list
from expotion_cli.scoring.naming import destination, refuse_collisions

MP4 = b"\x00\x00\x00\x20ftypisom" + bytes(900)
MKV = b"\x1aE\xdf\xa3" + bytes(900)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {
        "a.mp4": MP4,
        "b/deep/c.mkv": MKV,
        "b/no_suffix": MP4,
        "fake.mp4": b"just words\n",
        "notes.txt": b"words",
        "song.m4a": b"\x00\x00\x00\x20ftypM4A " + bytes(900),
        "code.ts": b"export const x = 1\n" * 60,
        "real.ts": (b"\x47" + bytes(187)) * 5,
        ".hidden.mp4": MP4,
        "._a.mp4": b"finder",
        ".expotion/x.mp4": MP4,
        "scored/a.mp4": MP4,
    }
    for name, content in files.items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "in"


def names(found) -> list[str]:
    return [source.relative.as_posix() for source in found.sources]


def test_a_folder_gives_clips_by_content_or_video_suffix_and_never_the_output_folder(tree):
    found = discover([tree], out=tree / "scored")
    assert names(found) == ["a.mp4", "fake.mp4", "real.ts", "b/no_suffix", "b/deep/c.mkv"]
    assert not found.problems


def test_without_recursion_subfolders_stay_unread(tree):
    assert names(discover([tree], out=tree / "scored", recursive=False)) == ["a.mp4", "fake.mp4", "real.ts"]


def test_a_file_named_on_the_command_line_always_counts(tree):
    assert names(discover([tree / "notes.txt", tree / "b/deep/c.mkv"], out="scored")) == ["notes.txt", "c.mkv"]


def test_globs_are_expanded_here_for_shells_that_do_not(tree):
    assert names(discover([f"{tree}/**/*.mkv"], out="scored")) == ["c.mkv"]
    odd = tree / "take [1].mp4"
    odd.write_bytes(MP4)
    assert names(discover([odd], out="scored")) == ["take [1].mp4"]


def test_the_same_file_given_twice_is_one_clip(tree):
    assert names(discover([tree / "a.mp4", tree, tree / "a.mp4"], out=tree / "scored")).count("a.mp4") == 1


def test_arguments_that_lead_nowhere_are_problems_and_the_others_stay(tree, tmp_path):
    (tmp_path / "empty").mkdir()
    found = discover([tmp_path / "gone.mp4", f"{tree}/*.xyz", tmp_path / "empty", tree / "a.mp4"], out="scored")
    assert names(found) == ["a.mp4"]
    reasons = [str(problem) for problem in found.problems]
    assert "no such file" in reasons[0] and "nothing matches" in reasons[1] and "holds no video" in reasons[2]
    assert all(problem.remedy for problem in found.problems)


def test_the_output_folder_can_not_be_the_input_folder(tree):
    with pytest.raises(UsageError, match="also an input"):
        discover([tree], out=tree)


def test_linked_folders_do_not_loop(tree):
    (tree / "b" / "again").symlink_to(tree, target_is_directory=True)
    assert len(discover([tree], out=tree / "scored").sources) == 5


def test_a_list_has_one_path_a_line_and_may_come_from_standard_input(tmp_path, monkeypatch):
    path = tmp_path / "list.txt"
    path.write_text("# mine\n\n a.mp4 \nb c.mov\n")
    assert read_input_list(path) == ["a.mp4", "b c.mov"]
    monkeypatch.setattr("sys.stdin", io.StringIO("x.mp4\n"))
    assert read_input_list("-") == ["x.mp4"]
    with pytest.raises(UsageError, match="can't be read"):
        read_input_list(tmp_path / "none.txt")


def test_results_keep_the_clips_own_name_and_mirror_the_tree():
    assert destination("out", PurePath("b/deep/c.mkv"), ".mkv") == Path("out/b/deep/c.mkv")
    assert destination("out", PurePath("A.MP4"), ".mp4") == Path("out/A.MP4")
    assert destination("out", PurePath("old.avi"), ".mkv") == Path("out/old.mkv")
    assert destination("out", PurePath("take.2"), ".mp4") == Path("out/take.2.mp4")


def test_a_link_inside_the_output_folder_can_not_lead_out_of_it(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(UsageError, match="outside the output folder"):
        destination(tmp_path / "out", PurePath("b/c.mp4"), ".mp4")


@pytest.mark.parametrize(
    "pairs",
    [
        [("x/a.mp4", "out/a.mp4"), ("y/a.mp4", "out/a.mp4")],
        [("a.mp4", "out/a.mp4"), ("a.mov", "out/a.mov")],
        [("a.mp4", "out/a.mp4"), ("A.mp4", "out/A.mp4")],
    ],
)
def test_inputs_that_would_collide_are_named(pairs):
    with pytest.raises(UsageError) as caught:
        refuse_collisions((Path(one), Path(two)) for one, two in pairs)
    assert all(one in str(caught.value) for one, _ in pairs)


def test_a_result_never_overwrites_an_input(tmp_path):
    with pytest.raises(UsageError, match="overwrite"):
        refuse_collisions([(tmp_path / "a.mp4", tmp_path / "a.mp4")])


def test_real_clips_look_like_video(real_clips):
    assert all(looks_like_video(path) for path in real_clips)
