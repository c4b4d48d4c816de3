"""Train from a folder of folders (people/Ada Lovelace/1.jpg …), and name faces: python training.py --help."""

import argparse
import json
import os
from pathlib import Path

import requests

MOST = 100  # photos of one request


def ask(options, method, path, **request):
    """Send a request; ends the program with the service's message when it refuses."""
    headers = {"X-API-Key": options.key} if options.key else {}
    response = requests.request(method, options.url + path, headers=headers, timeout=900, **request)
    if not response.ok:
        raise SystemExit(f"{response.status_code}: {response.json()['error']}")
    return response


def train(options):
    """Send the photos of each person; what cannot be used is listed."""
    for person in sorted(path for path in options.folder.iterdir() if path.is_dir()):
        photos = sorted(file for file in person.rglob("*") if file.is_file() and not file.name.startswith("."))
        for start in range(0, len(photos), MOST):
            chunk = photos[start : start + MOST]
            files = [("file", (photo.name, photo.read_bytes())) for photo in chunk]
            answer = ask(options, "POST", "/api/train", files=files, data={"name": person.name}).json()
            print(f"{answer['name']}: {answer['trained']} of {len(chunk)} photos")
            for failed in answer["failed"]:
                print(f"  {chunk[failed['photo'] - 1].name}: {failed['error']}")


def recognize(options):
    """Print who is where, or save the picture."""
    query = {"draw": options.draw, "mask": options.mask}
    query = {name: value for name, value in query.items() if value} if options.output else {}
    with options.photo.open("rb") as photo:
        response = ask(options, "POST", "/api/recognize", params=query, files={"file": photo})
    if query:
        options.output.write_bytes(response.content)
        return
    for face in response.json()["faces"]:
        print(f"{face['name']} at {json.dumps(face['location'])}")


def clear(options):
    """Delete one person, or everybody."""
    body = {} if options.name is None else {"json": {"name": options.name}}
    print(f"{ask(options, 'POST', '/api/clear', **body).json()['removed']} photos deleted")


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--url", default=os.environ.get("FACES_URL", "http://127.0.0.1:6337"))
parser.add_argument("--key", default=os.environ.get("FACES_KEY"), help="API key, if the service needs one")
commands = parser.add_subparsers(required=True)
training = commands.add_parser("train", help="train with the photos of a folder of folders")
training.add_argument("folder", type=Path)
training.set_defaults(do=train)
recognizing = commands.add_parser("recognize", help="name the faces of a photo")
recognizing.add_argument("photo", type=Path)
recognizing.add_argument("--output", type=Path, help="save the picture, with --draw or --mask, as a JPEG")
recognizing.add_argument("--draw", action="store_true", help="with boxes and names")
recognizing.add_argument("--mask", choices=["unknown", "all"], help="with these faces made unrecognisable")
recognizing.set_defaults(do=recognize)
clearing = commands.add_parser("clear", help="delete one person, or everybody")
clearing.add_argument("name", nargs="?")
clearing.set_defaults(do=clear)
chosen = parser.parse_args()
if getattr(chosen, "output", None) and not (chosen.draw or chosen.mask):
    parser.error("--output needs --draw or --mask")
chosen.do(chosen)
