"""Messages on their way to the other side: copied, so that neither side sees what the other does with its own later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

Serializer = Callable[[Any], bytes]
Deserializer = Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class Oversized:
    """Stands for a message that is too large to be received."""

    size_bytes: int


class Codec:
    """Takes messages of one direction of one method across.

    A message of the class that the receiver parses is copied. Anything else (another class, a method without protobuf)
    takes the way through bytes, so that it meets the fate it would have on the network.
    """

    __slots__ = ("_copied", "_deserialize", "_max_bytes", "_serialize")

    def __init__(self, serialize: Serializer | None, deserialize: Deserializer | None, max_bytes: int) -> None:
        self._serialize = serialize
        self._deserialize = deserialize
        self._max_bytes = max_bytes
        parsed = _class_parsed_by(deserialize)
        self._copied = parsed if parsed is not None and serialize == parsed.SerializeToString else None

    # A message is whatever the stub and the servicer agree on, so nothing is known of it here.
    def carry(self, message: Any) -> tuple[Any, int]:
        """The receiver's own message, or :class:`Oversized`; and how many bytes it has on a wire.

        :raises Exception: whatever the serialiser or the deserialiser raises
        """
        copied = self._copied
        if copied is not None and type(message) is copied:
            if (size := message.ByteSize()) > self._max_bytes:
                return Oversized(size), 0
            copy = copied()
            copy.CopyFrom(message)
            return copy, size
        if isinstance(message, str):
            message = message.encode()
        data = message if self._serialize is None else self._serialize(message)
        if not isinstance(data, bytes):
            raise TypeError(f"Expected bytes, got {type(data).__name__}")
        size = len(data)
        if size > self._max_bytes:
            return Oversized(size), 0
        return (data if self._deserialize is None else self._deserialize(data)), size


def _class_parsed_by(deserialize: Deserializer | None) -> type[Message] | None:
    owner = getattr(deserialize, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, Message) and deserialize == owner.FromString:
        return owner
    return None
