"""gunicorn -c feature_extraction/gunicorn.conf.py

One process with many threads: they wait while one batcher feeds the engine. More throughput comes from more
copies of the service behind a load balancer, not from more processes here, which would not share batches.
"""

from __future__ import annotations

import math
import os
import sys
from typing import Any

from gunicorn.arbiter import Arbiter

from shared.errors import StartupError
from shared.logs import logging_config
from shared.settings import ExtractionSettings

try:
    settings = ExtractionSettings.from_environment()
    settings.refuse_open_bind(settings.extraction_bind)
except StartupError as error:
    sys.exit(f"feature_extraction: {error.message}")

wsgi_app = "feature_extraction.app:create_app()"
bind = settings.extraction_bind
worker_class = "feature_extraction.draining.DrainingWorker"
workers = 1
threads = settings.extraction_threads
keepalive = 75
timeout = 120
# The last request is accepted a little later than the signal: on a connection that is kept alive.
graceful_timeout = math.ceil(settings.drain_seconds + settings.embed_timeout) + 3
# Both services would share one socket in the user's home.
control_socket_disable = True
logconfig_dict = logging_config(settings.log_level)
proc_name = "feature-extraction"


def post_worker_init(worker: Any) -> None:
    """Load the model once the process has forked; without a model the service has no reason to run."""
    worker.wsgi.extensions["extraction"].load_in_background(lambda: os._exit(Arbiter.WORKER_BOOT_ERROR))


def pre_request(worker: Any, request: Any) -> None:
    """Wait for a front only so long: one that vanishes in the middle of its request or its answer holds a thread."""
    request.unreader.sock.settimeout(settings.embed_timeout)


def worker_exit(server: Any, worker: Any) -> None:
    """Answer whoever still waits."""
    application = getattr(worker, "wsgi", None)
    if application is not None:
        application.extensions["extraction"].close()
