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


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model is asked that is called without a deployment."""

    provider: str
    """Its slug."""
    model: str
    agent: str = ""
    """The label before the model, where the caller wrote one."""


def deployment_named(model: str) -> str | None:
    """The target that a `model` names: what stands behind `turnout/deployment/`, where `turnout/` may be left out.
    None of a model without a deployment."""
    match = _MODEL.fullmatch(model)
    return None if match is None else match[1]


def model_named(model: str) -> str:
    """A model that is asked for without a deployment, without the word before it that says whose the endpoint is."""
    return model.removeprefix("turnout/").removeprefix("anotherai/")


def deployment_of(model: str) -> str:
    """As :func:`deployment_named`, where there must be one.

    :raises NotFound: `MODEL_NOT_FOUND`
    """
    deployment = deployment_named(model)
    if deployment is None:
        raise no_model(model)
    return deployment


def no_model(model: str) -> NotFound:
    """`model` names nothing that can be called."""
    return NotFound(
        f"there is no model '{shown(model)}' here: write `{MODEL_PREFIX}<name>` or `{MODEL_PREFIX}<name>:<alias>` "
        "for a deployment, or `<provider>/<model>` for a model of one of the project's providers; where the project "
        "has a single provider, `<model>` or `<agent>/<model>` is enough",
        reason="MODEL_NOT_FOUND",
        violations=(Violation("model", "must name a deployment, or a model behind its provider"),),
    )


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
