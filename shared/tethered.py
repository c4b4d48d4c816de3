"""Child processes that end when their parent has ended, however it did, also without a chance to tell them.

The child watches its standard input, a pipe to which nobody but the parent could write: whatever ends the parent, the
system closes it. Run as ``python -m shared.tethered MODULE [ARGUMENT ...]``, this is the child.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from shared import signals

ROOT = Path(__file__).resolve().parent.parent


def start(
    module: str, *arguments: str, environment: Mapping[str, str] | None = None, **options: Any
) -> subprocess.Popen[Any]:
    """Start a Python module as such a child, in a session of its own: Ctrl-C reaches only this process.

    The child gets SIGTERM when this process ends, and also when its standard input is closed, as ``communicate`` and
    the end of the returned object as a context do: wait for its end before.

    Args:
        module, arguments: as after ``python -m``.
        environment: this process's own when None.
        options: those of ``subprocess.Popen``.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "shared.tethered", module, *arguments],
        env=python_environment(os.environ if environment is None else environment),
        stdin=subprocess.PIPE,
        start_new_session=True,
        **options,
    )


def run(module: str, *arguments: str, environment: Mapping[str, str] | None = None, **options: Any) -> int:
    """The same, waiting for its end; the exit status."""
    with start(module, *arguments, environment=environment, **options) as process:
        return process.wait()


def stop(process: subprocess.Popen[Any], seconds: float) -> None:
    """Ask such a child to end; after so many seconds kill it and its children."""
    with process:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            kill(process)


def kill(process: subprocess.Popen[Any]) -> None:
    """End such a child and its children at once."""
    if process.poll() is None:
        with suppress(ProcessLookupError):  # it has ended this moment
            os.killpg(process.pid, signal.SIGKILL)


def python_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which a child finds this installation's packages, wherever it was started."""
    paths = filter(None, [str(ROOT), environment.get("PYTHONPATH")])
    return {**environment, "PYTHONPATH": os.pathsep.join(paths)}


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    signals.say_nothing()  # the parent has
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, name="tether", daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
