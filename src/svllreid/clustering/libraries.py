"""The optional libraries of clustering; if they are absent, the error names the extra to install."""

from __future__ import annotations

from types import ModuleType

from svllreid.errors import EvaluationError

_INSTALL = "install it with: pip install 'svllreid[search]'"


def scipy_sparse() -> ModuleType:
    """SciPy's sparse matrices. EvaluationError where SciPy is not installed."""
    try:
        import scipy.sparse
        import scipy.sparse.csgraph
    except ImportError:
        raise EvaluationError(f"clustering needs SciPy, which comes with scikit-learn; {_INSTALL}") from None
    return scipy.sparse


def scikit_learn() -> ModuleType:
    """scikit-learn with its clustering and its measures. EvaluationError where it is not installed."""
    try:
        import sklearn
        import sklearn.cluster
        import sklearn.metrics
        import sklearn.neighbors
    except ImportError:
        raise EvaluationError(f"clustering needs scikit-learn; {_INSTALL}") from None
    return sklearn
