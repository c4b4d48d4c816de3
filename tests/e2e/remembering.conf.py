"""gunicorn -c tests/e2e/remembering.conf.py: see ``remembering.RememberingExtraction``."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

_real = runpy.run_path(str(Path(__file__).parents[2] / "feature_extraction" / "gunicorn.conf.py"))
globals().update({name: value for name, value in _real.items() if not name.startswith("__")})


def post_worker_init(worker: Any) -> None:
    from feature_extraction import service  # only now that the process has forked, as the service itself does
    from tests.remembered import RememberedEmbedder

    opened, seconds = service.open_embedder, float(os.environ["REMEMBERED_SECONDS"])
    service.open_embedder = lambda settings: RememberedEmbedder(opened(settings), seconds)  # type: ignore
    _real["post_worker_init"](worker)
