"""gunicorn -c face_detection/gunicorn.conf.py"""

from __future__ import annotations

import os
import sys
import tempfile

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
keepalive = 75
timeout = 120
graceful_timeout = 30
# Both services would share one socket in the user's home.
control_socket_disable = True
logconfig_dict = logging_config(settings.log_level)
proc_name = "face-detection"

# Searches are spread over threads of their own; those of NumPy's BLAS would get in their way, and spin for a while
# after every product. Read when a worker imports NumPy.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

if workers > 1 and "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
    # Before any worker imports the client library, which reads it then.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="face-detection-metrics-")
