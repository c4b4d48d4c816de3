"""Show who is before a camera or in a video, through /live: python live.py --help."""

import argparse
import asyncio
import os
import struct
import time
from pathlib import Path

import aiohttp
import cv2


async def send(socket, capture, is_file, answered):
    """Send frames with their numbers: of a file each after the answer to the one before, of a camera all."""
    number = 0
    while (read := await asyncio.to_thread(capture.read))[0]:
        if is_file:
            await answered.acquire()
        await socket.send_bytes(struct.pack(">I", number) + cv2.imencode(".jpg", read[1])[1].tobytes())
        number += 1
    if is_file:
        await answered.acquire()
    await socket.close()


async def show(socket, answered):
    """Print a line whenever the faces in view change."""
    before = None
    async for message in socket:
        answer = message.json()
        answered.release()
        if "error" in answer:
            print(f"frame {answer['frame']}: {answer['error']['message']}")
            continue
        faces = sorted(f"{face['track']}: {face['name'] or 'unknown'}" for face in answer["faces"] if face["firm"])
        if faces != before:
            print(time.strftime("%H:%M:%S"), f"frame {answer['frame']}", ", ".join(faces) or "nobody", flush=True)
            before = faces
    if socket.close_code not in (None, 1000):  # None when it was closed here
        raise SystemExit(f"The service ended the session with code {socket.close_code}.")


async def main():
    """Connect, and send and receive at the same time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default=os.environ.get("FACES_URL", "http://127.0.0.1:6337"))
    parser.add_argument("--key", default=os.environ.get("FACES_KEY"), help="API key, if the service needs one")
    parser.add_argument("source", help="number of a camera, path of a video, or address of a stream")
    options = parser.parse_args()
    capture = cv2.VideoCapture(int(options.source) if options.source.isdecimal() else options.source)
    if not capture.isOpened():
        raise SystemExit(f"{options.source} cannot be opened.")
    is_file = Path(options.source).is_file()
    answered = asyncio.Semaphore(1)
    headers = {"X-API-Key": options.key} if options.key else {}
    async with aiohttp.ClientSession() as client, client.ws_connect(options.url + "/live", headers=headers) as socket:
        if is_file:  # its time is that of its frames, not the clock's
            await socket.send_json({"fps": capture.get(cv2.CAP_PROP_FPS) or 25})
        sending = asyncio.create_task(send(socket, capture, is_file, answered))
        try:
            await show(socket, answered)
        finally:
            sending.cancel()


asyncio.run(main())
