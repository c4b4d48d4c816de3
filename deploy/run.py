"""``make run``: fetch what is missing, start both services, wait until they are ready, stop both on Ctrl-C."""

from __future__ import annotations

import signal
import sys

from shared.signals import end_at_once


def main() -> int:
    """Run until a signal or the end of a service; returns the exit status."""
    # Who is started in the background of a shell script inherits that Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    end_at_once()
    # What takes its time can be interrupted, too.
    from deploy.foreground import run

    return run()


if __name__ == "__main__":
    sys.exit(main())
