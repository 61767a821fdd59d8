"""Resource names: `projects/shop/deployments/helper`, taken apart by a pattern such as `projects/*/deployments/*`."""

from __future__ import annotations

import re
from typing import Final

from kit.errors import Invalid, Violation

_SEGMENT: Final = re.compile(r"[A-Za-z0-9._-]{1,63}")


def parse(name: str, pattern: str, *, field: str) -> tuple[str, ...]:
    """The segments of `name` that stand where `pattern` has a `*`.

    :param field: path of the name in the request, for the violation
    :raises Invalid: `RESOURCE_NAME_MALFORMED`, saying the form it must have
    """
    wanted, found = pattern.split("/"), name.split("/")
    if len(wanted) == len(found) and all(
        _SEGMENT.fullmatch(part) if place == "*" else part == place for place, part in zip(wanted, found, strict=True)
    ):
        return tuple(part for place, part in zip(wanted, found, strict=True) if place == "*")
    message = f"must have the form {pattern}, each * 1 to 63 letters, digits, hyphens, underscores and dots"
    raise Invalid(f"{field} {message}", reason="RESOURCE_NAME_MALFORMED", violations=(Violation(field, message),))
