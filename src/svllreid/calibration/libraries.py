"""SciPy and scikit-learn, which only calibrating needs."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from svllreid.errors import EvaluationError


def need(name: str) -> ModuleType:
    """A module of SciPy or scikit-learn.

    Raises: EvaluationError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError:
        raise EvaluationError(
            "calibrating needs SciPy and scikit-learn; install them with: pip install 'svllreid[search]'"
        ) from None
