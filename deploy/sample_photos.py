"""Photos for the demonstration and the tests. They travel in public packages and are never part of this project."""

from __future__ import annotations

from pathlib import Path

from feature_extraction.weights.sources import CarriedFile, Carrier, fetch

_FACE_RECOGNITION = Carrier(
    "face-recognition", "1.3.0", "5e5efdd1686aa566af0d3cc1313b131e4b197657a8ffd03669e6d3fad92705ec", sdist=True
)
_INSIGHTFACE = Carrier("insightface", "2.1", "dcd58ee79d99d689572477315f3149353afd65a36dc575f597cbb217a7bde399")


def _photo(name: str, sha256: str) -> CarriedFile:
    return CarriedFile(name, sha256, {_FACE_RECOGNITION: f"face_recognition-1.3.0/tests/test_images/{name}"})


PHOTOS = (
    _photo("obama.jpg", "0930e3aa8cae5920329c0c8cbc6a2ab70f47b0e67b432875beaa95cbf7e741f6"),
    _photo("obama2.jpg", "a7efcc907375274796f39646510704aa86672d59f6d5469d69af3c85590976a6"),
    _photo("obama3.jpg", "76ac6bf97c36dc2da0ad16a537d6a5ac1b10f48d49aac29a0cca9a17cdbc3ca3"),
    _photo("biden.jpg", "3c17508bb91554c637a2eabddfae790e5bb1caba93130814fc2ac50be9760c4c"),
    CarriedFile(
        "t1.jpg",
        "47f682e945b659f93a9e490b9c9c4a2a864abe64dace9e1a2893845ddfd69489",
        {_INSIGHTFACE: "insightface/data/images/t1.jpg"},
    ),
)
"""Three photos of one man, one of another, and a group of six strangers."""


def ensure(folder: Path) -> Path:
    """Fetch what is missing into ``folder``.

    Raises:
        WeightsError: the packages cannot be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [photo for photo in PHOTOS if not (folder / photo.name).is_file()]
    if missing:
        fetch(missing, folder, progress=False)
    return folder
