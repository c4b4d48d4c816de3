"""gunicorn -c face_detection/gunicorn.conf.py"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from typing import Any

from shared.errors import SettingsError, StartupError
from shared.logs import logging_config
from shared.settings import FrontSettings

try:
    settings = FrontSettings.from_environment()
    if settings.front_workers > 1 and settings.database == ":memory:":
        raise SettingsError("FRONT_WORKERS > 1 needs a database file: processes cannot share DATABASE=:memory:.")
except StartupError as error:
    sys.exit(f"face_detection: {error.message}")

wsgi_app = "face_detection.app:serve()"
bind = settings.front_bind
worker_class = "aiohttp.GunicornWebWorker"
workers = settings.front_workers
timeout = 120
# Requests, their writes and their events have less by themselves, see app.py.
graceful_timeout = 30
# Both services would share one socket in the user's home.
control_socket_disable = True
logconfig_dict = logging_config(settings.log_level)
proc_name = "face-detection"

# Searches are spread over threads of their own; those of NumPy's BLAS would get in their way, and spin for a while
# after every product. Read when a worker imports NumPy.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def child_exit(server: Any, worker: Any) -> None:
    """Take what a worker counted of the present, such as requests that it worked on, out of the metrics."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        from prometheus_client.multiprocess import mark_process_dead  # not before the variable is set

        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def worker_exit(server: Any, worker: Any) -> None:
    """Try again where a worker takes the place of another and cannot start, as while the database is away.

    gunicorn would end the whole service, as it must when the first ones cannot.
    """
    if worker.age > workers and not worker.booted:
        time.sleep(1)
        os._exit(1)


if workers > 1 and "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
    # Before any worker imports the client library, which reads it then.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="face-detection-metrics-")
