"""Pages: how many, from where, and tokens that continue one list and no other. Pure.

Keyset paging: a token holds the sort key of the last element, so that what is written between two pages neither repeats
nor hides an element. A token is opaque and bound to the list it came from; it grants nothing, so it is not secret.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Generic, TypeAlias, TypeVar

import orjson

from kit.errors import Invalid, Violation

DEFAULT_SIZE: Final = 50
MAX_SIZE: Final = 1000
_DIGEST_BYTES: Final = 12
_MAX_INTEGER: Final = (1 << 63) - 1

T = TypeVar("T")

Cursor: TypeAlias = tuple[int | str, ...]
"""The sort key of an element: what a list is ordered by, and its uid where that is not unique."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """What part of a list is asked for."""

    size: int
    after: Cursor | None
    """Of the last element of the page before; None for the first page."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list."""

    items: tuple[T, ...]
    next_token: str
    """Continues after this page; empty if it was the last."""


def page_request(size: int, token: str, *, subject: str, shape: tuple[type[int] | type[str], ...]) -> PageRequest:
    """Read what a list request carries.

    :param size: 0 means 50; more than 1000 means 1000
    :param subject: which list, such as `deployments of prj_…`: everything that the elements depend on
    :param shape: the types of a cursor's parts
    :raises Invalid: `PAGE_SIZE_NEGATIVE`; `PAGE_TOKEN_INVALID` for a token of another list or one that was altered
    """
    if size < 0:
        raise _invalid("PAGE_SIZE_NEGATIVE", "page_size", "must not be negative")
    after = _decode(token, subject, shape) if token else None
    return PageRequest(min(size or DEFAULT_SIZE, MAX_SIZE), after)


def page_token(cursor: Cursor, *, subject: str) -> str:
    """The token that continues after the element with this sort key."""
    body = orjson.dumps(cursor)
    return base64.urlsafe_b64encode(_digest(body, subject) + body).rstrip(b"=").decode()


def page(found: Sequence[T], request: PageRequest, *, subject: str, cursor: Callable[[T], Cursor]) -> Page[T]:
    """The page that answers `request`.

    :param found: the elements after `request.after` in order; one more than `request.size` if there are more
    """
    items = tuple(found[: request.size])
    return Page(items, page_token(cursor(items[-1]), subject=subject) if len(found) > request.size else "")


def _decode(token: str, subject: str, shape: tuple[type[int] | type[str], ...]) -> Cursor:
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _foreign_token() from None
    digest, body = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
    if digest != _digest(body, subject):
        raise _foreign_token()
    try:
        cursor = tuple(orjson.loads(body))
    except (orjson.JSONDecodeError, TypeError):
        raise _foreign_token() from None
    if tuple(type(part) for part in cursor) != shape or not all(_is_storable(part) for part in cursor):
        raise _foreign_token()
    return cursor


def _is_storable(part: int | str) -> bool:
    return abs(part) <= _MAX_INTEGER if isinstance(part, int) else "\0" not in part


def _foreign_token() -> Invalid:
    return _invalid("PAGE_TOKEN_INVALID", "page_token", "does not continue this list; start again without it")


def _digest(body: bytes, subject: str) -> bytes:
    return blake2b(body, digest_size=_DIGEST_BYTES, key=blake2b(subject.encode(), digest_size=32).digest()).digest()


def _invalid(reason: str, field: str, message: str) -> Invalid:
    return Invalid(f"{field} {message}", reason=reason, violations=(Violation(field, message),))
