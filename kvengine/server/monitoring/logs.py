"""The log on standard error: lines of text, or of JSON.

Invariants:

* No line contains a key, a value, a token or a path; only the kind of a request is logged.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from kvengine.server.http.messages import Request

access = logging.getLogger("kvengine.access")
STANDARD = frozenset(vars(logging.makeLogRecord({})))


class JsonFormatter(logging.Formatter):
    """Formats a record as a line of JSON: time, level, logger, message, extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        fields: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= {name: value for name, value in vars(record).items() if name not in STANDARD}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


def set_up(form: str) -> None:
    """Send the logs of kvengine to standard error.

    Args:
        form: "text" or "json".
    """
    handler = logging.StreamHandler(sys.stderr)
    if form == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger("kvengine")
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    root.propagate = False
    # Warnings of libraries get the same format.
    logging.getLogger().handlers[:] = [handler]
    # These two warn about bad input from any client; python-multipart also quotes it.
    for name in ("uvicorn.error", "python_multipart"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def log_request(request: Request, status: int, seconds: float) -> None:
    """Log a request that was answered."""
    fields = {
        "surface": request.surface,
        "action": request.action,
        "method": request.method,
        "status": status,
        "ms": round(seconds * 1000, 3),
    }
    text = " ".join(f"{name}={value}" for name, value in fields.items())
    access.info(text, extra=fields)
