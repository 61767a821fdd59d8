"""OpenAI's parameters that belong to a version here: known, so that they are refused by name and with advice.

One table, so that a parameter which a call may override one day moves from here to `request.FIELDS` and nowhere else.
"""

from __future__ import annotations

from typing import Final

from kit.errors import Invalid
from kit.json import Json
from services.gateway import domain
from services.gateway.convert import refusal

_ON_THE_VARIANT: Final = (
    "is set on the deployment's variant, not per call: leave it out, and change the variant instead"
)
_NOT_OFFERED: Final = "is not offered by this endpoint: leave it out"

_PER_VERSION: Final[dict[str, tuple[Json, ...]]] = {
    "frequency_penalty": (),
    "function_call": (),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "max_completion_tokens": (),
    "max_tokens": (),
    "n": (1,),
    "parallel_tool_calls": (),
    "presence_penalty": (),
    "reasoning_effort": (),
    "response_format": ({},),
    "seed": (),
    "stop": ([],),
    "temperature": (),
    "tool_choice": ({},),
    "tools": ([],),
    "top_logprobs": (),
    "top_p": (),
    "verbosity": (),
    "web_search_options": ({},),
}
_NOT_SERVED: Final[dict[str, tuple[Json, ...]]] = {
    "audio": ({},),
    "modalities": ([], ["text"]),
    "moderation": ({},),
    "prediction": ({},),
    "prompt_cache_key": ("",),
    "prompt_cache_options": ({},),
    "prompt_cache_retention": (),
    "safety_identifier": ("",),
    "service_tier": ("auto",),
    "store": (False,),
}

# Each with the values that change nothing, which clients like to write out; null never does.
PARAMETERS: Final[dict[str, tuple[tuple[Json, ...], str]]] = {
    **{name: (neutral, _ON_THE_VARIANT) for name, neutral in _PER_VERSION.items()},
    **{name: (neutral, _NOT_OFFERED) for name, neutral in _NOT_SERVED.items()},
}


def refusal_of(name: str, value: Json) -> Invalid | None:
    """Why a body with this parameter cannot be served; None if the value changes nothing.

    :param name: one that no field of the call takes
    """
    known = PARAMETERS.get(name)
    if known is None:
        return refusal.unknown(domain.shown(name))
    neutral, advice = known
    # By type too: for Python, 1 is True.
    if any(value == each and type(value) is type(each) for each in neutral):
        return None
    return refusal.unsupported(name, advice)
