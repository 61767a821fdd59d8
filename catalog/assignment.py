"""Weighted rendezvous hashing: which variant a key is assigned, the same in every process and every language.

Shares are exact in the limit; raising one weight moves keys only to that variant; adding or removing one moves keys
only to or from it. Source of the method: D. Thaler, C. Ravishankar (1998), IEEE/ACM ToN 6(1); of the weights: the
exponential race, score = −w / ln U (C. Schindelhauer, G. Schomaker (2005), SPAA). Vectors stand in docs/routing.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from hashlib import blake2b

from kit.errors import Invalid

_SEPARATOR = "\x1f"
_SCALE = 2.0**-52


def uniform(salt: str, purpose: str, subject: str, key: str) -> float:
    """A number in (0, 1) that depends on the four texts only; neither 0 nor 1 ever comes out.

    H = the first 8 bytes, big-endian, of the 64-byte BLAKE2b of the texts in UTF-8 joined by U+001F;
    U = ((H >> 12) + 0.5) / 2^52.

    :raises Invalid: `ROUTING_KEY_NOT_TEXT` if a text has lone surrogates, which have no UTF-8
    """
    try:
        text = _SEPARATOR.join((salt, purpose, subject, key)).encode()
    except UnicodeEncodeError:
        raise Invalid("the routing key is not valid Unicode text", reason="ROUTING_KEY_NOT_TEXT") from None
    return ((int.from_bytes(blake2b(text).digest()[:8]) >> 12) + 0.5) * _SCALE


def is_covered(salt: str, deployment: str, key: str, coverage: float) -> bool:
    """Whether a unit is inside coverage. One that is stays so when coverage grows.

    :param deployment: its uid
    :param coverage: 0 to 1
    """
    return coverage >= 1 or uniform(salt, "admit", deployment, key) < coverage


def score(weight: float, draw: float) -> float:
    """What a candidate brings to the race; the highest wins. Positive.

    :param weight: above 0
    :param draw: its `uniform` number for the key
    """
    return -weight / math.log(draw)


def assign(salt: str, key: str, candidates: Iterable[tuple[str, float]]) -> str | None:
    """The bucket that `key` falls into.

    :param candidates: bucket (a variant's uid) and weight; weights of 0 or less are never chosen
    :return: the winning bucket; None if no candidate has a positive weight
    """
    best, best_score = None, 0.0
    for bucket, weight in candidates:
        if weight <= 0:
            continue
        found = score(weight, uniform(salt, "assign", bucket, key))
        # Equal scores need equal hashes of 52 bits; the smaller uid then wins, so that order of writing never matters.
        if best is None or found > best_score or (found == best_score and bucket < best):
            best, best_score = bucket, found
    return best
