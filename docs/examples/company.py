"""Identify or register a person of a company: python company.py --help."""

import argparse
import base64
import os
import time
from pathlib import Path

import requests

STATUSES = {
    1: "found",
    3: "not found",
    6: "registered",
    5001: "invalid request code",
    5002: "the device belongs to no sector",
    5005: "the company is not registered",
    5009: "incompatible image",
    5012: "the device does not exist",
    5013: "invalid longitude",
    5014: "invalid latitude",
}
CODES = {"identify": 1, "identify-or-register": 2, "register": 3}


def main():
    """Send one photo, and print what became of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default=os.environ.get("FACES_URL", "http://127.0.0.1:6337"))
    parser.add_argument("--key", default=os.environ.get("FACES_KEY"), help="API key, if the service needs one")
    parser.add_argument("--company", type=int, required=True)
    parser.add_argument("--device", type=int, required=True)
    parser.add_argument("--person", type=int, help="key to register under")
    parser.add_argument("--latitude", type=float)
    parser.add_argument("--longitude", type=float)
    parser.add_argument("what", choices=CODES)
    parser.add_argument("photo", type=Path)
    options = parser.parse_args()
    body = {
        "requestNumber": time.time_ns() // 1000,
        "companyCode": options.company,
        "captureDeviceCode": options.device,
        "appCode": CODES[options.what],
        "keyPerson": options.person,
        "latitude": options.latitude,
        "longitude": options.longitude,
        "typeImage": 2,
        "imageValidate": base64.b64encode(options.photo.read_bytes()).decode(),
    }
    headers = {"X-API-Key": options.key} if options.key else {}
    response = requests.post(options.url + "/companies/recognition", json=body, headers=headers, timeout=60)
    if not response.ok:  # what has no status of its own, such as a missing key or a service that is busy
        raise SystemExit(f"{response.status_code}: {response.json()['error']['message']}")
    answer = response.json()
    assert answer["requestNumber"] == body["requestNumber"]
    if answer["status"] > 5000:
        raise SystemExit(f"{answer['status']}: {STATUSES[answer['status']]}")
    person = "" if answer["status"] == 3 else f": {answer['idPerson']}"
    print(f"{STATUSES[answer['status']]}{person}")


main()
