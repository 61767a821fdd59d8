"""Pictures that travel inside a request. Pure."""

from __future__ import annotations

import base64
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

_SAME: Final = {"image/jpg": "image/jpeg"}
"""Names that are common and not registered."""


class Inline(NamedTuple):
    """A picture by its bytes."""

    media_type: str
    base64: str


def inline_image(url: str) -> Inline | None:
    """What a `data:` URL holds (RFC 2397); None for any other URL, or one without a comma."""
    if url[:5].lower() != "data:":
        return None
    head, comma, data = url[5:].partition(",")
    if not comma:
        return None
    media_type, *parameters = (each.strip().lower() for each in head.split(";"))
    if "base64" not in parameters:
        data = base64.b64encode(unquote_to_bytes(data)).decode()
    elif "%" in data:
        data = unquote_to_bytes(data).decode("latin-1")
    return Inline(_SAME.get(media_type, media_type), data)
