"""Teach a gallery who somebody is, and ask whether a picture shows them: python keyed.py --help."""

import argparse
import base64
import json
import os
from pathlib import Path

import requests


def encode(photo):
    """A photo as base64."""
    return base64.b64encode(photo.read_bytes()).decode()


def describe(answer):
    """An answer in one line."""
    return f"{answer['responseType']}: {answer.get('successDescription') or answer['failureDescription']}"


def ask(options, path, **members):
    """Send a request and print the answer."""
    if options.key:
        members["API_KEY"] = options.key
    answer = requests.post(options.url + path, json=members, timeout=900).json()
    sure = answer["confidencePercentage"]
    print(describe(answer) + (f" ({sure:.0f} %)" if sure else ""))
    return answer


def train(options):
    """Learn photos in one request."""
    answer = ask(options, "/train/", userName=options.user, stream=[encode(photo) for photo in options.photos])
    for problem in answer.get("photos", []):
        print(f"  {options.photos[problem['index']].name}: {problem['message']}")


def stream(options):
    """Learn photos one after another; each is read only when the service wants it."""
    lines = (json.dumps({"picture": encode(photo)}).encode() + b"\n" for photo in options.photos)
    headers = {"Content-Type": "application/x-ndjson"} | ({"X-API-Key": options.key} if options.key else {})
    url, query = f"{options.url}/train/stream", {"userName": options.user}
    with requests.post(url, params=query, data=lines, headers=headers, stream=True, timeout=900) as response:
        for answer in map(json.loads, response.iter_lines()):
            if "photo" not in answer:
                print(describe(answer))
            elif answer["responseType"] == "FAILURE":
                print(f"  {options.photos[answer['photo'] - 1].name}: {answer['failureDescription']}")


def recognize(options):
    """Whether a picture shows the user, or who it shows."""
    ask(options, "/recognize/", picture=encode(options.photo), **({"userName": options.user} if options.user else {}))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--url", default=os.environ.get("FACES_URL", "http://127.0.0.1:6337"))
parser.add_argument("--key", default=os.environ.get("FACES_KEY"), help="API key, if the service needs one")
commands = parser.add_subparsers(required=True)
for name, do, words in (
    ("train", train, "learn up to 100 photos of a user in one request"),
    ("stream", stream, "learn up to 1000 photos of a user one after another"),
):
    learning = commands.add_parser(name, help=words)
    learning.add_argument("user")
    learning.add_argument("photos", type=Path, nargs="+")
    learning.set_defaults(do=do)
recognizing = commands.add_parser("recognize", help="ask whether a picture shows a user, or who it shows")
recognizing.add_argument("photo", type=Path)
recognizing.add_argument("--user", help="who it should be")
recognizing.set_defaults(do=recognize)
chosen = parser.parse_args()
chosen.do(chosen)
