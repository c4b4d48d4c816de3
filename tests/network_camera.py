"""A network camera that sends Motion JPEG over HTTP, and stops, hangs or refuses on request."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Literal

_PERIOD = 0.05


class NetworkCamera:
    """Serves in threads of this process, within a ``with`` block.

    Attributes:
        frames: JPEGs that are shown in turn.
        mode: ``ok``; ``hang``: connections stay and nothing comes; ``refuse``: none stays, and new ones get a 503.
        url: its address.
    """

    def __init__(self, frames: Sequence[bytes]) -> None:
        self.frames = frames
        self.mode: Literal["ok", "hang", "refuse"] = "ok"
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if camera.mode == "refuse":
                    self.send_error(503)
                    return
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                for number in count():
                    while camera.mode == "hang" and not camera._closed:
                        time.sleep(_PERIOD)
                    if camera.mode == "refuse" or camera._closed:
                        return
                    frame = camera.frames[number % len(camera.frames)]
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(frame)}\r\n\r\n"
                    try:
                        self.wfile.write(head.encode() + frame + b"\r\n")
                    except OSError:  # whoever watched has gone
                        return
                    time.sleep(_PERIOD)

            def log_message(self, *_: object) -> None:
                pass

        self._closed = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/stream"

    def __enter__(self) -> NetworkCamera:
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
