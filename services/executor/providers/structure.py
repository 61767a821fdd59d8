"""What is said in words to a model that takes no response format of its own. Pure."""

from __future__ import annotations

import orjson

from completions.contract.response_format import ResponseFormat


def instruction_of(form: ResponseFormat) -> str:
    """How it is to answer; empty for an answer in any form."""
    if form.form == "text":
        return ""
    if form.form == "json_object" or not isinstance(form.schema, dict):
        return "Answer with one JSON object and nothing else: no words around it, no code fence."
    return (
        "Answer with JSON that keeps to the following JSON schema, and nothing else: no words around it, no code fence."
        f"\n{orjson.dumps(form.schema).decode()}"
    )
