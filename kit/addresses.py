"""Addresses in settings."""

from __future__ import annotations

from typing import Annotated, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator


def _checked_address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if text and (not host or text.split() != [text] or not port.isdecimal() or int(port) > 65535):
        raise ValueError("must be host:port, such as 127.0.0.1:7070")
    return text


def _checked_endpoint(text: str) -> str:
    parts = urlsplit(text)
    if text and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError("must be http://host:port or https://host:port")
    if "@" in parts.netloc:
        # It would be shown wherever settings are.
        raise ValueError("must not hold a user name or password")
    return text


Address: TypeAlias = Annotated[str, AfterValidator(_checked_address)]
"""`host:port`; port 0 picks a free one where one is listened on."""
Endpoint: TypeAlias = Annotated[str, AfterValidator(_checked_endpoint)]
"""An http or https URL."""
