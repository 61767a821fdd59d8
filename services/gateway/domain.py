"""What callers of the OpenAI API write, and what it means here. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from kit.errors import NotFound, Violation

MODEL_PREFIX: Final = "turnout/deployment/"
MAX_TIMEOUT_SECONDS: Final = 86_400.0
"""A caller who waits longer than a day has written milliseconds, or means for ever."""

MAX_SHOWN_CHARACTERS: Final = 64
"""As much of a caller's own text as an answer repeats."""

_MODEL: Final = re.compile(r"(?:turnout/|anotherai/)?deployments?/(.+)", re.DOTALL)
_SDK: Final = re.compile(r"(?:Async)?(?:Azure)?OpenAI[/:]|.*turnout-", re.DOTALL)
_TIMEOUT_HEADERS: Final = ("x-stainless-read-timeout", "x-stainless-timeout")
"""Of OpenAI's SDKs: the one of Python, then that of the others. In seconds."""


@dataclass(frozen=True, slots=True)
class Model:
    """What a caller may write as `model`."""

    id: str
    owner: str
    """The project's slug."""
    created_seconds: int = 0
    """Unix time at which its deployment was made; 0 if its uid does not tell."""


def deployment_of(model: str) -> str:
    """The target that a `model` names: what stands behind `turnout/deployment/`, where `turnout/` may be left out.

    :raises NotFound: `MODEL_NOT_FOUND` for a model by its provider's name, which is not offered
    """
    match = _MODEL.fullmatch(model)
    if match is None:
        raise NotFound(
            f"there is no model '{shown(model)}' here: models are called through deployments; "
            f"write `{MODEL_PREFIX}<name>` or `{MODEL_PREFIX}<name>:<alias>`",
            reason="MODEL_NOT_FOUND",
            violations=(Violation("model", "must name a deployment"),),
        )
    return match[1]


def shown(text: str, *, limit: int = MAX_SHOWN_CHARACTERS) -> str:
    """A caller's own text as an answer may repeat it: cut, and in characters that a terminal prints.

    :param limit: of characters, before those that do not print are written as `\\n` or `\\u200b`
    """
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    if cut.isprintable():
        return cut
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in cut)


def is_sdk(user_agent: str) -> bool:
    """Whether a request comes from a client library: OpenAI's own (`OpenAI/Python 3.54.0`) or Turnout's."""
    return _SDK.match(user_agent) is not None


def timeout_seconds(headers: Mapping[str, str]) -> float | None:
    """How long the caller says that it waits; None if it does not say, or says nothing sensible."""
    for name in _TIMEOUT_HEADERS:
        if (text := headers.get(name)) is not None:
            try:
                seconds = float(text)
            except ValueError:
                continue
            if seconds > 0 and math.isfinite(seconds):
                return min(seconds, MAX_TIMEOUT_SECONDS)
    return None
