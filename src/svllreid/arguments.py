"""Checks of numbers that users give: what is no such number is refused in words, before it fails somewhere inside."""

from __future__ import annotations

from numbers import Integral, Real
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
    whole = isinstance(value, Integral) or (isinstance(value, Real) and float(value).is_integer())
    if not whole or isinstance(value, bool) or value < least:
        raise error(f"{name} is {value!r}; use a whole number of at least {least}")
    return int(value)


def share(value: Any, name: str, error: type[ReidError]) -> float:
    """A number from 0 to 1 as a float; see `whole_number`."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:
        raise error(f"{name} is {value!r}; use a number from 0 to 1")
    return float(value)
