"""The folder for what is made or downloaded once and used by later runs."""

from __future__ import annotations

import os
from pathlib import Path

from svllreid.files import user_path


def cache_folder() -> Path:
    """The folder that SVLLREID_CACHE names, else `svllreid` in XDG_CACHE_HOME or in ~/.cache."""
    if own := os.environ.get("SVLLREID_CACHE"):
        return user_path(own)
    return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "svllreid"
