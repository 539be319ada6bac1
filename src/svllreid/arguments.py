"""Checks of numbers that users give: what is no such number is refused in words, before it fails somewhere inside."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from svllreid.errors import ReidError


def whole_number(value: Any, name: str, error: type[ReidError], least: int = 1) -> int:
    """A count as an int; 10.0, as tables and JSON files hold it, is 10.

    Args:
        value: what was given.
        name: what to call it in the message.
        error: what is raised.
        least: the smallest count allowed.
    Raises: error: no number, a fraction, or less than `least`.
    """
    number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value != math.floor(value) or value < least:
        raise error(f"{name} is {value!r}; use a whole number of at least {least}")
    return int(value)


def share(value: Any, name: str, error: type[ReidError]) -> float:
    """A number from 0 to 1 as a float; see `whole_number`."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value <= 1:
        raise error(f"{name} is {value!r}; use a number from 0 to 1")
    return float(value)
