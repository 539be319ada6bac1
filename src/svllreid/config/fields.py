"""What the schema is made of: sections of keys, kinds of values, and marks that say more of a key than its type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt

if TYPE_CHECKING:
    from svllreid.config.schema import Config


def _switch(on: str, off: str) -> BeforeValidator:
    """YAML reads a bare `on` or `yes` as true: give the published words back."""
    return BeforeValidator(lambda value: {True: on, False: off}.get(value, value) if isinstance(value, bool) else value)


OnOff = Annotated[Literal["on", "off"], _switch("on", "off")]
YesNo = Annotated[Literal["yes", "no"], _switch("yes", "no")]
Precision = Annotated[
    Literal["auto", "32", "tf32", "16-mixed", "bf16-mixed"],
    BeforeValidator(lambda value: str(value) if type(value) is int else value),  # YAML reads a bare 32 as a number
]
Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
Names = str | tuple[str, ...]
Probability = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Pair = tuple[PositiveInt, PositiveInt]
Triple = tuple[float, float, float]


class MayChange:
    """Marks a key that may differ when a run is continued, since it changes nothing that is learned."""


MAY_CHANGE = MayChange()


@dataclass(frozen=True)
class Derived:
    """Marks a key whose default depends on other keys.

    The key is derived where it is not given, null or empty, once all other keys are checked. What it depends on must
    not be derived itself.

    Args:
        default: the configuration to this key's value.
    """

    default: Callable[[Config], Any]


NOT_GIVEN: Any = None
"""Stands in the schema as the default of a number that is marked with Derived."""


class Section(BaseModel):
    """A frozen part of the tree that refuses unknown keys."""

    all_may_change: ClassVar[bool] = False
    """Whether every key of the section is marked with MAY_CHANGE."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=str.upper,
        populate_by_name=True,
        use_attribute_docstrings=True,
        coerce_numbers_to_str=True,
        allow_inf_nan=False,
    )

    def to_yaml_tree(self) -> dict[str, Any]:
        """Plain dictionaries and lists under the YAML names, for files."""
        return self.model_dump(by_alias=True, mode="json")
