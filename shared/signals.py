"""What a program does about signals before it can do anything else. Imports next to nothing, so that it is early."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""That tell a program to end: by Ctrl-C, by other programs, and by a terminal that closes."""

_LINES = {signal.SIGINT: b"Interrupted.\n", signal.SIGTERM: b"Terminated.\n", signal.SIGHUP: b"Hung up.\n"}
_told: list[int] = []
_telling = threading.Lock()


def end_at_once() -> None:
    """Let them end this program with the status 128 + number, but none that it was started to ignore, as by nohup."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    ignore()  # another one must not come between
    leave(number)


def ignore() -> None:
    """Ignore them from now on: the program is at its end."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def leave(number: int) -> None:
    """End the process as it is, for a signal. Its children end by themselves, see ``tethered``."""
    tell(number)
    os._exit(128 + number)


def tell(number: int) -> None:
    """Say on standard error, in place of a progress bar, which signal ends the program; only the first time."""
    with _telling:
        if _told:
            return
        _told.append(number)
        line = _LINES[signal.Signals(number)]
        try:
            os.write(2, b"\r\x1b[K" + line if os.isatty(2) else line)
        except OSError:  # nobody reads it
            pass


def say_nothing() -> None:
    """Tell of no signal: whoever else ends this program says why."""
    with _telling:
        _told.append(signal.SIGTERM)


def abandon(descriptor: int) -> None:
    """Throw away what is still written to a file that nobody reads any more, as to a pipe whose reader has ended."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
