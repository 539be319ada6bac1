"""Checks of the numbers that users pass as arguments."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

from svllreid.errors import ReidError


def whole_number(value: Any, name: str, error: type[ReidError], least: int = 1) -> int:
    """Checks a count and returns it as an int. 10.0, which tables and JSON files may hold, is 10.

    >>> whole_number(10.0, "num_instances", ReidError)
    10
    >>> whole_number(2.5, "num_instances", ReidError)
    Traceback (most recent call last):
    svllreid.errors.ReidError: num_instances is 2.5; use a whole number of at least 1

    Args:
        value: the user's value, of any type.
        name: the argument's name in the message.
        error: the type of error to raise.
        least: the smallest value allowed.
    Raises: error: the value is not a whole number, or below `least`.
    """
    whole = isinstance(value, Integral) or (isinstance(value, Real) and float(value).is_integer())
    if not whole or isinstance(value, bool) or value < least:
        raise error(f"{name} is {value!r}; use a whole number of at least {least}")
    return int(value)


def share(value: Any, name: str, error: type[ReidError]) -> float:
    """Checks a number from 0 to 1 and returns it as a float; the arguments are those of `whole_number`.

    Raises: error: the value is not a number from 0 to 1.
    """
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:
        raise error(f"{name} is {value!r}; use a number from 0 to 1")
    return float(value)
