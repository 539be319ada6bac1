"""Where files that are made or fetched once are kept for later runs."""

from __future__ import annotations

import os
from pathlib import Path

from svllreid.files import user_path


def cache_folder() -> Path:
    """The folder: SVLLREID_CACHE, else `svllreid` in XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("SVLLREID_CACHE"):
        return user_path(own)
    return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "svllreid"
