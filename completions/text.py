"""Text that every part of the system can carry."""

from __future__ import annotations


def fault(text: str) -> str | None:
    """Why `text` cannot be stored and sent, as the end of the sentence "the field …"; None when it can.

    A lone surrogate has no UTF-8 form, and Postgres cannot hold NUL in text or JSON: both would fail late and far away.
    """
    if "\0" in text:
        return "must not contain the NUL character"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "must not contain lone surrogates"
    return None
