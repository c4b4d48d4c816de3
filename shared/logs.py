"""Structured logs: one JSON object per line on standard error, with the request's id.

What must never be logged: pictures, embeddings, keys. Log what was counted and timed instead.
"""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from contextvars import ContextVar
from typing import Any

from typing_extensions import override

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the request that is being served in this context, or empty."""

_ACCEPTED_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def new_request_id(proposed: str | None) -> str:
    """The id that a client proposes if it is short and harmless, else a fresh one."""
    if proposed and _ACCEPTED_ID.fullmatch(proposed):
        return proposed
    return uuid.uuid4().hex


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON; fields given as ``extra`` become members."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id.get():
            line["request_id"] = request_id.get()
        line.update({name: value for name, value in vars(record).items() if name not in _STANDARD})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return json.dumps(line, default=str, allow_nan=False)
        except (TypeError, ValueError):  # keys that are no strings, not-a-number, a cycle: JSON knows none of them
            return json.dumps({name: str(value) for name, value in line.items()})


def logging_config(level: str) -> dict[str, Any]:
    """Configuration for ``logging.config.dictConfig``, also for gunicorn's own loggers."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"level": level, "handlers": ["stderr"]},
        "loggers": {
            "gunicorn.error": {"level": level, "handlers": [], "propagate": True},
            "gunicorn.access": {"level": "WARNING", "handlers": [], "propagate": True},
        },
    }
