"""The record of who changed and removed what: lines of JSON, never shortened."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from svllreid.web.service.folder import append_line


class Audit:
    """Writes the record.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, action: str, **details: Any) -> None:
        """Add a line: what was done, when, and its details. It is on the disk when this returns."""
        append_line(self.path, {"time": round(time.time(), 3), "action": action, **details})
