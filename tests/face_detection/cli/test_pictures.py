"""Which files are pictures and videos, by their content, and the way through folders."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from face_detection.cli.pictures import STDIN, Kind, found_below, found_in, is_video, kind_of
from face_detection.cli.video.frames import Video
from tests.conftest import ROOT
from tests.video_frames import Actor, frame_at, write_video

GIF = b"GIF89a and more"

CONTAINERS = [
    *((suffix, "mp4v") for suffix in ("mp4", "m4v", "mov", "3gp", "mkv", "ts", "nut")),
    *((suffix, "MPG2") for suffix in ("mts", "m2ts", "mpg", "vob", "m2v", "mxf")),
    *(("webm", "VP80"), ("ivf", "VP80"), ("flv", "FLV1"), ("wmv", "WMV2"), ("avi", "MJPG"), ("y4m", "I420")),
]


@pytest.mark.parametrize(("suffix", "codec"), CONTAINERS)
def test_videos(photos: Path, tmp_path: Path, suffix: str, codec: str) -> None:
    named, nameless = tmp_path / f"film.{suffix}", tmp_path / "film"
    write_video(
        named, [frame_at([Actor(photos / "obama2.jpg", 20, step=2)], number) for number in range(10)], 25, codec
    )
    named.rename(nameless)
    assert kind_of(nameless) is Kind.VIDEO
    assert len(list(Video(nameless).frames(0.01))) == 10


@pytest.mark.parametrize("name", ["mpeg4.3gp", "x.mts", "upside_down.mp4"])
def test_videos_of_other_programs(name: str, tmp_path: Path) -> None:
    path = ROOT.parent / "shared" / "cases" / name
    if not path.is_file():
        pytest.skip("needs the videos in ../shared/cases")
    assert kind_of(path) is Kind.VIDEO


@pytest.mark.parametrize("name", ["x.mts", "upside_down.mp4"])
def test_h264_without_a_container(name: str, tmp_path: Path) -> None:
    path = ROOT.parent / "shared" / "cases" / name
    if not path.is_file():
        pytest.skip("needs the videos in ../shared/cases")
    capture = cv2.VideoCapture(str(path))
    capture.set(cv2.CAP_PROP_FORMAT, -1)  # the packets as they are
    raw = tmp_path / "x.h264"
    with raw.open("wb") as file:
        while (packet := capture.read())[0]:
            file.write(packet[1].tobytes())
    assert kind_of(raw) is Kind.VIDEO and next(Video(raw).frames(1)).pixels.size


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"G" * 100,
        b"Great, " * 500,
        b"\0\0\x01\0\x01\0\x10\x10" + bytes(100),  # an icon
        b"\0\0\0\x01Bud1" + bytes(100),  # what a Mac remembers of a folder
        b"\0\x01\0\0\0\x0f\0\x80",  # a font
        b"\0\0\0\x20ftypM4A \0\0\0\0",  # sound
        b"\0\0\0\x18ftypcrx \0\0\0\x01",  # a raw picture
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"OggS\0\x02" + bytes(22) + b"\x01vorbis",
        b"ID3\x03\0",
        b"\xff\xfb\x90\0",
        b"PK\x03\x04",
        b"%PDF-1.7",
        b"#EXTM3U\n",
        b"SQLite format 3\0",
        b"\x7fELF\x02\x01\x01",
    ],
)
def test_others(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(data)
    assert kind_of(path) is Kind.OTHER


@given(st.binary(max_size=1000))
def test_any_bytes(data: bytes) -> None:
    assert is_video(data) in (True, False)


def test_recordings_begin_in_the_middle() -> None:
    packet = b"\x47" + bytes(187)
    assert is_video(bytes(100) + 8 * packet)
    assert not is_video(bytes(100) + 8 * (packet + b"\0"))


def test_what_cannot_be_looked_at_is_left_to_whoever_reads_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (STDIN, tmp_path / "pipe", tmp_path / "nowhere", tmp_path):
        assert kind_of(path) is Kind.PICTURE


def test_folders(tmp_path: Path) -> None:
    album = tmp_path / "album"
    deep = album.joinpath(*(["d"] * 300))
    deep.mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in (deep / "x", album / "y.txt", elsewhere / "z", album / ".hidden"):
        path.write_bytes(GIF)
    (album / ".git").mkdir()
    (album / ".git" / "config").write_text("no picture")
    (album / "link").symlink_to(elsewhere)
    (album / "again").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(album)
    os.mkfifo(album / "pipe")
    found = found_in(album, Kind.PICTURE)
    assert found.files == [album / "again" / "z", deep / "x", album / "link" / "z", album / "y.txt"]
    assert found.passed_over == {album / ".hidden": "hidden", album / "pipe": "no file"}
    named = found_below([album / "y.txt", album, album / ".hidden"])
    assert named.files == [album / "y.txt", *found.files[:3], album / ".hidden"]
    assert found_in(album, Kind.VIDEO).passed_over[album / "y.txt"] == "a picture"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(GIF)
    (tmp_path / "folder").mkdir()
    for path in tmp_path.iterdir():
        path.chmod(0)
    found = found_in(tmp_path, Kind.PICTURE)
    (tmp_path / "folder").chmod(0o700)
    assert found.files == [] and set(found.passed_over.values()) == {"it cannot be read: Permission denied"}
    assert len(found.passed_over) == 2
