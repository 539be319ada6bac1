"""SciPy and scikit-learn, which only calibrating and clustering need."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from svllreid.errors import EvaluationError


def need(name: str) -> ModuleType:
    """A module of SciPy or scikit-learn.

    >>> need("scipy.stats").__name__
    'scipy.stats'

    Raises: EvaluationError: it is not installed; the message names the extra to install.
    """
    try:
        return import_module(name)
    except ImportError:
        raise EvaluationError(
            "calibrating and clustering need SciPy and scikit-learn; install them with: pip install 'svllreid[search]'"
        ) from None
