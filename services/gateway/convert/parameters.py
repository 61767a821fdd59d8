"""OpenAI's parameters that no call can set, though they are known: refused by name and with advice.

What a call lays over its deployment is in `overrides.FIELDS`; what nobody knows goes to the provider as it is.
"""

from __future__ import annotations

from typing import Final

from kit.errors import Invalid
from kit.json import Json
from services.gateway.convert import refusal

_ONE_ANSWER: Final = "is not offered: a call has one answer; leave it out, and call as often as you want answers"
_NO_WORD: Final = "is not offered, because answers here have no room for what it asks for: leave it out"
_ON_THE_VARIANT: Final = "is set on the deployment's variant, not per call: leave it out"
_TOOLS: Final = "is not taken by this endpoint: write tools and tool_choice instead"
_NOT_CACHED: Final = "is not offered: no answer is kept for others; leave it out"

# Each with the values that change nothing, which clients like to write out; null never does.
PARAMETERS: Final[dict[str, tuple[tuple[Json, ...], str]]] = {
    "audio": (({},), _NO_WORD),
    "function_call": ((), _TOOLS),
    "functions": (([],), _TOOLS),
    "logprobs": ((False,), _NO_WORD),
    "modalities": (([], ["text"]), _NO_WORD),
    "moderation": (({},), _NO_WORD),
    "n": ((1,), _ONE_ANSWER),
    "top_logprobs": ((0,), _NO_WORD),
    # Of clients that were written for AnotherAI.
    "use_cache": (("auto", "never"), _NOT_CACHED),
    "use_fallback": (("auto",), _ON_THE_VARIANT),
}
NEUTRAL: Final[dict[str, tuple[Json, ...]]] = {
    "logit_bias": ({},),
    "service_tier": ("auto",),
    "store": (False,),
}
"""Values that change nothing of parameters that go to the provider: they make no version of their own."""


def refusal_of(name: str, value: Json) -> Invalid | None:
    """Why a body with this parameter cannot be served; None if the value changes nothing.

    :param name: one of `PARAMETERS`
    """
    neutral, advice = PARAMETERS[name]
    return None if _is_any(value, neutral) else refusal.unsupported(name, advice)


def is_neutral(name: str, value: Json) -> bool:
    """Whether a parameter that nobody here knows may as well be left out."""
    return _is_any(value, NEUTRAL.get(name, ()))


def _is_any(value: Json, those: tuple[Json, ...]) -> bool:
    # By type too: for Python, 1 is True.
    return any(value == each and type(value) is type(each) for each in those)
