"""The record of who changed and removed what: lines of JSON, never shortened."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from svllreid.web.service.folder import append_line

logger = logging.getLogger(__name__)


class Audit:
    """Writes the record.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def announce(self, action: str, **details: Any) -> None:
        """Add a line: what will be done, when, and its details. OSError where it cannot be, and is not to be done."""
        append_line(self.path, {"time": round(time.time(), 3), "action": action, **details})

    def note(self, action: str, **details: Any) -> None:
        """Add a line about what was done. Where that fails, the log says so, since it was done nevertheless."""
        try:
            self.announce(action, **details)
        except OSError as error:
            logger.error("%s lacks an action (%s) that was carried out: %s", self.path, action, error)
