"""How a program ends when a signal tells it to: with one line, and with the status 128 + number.

``end_at_once`` is for what a program does before it can do anything else, so this module imports next to nothing and is
early. ``run`` is for a command line: ``Stopped`` is raised in its main thread, so that it ends in order. A second
signal ends the program as it is, and so does the first while a library holds the main thread up.
"""

from __future__ import annotations

import atexit
import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""That tell a program to end: by Ctrl-C, by other programs, and by a terminal that closes."""

_LINES = {signal.SIGINT: b"Interrupted.\n", signal.SIGTERM: b"Terminated.\n", signal.SIGHUP: b"Hung up.\n"}
_PATIENCE = 2.0
"""Seconds in which the main thread must have heard of a signal."""

_told: list[int] = []
_telling = threading.Lock()


def end_at_once() -> None:
    """Let them end this program with the status 128 + number, but none that it was started to ignore, as by nohup."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    ignore()  # another one must not come between
    _leave(number)


def ignore() -> None:
    """Ignore them from now on: the program is at its end."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _leave(number: int) -> None:
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


class Stopped(SystemExit):
    """The program is to end with the status ``code``, without waiting for threads that are at work."""


class _Signals:
    def __init__(self) -> None:
        self.act: Callable[[int], object] = _stop
        """What the main thread does at a signal that does not end the program as it is."""
        self.patience = 1
        """How many signals these are."""
        self.status: int | None = None
        """With which the program ends once it was told to stop, even if the error gets lost, as in a library."""
        self._count = 0
        self._heard = threading.Semaphore(0)

    def heed(self) -> None:
        """Begin to listen, but to none that the program was started to ignore, as by nohup."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._hear)
        threading.Thread(target=self._watch, args=(reader,), name="signals", daemon=True).start()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        self._heard.release()
        if self._count <= self.patience:
            self.act(number)

    def _watch(self, reader: int) -> None:
        """In a thread of its own: a handler only runs once the main thread comes back to Python."""
        for count in itertools.count(1):
            number = os.read(reader, 1)[0]
            if count > self.patience or not self._heard.acquire(timeout=_PATIENCE):
                _leave(number)


def _stop(number: int) -> NoReturn:
    tell(number)
    _signals.status = 128 + number
    raise Stopped(_signals.status)


_signals = _Signals()


def run(program: Callable[[], int | None]) -> NoReturn:
    """Run a program, whose exit status is what it returns; to be called by the main thread."""
    _signals.heed()
    # The interpreter would die of them while it ends itself. First of all, so that it comes last.
    atexit.register(ignore)
    sys.unraisablehook = _unraisable
    try:
        try:
            status = program()
        finally:
            if _signals.status is not None:
                _finish(_signals.status)
            if sys.stdout:
                sys.stdout.flush()
    except BrokenPipeError:  # nobody reads what is printed
        abandon(sys.stdout.fileno())
        status = 1
    finally:
        _signals.patience = 0
    sys.exit(status)


def _finish(status: int) -> NoReturn:
    """Threads may be at work on what nobody waits for any more, so the interpreter is not asked to wait for them."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with suppress(OSError):
            stream.flush()
    os._exit(status)


def _unraisable(what: UnraisableHookArgs) -> None:
    """A signal that comes in the middle of a finalizer must not get lost, nor be shown as a fault."""
    if isinstance(what.exc_value, Stopped) and _signals.status is not None:
        _finish(_signals.status)
    sys.__unraisablehook__(what)


@contextmanager
def asked(stop: Callable[[], object]) -> Iterator[None]:
    """Within, the first two signals call ``stop``, and ``Stopped`` is raised at the end unless another error is.

    For an event loop, which must not be left in the middle.
    """
    told: list[int] = []

    def act(number: int) -> None:
        tell(number)
        told.append(number)
        stop()

    _signals.act, _signals.patience = act, 2
    try:
        yield
    finally:
        _signals.act, _signals.patience = _stop, 1
    if told:
        _stop(told[0])
