"""Values: dataclasses that nobody changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """A dataclass with slots that is frozen for the type checker alone, for what is made for every call.

    Freezing at run time costs 0.18 µs for each field of each object where this costs 0.04, and a call makes about a
    hundred fields.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
