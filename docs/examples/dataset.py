"""Keep a copy of the data set of faces, and match pictures with it: python dataset.py --help."""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import requests

EXPIRED = 410
"""Status of an answer to who has been away for so long that the service no longer knows all that was deleted."""


def ask(options, method, path, **request):
    """The service's answer."""
    response = requests.request(method, options.url + path, headers={"X-API-Key": options.key}, timeout=60, **request)
    if not response.ok and response.status_code != EXPIRED:
        raise SystemExit(f"{response.status_code}: {response.text}")
    return response


def load(path):
    """The copy, empty before the first time."""
    return json.loads(path.read_text()) if path.exists() else {"space": None, "cursor": "", "faces": {}}


def follow(options):
    """Apply what has changed since the last time, page by page."""
    copy, more = load(options.copy), True
    while more:
        response = ask(options, "GET", "/faces/sync", params={"last_updated_at": copy["cursor"]})
        space = response.headers.get("X-Embedding-Space")
        if response.status_code == EXPIRED or copy["space"] not in (None, space):  # too late, or another model
            copy = {"space": None, "cursor": "", "faces": {}}
            continue
        for entry in response.json():
            copy["faces"].pop(str(entry["faceId"]), None)
            if not entry.get("deleted"):
                copy["faces"][str(entry["faceId"])] = entry
        copy.update(space=space, cursor=response.headers["X-Next-Cursor"], metric=response.headers["X-Metric"])
        copy["threshold"] = float(response.headers["X-Threshold"])
        more = "next" in response.links
    options.copy.write_text(json.dumps(copy))
    print(f"{len(copy['faces'])} faces, up to {copy['cursor']}")


def nearest(copy, probe):
    """The nearest face of the copy, measured as the service does."""
    known = list(copy["faces"].values())
    rows = np.array([entry["faceEncoding"] for entry in known]).reshape(-1, len(probe))
    if copy["metric"] != "euclidean":  # the others compare directions
        rows, probe = rows / np.linalg.norm(rows, axis=1, keepdims=True), probe / np.linalg.norm(probe)
    apart = np.linalg.norm(rows - probe, axis=1)
    distance = {"euclidean": apart, "tenfold-unit-euclidean": 10 * apart, "cosine": apart**2 / 2}[copy["metric"]]
    near = known[distance.argmin()] if known and distance.min() < copy["threshold"] else {}
    return {"face_id": near.get("faceId"), "unique_args": near.get("uniqueArgs")}


def match(options, photo):
    """Say who is on a photo: by the service, or by the copy, for which the service gives only the encodings."""
    path, copy = "/face/detect?encoding=true" if options.local else "/face/match", load(options.copy)
    response = ask(options, "POST", path, files={"image": photo.read_bytes()})
    if options.local and response.headers["X-Embedding-Space"] != copy["space"]:
        raise SystemExit("The copy is empty or of another model: follow first.")
    for face in response.json()["faces"]:
        near = nearest(copy, face["face_encoding"]) if options.local else face
        print(near["face_id"], json.dumps(near["unique_args"]))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--url", default=os.environ.get("FACES_URL", "http://127.0.0.1:6337"))
parser.add_argument("--key", default=os.environ.get("FACES_KEY"), help="API key, if the service needs one")
parser.add_argument("--copy", type=Path, default=Path("faces.json"), help="file with the copy (default: %(default)s)")
parser.add_argument("--local", action="store_true", help="match with the copy, not with the service's gallery")
parser.add_argument("command", choices=["follow", "match"], help="bring the copy up to date, or say who is on photos")
parser.add_argument("photos", type=Path, nargs="*")
options = parser.parse_args()
if options.command == "follow":
    follow(options)
for photo in options.photos:
    match(options, photo)
