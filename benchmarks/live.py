"""Live recognition of video clips, against recognising every face of every frame by itself.

One still each of four people is enrolled. ``short_hamilton_clip.mp4`` (275 frames, 640 x 360, 30 a second, four shots):
the data set's list names two of them for it. Who is where was labelled by hand, shot by shot: the cuts were found by
looking at the frames, and within a shot a rule on the box tells the performer from the audience (see ``HAMILTON``). A
face at the left edge of the first shot, 23 pixels wide, has no label. The audience are strangers to both performers;
who sits there the list does not say, so a name that is no performer's is shown in the second table and counted nowhere.
``obama_hieubkvn.mp4`` (153 frames, 854 x 480) shows one man throughout, whom the list names.

The rules of ``face_detection.live.tracking`` were chosen with an eye on the first clip, not on the second.

- *every face of every frame*: ``Recognition.identify``, the nearest sample decides.
- *live*: ``LiveSession`` with the clip's own times, each frame after the answer to the one before.
- *live without voting*: the same with former votes struck out, so that the latest comparison alone decides.

Both run in this process before one real extraction service; rounds alternate, medians are printed.

Example:
    python -m benchmarks.live --rounds 3
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import cv2
from aiohttp import web

from benchmarks.accuracy import FACES
from deploy.services import Services
from face_detection.api.operation import RECOGNITION
from face_detection.api.own.live_conversation import LIVE
from face_detection.app import create_app
from face_detection.gallery.events import Occasion
from face_detection.live import tracking
from face_detection.live.session import LiveSession
from face_detection.recognition.enrolment import Enrolment
from shared.geometry import Box
from shared.settings import FrontSettings

STILLS = {
    "Miranda": "lin-manuel-miranda.png",
    "Lacamoire": "alex-lacamoire.png",
    "Obama": "obama.jpg",
    "Biden": "biden.jpg",
}
NOT_IN_THE_AUDIENCE = frozenset({"Miranda", "Lacamoire", "Biden"})
FPS = 30
STRANGER = "stranger"


def _first(box: Box) -> str | None:
    return "Miranda" if box.x > 320 else None


def _second(box: Box) -> str:
    return "Lacamoire" if box.width > 100 else STRANGER


Shots = Sequence[tuple[int, Callable[[Box], str | None]]]
"""Where each shot ends, and whose a box in it is; None for unknown."""

HAMILTON: Shots = (
    (20, _first),
    (83, _second),
    (211, lambda box: "Miranda"),
    (275, lambda box: STRANGER),
)
CLIPS: Mapping[str, Shots] = {
    "short_hamilton_clip.mp4": HAMILTON,
    "obama_hieubkvn.mp4": ((153, lambda box: "Obama"),),
}


@dataclass(frozen=True)
class Seen:
    """A face of a frame, whose it is by hand, the name that it was given, and whether it was embedded for that."""

    frame: int
    label: str | None
    name: str | None
    embedded: bool


def label(shots: Shots, frame: int, box: Box) -> str | None:
    """Whose a face is by hand."""
    return next(rule for end, rule in shots if frame < end)(box)


def read_frames(path: Path) -> list[bytes]:
    """The frames of a clip as JPEG."""
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(cv2.imencode(".jpg", read[1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    return frames


def report(title: str, seen: Sequence[Seen], rates: Sequence[float]) -> str:
    """A row of the table."""
    performers = [one for one in seen if one.label not in (None, STRANGER)]
    right = sum(one.name == one.label for one in performers)
    wrong = sum(one.name not in (None, one.label) for one in performers)
    strangers = [one for one in seen if one.label == STRANGER]
    named = sum(one.name in NOT_IN_THE_AUDIENCE for one in strangers)
    frames = 1 + max(one.frame for one in seen)
    embedded = sum(one.embedded for one in seen)
    return (
        f"| {title} | {right / len(performers):.1%} of {len(performers)} | {wrong} | {named} of {len(strangers)} | "
        f"{embedded} | {embedded / frames:.2f} | {statistics.median(rates):.1f} ({min(rates):.1f} … {max(rates):.1f}) |"
    )


def seconds_of(seen: Iterable[Seen]) -> dict[str, str]:
    """In which seconds of the clip each name is seen in at least three frames."""
    counts: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for one in seen:
        if one.name:
            counts[one.name][one.frame // FPS] += 1
    return {
        name: ", ".join(str(second) for second, count in sorted(seconds.items()) if count >= 3)
        for name, seconds in counts.items()
    }


def changes(seen: Sequence[Seen]) -> int:
    """How often the name of a labelled person's face differs from that in the frame before."""
    latest: dict[str, tuple[int, str | None]] = {}
    count = 0
    for one in seen:
        if one.label not in (None, STRANGER):
            before = latest.get(one.label)
            count += before is not None and before[0] == one.frame - 1 and before[1] != one.name
            latest[one.label] = (one.frame, one.name)
    return count


async def measure(settings: FrontSettings, rounds: int) -> None:
    """Run both on every clip and print."""
    app = create_app(settings)
    enrolments = [Enrolment(name, name, (FACES / "stills" / file).read_bytes()) for name, file in STILLS.items()]
    await app[RECOGNITION].enrol("default", enrolments)
    for name, shots in CLIPS.items():
        await measure_clip(app, name, shots, rounds)
    await app[RECOGNITION].close(0)


async def measure_clip(app: web.Application, clip: str, shots: Shots, rounds: int) -> None:
    """Run both on a clip and print."""
    frames = read_frames(FACES / "video" / clip)
    recognition = app[RECOGNITION]
    every: list[Seen] = []
    followed: list[Seen] = []
    unvoted: list[Seen] = []
    rates: dict[str, list[float]] = {"every": [], "live": [], "unvoted": []}
    for _ in range(rounds):
        every, started = [], time.perf_counter()
        for number, frame in enumerate(frames):
            for one in await recognition.identify("default", frame):
                every.append(Seen(number, label(shots, number, one.face.box), one.person and one.person.id, True))
        rates["every"].append(len(frames) / (time.perf_counter() - started))
        started = time.perf_counter()
        followed = await follow(app, frames, shots)
        rates["live"].append(len(frames) / (time.perf_counter() - started))
        started = time.perf_counter()
        with patch.object(tracking, "_DECAY", 0.0):
            unvoted = await follow(app, frames, shots)
        rates["unvoted"].append(len(frames) / (time.perf_counter() - started))
    print(f"### {clip}\n\n{len(frames)} frames, {len(every)} faces, {rounds} rounds\n")
    print("| | named right | named wrong | strangers named | embeddings | a frame | frames a second |")
    print("|---|---|---|---|---|---|---|")
    print(report("every face of every frame", every, rates["every"]))
    print(report("live without voting", unvoted, rates["unvoted"]))
    print(report("live", followed, rates["live"]))
    ratio = statistics.median(rates["live"]) / statistics.median(rates["every"])
    fewer = len(every) / sum(one.embedded for one in followed)
    print(f"\n{fewer:.1f} times fewer embeddings, {ratio:.2f} times as many frames a second.")
    print(
        f"From a frame to the next the name changes {changes(every)} times, live without voting {changes(unvoted)}, "
        f"live {changes(followed)} times."
    )
    print("\n| name | seconds of the clip, every frame by itself | live |\n|---|---|---|")
    alone, voted = seconds_of(every), seconds_of(followed)
    for name in STILLS:
        print(f"| {name} | {alone.get(name) or '-'} | {voted.get(name) or '-'} |")
    print()


async def follow(app: web.Application, frames: Sequence[bytes], shots: Shots) -> list[Seen]:
    """All frames through one live session."""
    session, seen = LiveSession(app[LIVE], "default", Occasion()), []
    for number, frame in enumerate(frames):
        for face in (await session.process(frame, number / FPS)).faces:
            whose = label(shots, number, face.box)
            seen.append(Seen(number, whose, face.person and face.person.id, face.embedded))
    return seen


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for clip in CLIPS:
        if not (FACES / "video" / clip).is_file():
            sys.exit(f"There is no clip {clip} in {FACES / 'video'}.")
    with tempfile.TemporaryDirectory() as folder:
        with Services.on_free_ports({**os.environ, "LOG_LEVEL": "WARNING"}, Path(folder)) as services:
            settings = FrontSettings.from_environment().model_copy(
                update={"database": f"{folder}/live.db", "extraction_url": services.extraction.url}
            )
            asyncio.run(measure(settings, arguments.rounds))


if __name__ == "__main__":
    main()
