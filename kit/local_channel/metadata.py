"""Metadata on its way to the other side: checked, limited and stripped as HTTP/2 and gRPC would."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final, NamedTuple

import grpc

MAX_BYTES: Final = 16 * 1024
"""gRPC's hard limit on what one side sends at once; each pair counts 32 bytes more than its text (RFC 9113, 6.5.2)."""

_KEY = re.compile(r"[a-z0-9_.-]+")
_TEXT = re.compile(r"[ -~]*")
# What gRPC and HTTP/2 say to each other under these names never reaches an application.
_TRANSPORT_KEYS = frozenset(
    {
        "content-length",
        "content-type",
        "endpoint-load-metrics-bin",
        "grpc-accept-encoding",
        "grpc-encoding",
        "grpc-internal-encoding-request",
        "grpc-message",
        "grpc-previous-rpc-attempts",
        "grpc-retry-pushback-ms",
        "grpc-server-stats-bin",
        "grpc-status",
        "grpc-tags-bin",
        "grpc-timeout",
        "grpc-trace-bin",
        "grpclb_client_stats",
        "lb-cost-bin",
        "te",
        "user-agent",
        "x-envoy-peer-metadata",
    }
)


_KNOWN_KEYS: set[str] = set()
"""Well-formed names of text that reach applications. A process uses few; callers may make up any number."""
_MAX_KNOWN_KEYS = 100


class Metadatum(NamedTuple):
    """One pair. The value is bytes if and only if the key ends in `-bin`."""

    key: str
    value: str | bytes


_pair: Callable[[tuple[str, str]], Metadatum] = partial(tuple.__new__, Metadatum)
"""As `Metadatum`, without a function of Python's."""

Pairs = tuple[Metadatum, ...]


class CheckedMetadata(tuple[Metadatum, ...]):
    """What whoever made it has checked as :func:`deliver` would, so that this is not done once more for every call."""

    __slots__ = ()

    @classmethod
    def of(cls, texts: Mapping[str, str]) -> CheckedMetadata:
        """:param texts: printable ASCII under names that reach applications, within :data:`MAX_BYTES`"""
        return cls(map(_pair, texts.items()))


Given = grpc.aio.Metadata | Iterable[tuple[str, str | bytes]]


class InvalidMetadata(Exception):
    """A key or a value that HTTP/2 cannot carry."""


class MetadataTooLarge(Exception):
    """More than :data:`MAX_BYTES`."""


def deliver(metadata: Given, *, also_bytes: int = 0) -> Pairs:
    """What the other side gets.

    :param also_bytes: what travels in the same frame and counts, such as a status message
    :raises TypeError: if keys are not text, or values neither text nor bytes (bytes alone for `-bin` keys)
    :raises InvalidMetadata: if a key or a value has characters that it must not have
    :raises MetadataTooLarge: if it is more than :data:`MAX_BYTES`
    """
    pairs: list[Metadatum] = []
    size = also_bytes
    for key, value in metadata:
        # What most pairs are: text under a name that was looked at before.
        if key in _KNOWN_KEYS and type(value) is str and value.isascii() and value.isprintable():
            size += len(key) + len(value) + 32
            pairs.append(_pair((key, value)))
            continue
        if not isinstance(key, str):
            raise TypeError(f"Expected str, not {type(key)}")
        if _KEY.fullmatch(key) is None:
            raise InvalidMetadata(key)
        delivered = _value(key, value)
        size += len(key) + len(delivered) + 32
        if key not in _TRANSPORT_KEYS:
            pairs.append(Metadatum(key, delivered))
            if isinstance(delivered, str) and key != "-bin" and len(_KNOWN_KEYS) < _MAX_KNOWN_KEYS:
                _KNOWN_KEYS.add(key)
    if size > MAX_BYTES:
        raise MetadataTooLarge(f"{size} vs. {MAX_BYTES}")
    return tuple(pairs)


def by_key(metadata: Given) -> Given:
    """The pairs in the order in which gRPC's client sends them: those of one key together, where the key came first."""
    # A list is none; asking that first is cheaper than what grpc's class does to be asked.
    if not isinstance(metadata, (list, tuple)) and isinstance(metadata, grpc.aio.Metadata):
        return metadata
    pairs = tuple(metadata)
    if len(dict(pairs)) == len(pairs):
        return pairs
    return grpc.aio.Metadata(*pairs)


def _value(key: str, value: object) -> str | bytes:
    if key.endswith("-bin"):
        if not isinstance(value, bytes):
            raise TypeError(f'Binary metadata key="{key}" expected bytes, got {type(value)}')
        # gRPC's core wants a name before the suffix: for it the key `-bin` holds text.
        if key != "-bin":
            return value
        _check_text(key, value.decode("latin-1"))
        return value
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if not isinstance(text, str):
        raise TypeError(f"Expected str, not {type(value)}")
    _check_text(key, text)
    return text


def _check_text(key: str, text: str) -> None:
    if _TEXT.fullmatch(text) is None:
        raise InvalidMetadata(key)
