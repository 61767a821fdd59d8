"""Conversations in the words of Anthropic's Messages API. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from completions.chat import ImagePart, Message, Role
from kit.json import Json
from services.executor.providers.exchange import unsayable
from services.executor.providers.images import inline_image
from services.executor.providers.tools import arguments_of

_NO_ID: Final = re.compile(r"[^a-zA-Z0-9_-]")
_SYSTEM: Final = (Role.SYSTEM, Role.DEVELOPER)

_Block = dict[str, Json]


class Conversation(NamedTuple):
    """What is said, in this contract's two places."""

    system: list[str]
    turns: list[Json]
    has_begun: bool
    """Whether it ends with the beginning of the model's answer."""
    may_think: bool
    """Whether the model may think within a budget: not where its answer has begun, or waited for what tools answered,
    for then this contract wants the signed thoughts that came before."""


def conversation_of(messages: Sequence[Message]) -> Conversation:
    """Leading system and developer messages are the system prompt; a later one keeps its place, as part of the user's
    turn: most models take no other. Turns of one role that follow each other are one, with what tools answered first;
    texts of nothing but white space, which this contract refuses, are left out. With nothing but a system prompt, that
    is the user's turn.

    :raises Invalid: for pictures in a system prompt, and when every message is empty
    """
    system: list[str] = []
    turns: list[tuple[str, list[_Block]]] = []
    results = 0
    for message in messages:
        if message.role in _SYSTEM and not turns:
            system += _texts(message)
            continue
        role = "assistant" if message.role is Role.ASSISTANT else "user"
        if message.role is Role.TOOL:
            blocks = [_result(message)]
        else:
            blocks = _blocks(message)
            blocks += [_call(call.id, call.name, call.arguments_json) for call in message.tool_calls]
        if not blocks:
            continue
        if not turns or turns[-1][0] != role:
            turns.append((role, []))
            results = 0
        said = turns[-1][1]
        if message.role is Role.TOOL:
            said[results:results] = blocks
            results += 1
        else:
            said += blocks
    if not turns:
        if not system:
            raise unsayable("every message is empty: this provider wants something to answer")
        system, turns = [], [("user", [{"type": "text", "text": text} for text in system])]
    last_role, last = turns[-1]
    if last_role == "assistant" and isinstance(text := last[-1].get("text"), str):
        # A beginning that the model continues may not end in white space.
        last[-1]["text"] = text.rstrip()
    said = [{"role": role, "content": _content(blocks)} for role, blocks in turns]
    has_begun = last_role == "assistant"
    return Conversation(system, [*said], has_begun=has_begun, may_think=not has_begun and not results)


def _content(blocks: list[_Block]) -> Json:
    if len(blocks) == 1 and blocks[0]["type"] == "text":
        return blocks[0]["text"]
    return [*blocks]


def _texts(message: Message) -> list[str]:
    if any(isinstance(part, ImagePart) for part in message.parts):
        raise unsayable("this provider takes no pictures in a system message; put them into a user message")
    texts = [message.content, *(part.text for part in message.parts if not isinstance(part, ImagePart))]
    return [text for text in texts if text.strip()]


def _blocks(message: Message) -> list[_Block]:
    if not message.parts:
        return [{"type": "text", "text": message.content}] if message.content.strip() else []
    blocks: list[_Block] = []
    for part in message.parts:
        if isinstance(part, ImagePart):
            blocks.append({"type": "image", "source": _source(part.url)})
        elif part.text.strip():
            blocks.append({"type": "text", "text": part.text})
    return blocks


def _source(url: str) -> _Block:
    if (image := inline_image(url)) is not None:
        return {"type": "base64", "media_type": image.media_type, "data": image.base64}
    if url[:5].lower() == "data:":
        raise unsayable("a picture's data: URL has no data; write data:image/png;base64,…")
    return {"type": "url", "url": url}


def _call(uid: str, name: str, arguments_json: str) -> _Block:
    return {"type": "tool_use", "id": _id(uid), "name": name, "input": arguments_of(arguments_json)}


def _result(message: Message) -> _Block:
    result: _Block = {"type": "tool_result", "tool_use_id": _id(message.tool_call_id)}
    if blocks := _blocks(message):
        result["content"] = _content(blocks)
    return result


def _id(uid: str) -> str:
    # Ids of other providers, which a conversation may have begun with, know no such alphabet.
    return _NO_ID.sub("_", uid) or "_"
