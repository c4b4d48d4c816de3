"""Example client: enrol a folder of photos, recognise a photo, clear the gallery.

Examples:
    python test_request.py enrol photos/                 # photos/Ada_Lovelace.jpg → "Ada Lovelace"
    python test_request.py recognise party.jpg
    python test_request.py recognise party.jpg --min-distance 8.5 --unknown
    python test_request.py clear
"""

from __future__ import annotations

import argparse
import base64
import json
import mimetypes
import sys
from pathlib import Path
from typing import Any

import requests


def data_uri(photo: Path) -> str:
    """A photo as a base64 data URI."""
    kind = mimetypes.guess_type(photo.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(photo.read_bytes()).decode()}"


def enrol(url: str, folder: Path) -> Any:
    """Enrol every photo of a folder; file names without suffix become ids, with spaces for underscores names.

    Whatever else lies there is sent too: the answer lists what is no picture.
    """
    photos = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    samples = [
        {"id": photo.stem, "name": photo.stem.replace("_", " "), "image": data_uri(photo), "action": "embedlink"}
        for photo in photos
    ]
    return call("POST", f"{url}/update-samples", samples)


def recognise(url: str, photo: Path, min_distance: float | None, unknown: bool) -> Any:
    """Name the faces of a photo."""
    body: dict[str, Any] = {"image": data_uri(photo), "include_unknown": unknown}
    if min_distance is not None:
        body["min_distance"] = min_distance
    return call("POST", f"{url}/face-recognition", body)


def clear(url: str) -> Any:
    """Delete all samples."""
    return call("POST", f"{url}/clear-samples", None)


def call(method: str, url: str, body: Any) -> Any:
    """Send JSON and return the answer's; ends the program with the service's message when it refuses."""
    try:
        response = requests.request(method, url, json=body, timeout=900)
    except requests.ConnectionError:
        sys.exit(f"Nothing answers at {url}; start the services with: make run")
    answer = response.json()
    if not response.ok:
        sys.exit(f"{response.status_code}: {answer['error']} {answer.get('detail', '')}")
    return answer


def main() -> None:
    """Parse the command line and print the answer as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:6337", help="address of the service (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    enrolling = commands.add_parser("enrol", help="enrol every photo of a folder")
    enrolling.add_argument("folder", type=Path)
    recognising = commands.add_parser("recognise", help="name the faces of a photo")
    recognising.add_argument("photo", type=Path)
    recognising.add_argument("--min-distance", type=float, help="threshold (default: the model's)")
    recognising.add_argument("--unknown", action="store_true", help="list unknown faces too")
    commands.add_parser("clear", help="delete all samples")
    arguments = parser.parse_args()
    match arguments.command:
        case "enrol":
            answer = enrol(arguments.url, arguments.folder)
        case "recognise":
            answer = recognise(arguments.url, arguments.photo, arguments.min_distance, arguments.unknown)
        case _:
            answer = clear(arguments.url)
    print(json.dumps(answer, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
