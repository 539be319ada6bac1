"""The libraries that serving needs."""

from __future__ import annotations

from importlib.util import find_spec

from svllreid.web.errors import ServeError

NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def check_libraries() -> None:
    """Check that what serving needs is installed. ServeError names the extra that holds it."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ServeError(f"serving needs {', '.join(missing)}; install it with: pip install 'svllreid[web,search]'")
