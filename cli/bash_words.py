"""Bash ends a word at every colon, so that `guests:st` is three words to whoever completes it; here it is one."""

from __future__ import annotations

from collections.abc import MutableMapping


def joined(environment: MutableMapping[str, str]) -> str:
    """Puts words that colons parted together again, in what bash tells of them.

    :param environment: with COMP_WORDS, one a line, and COMP_CWORD, the number of the one that is completed
    :return: what bash has of that word already, and wants in no proposal; empty if that was not parted
    """
    try:
        current = int(environment.get("COMP_CWORD", ""))
    except ValueError:
        return ""
    words = environment.get("COMP_WORDS", "").split("\n")[: current + 1]
    whole: list[str] = []
    is_parted = False
    for word in words:
        is_parted = len(whole) > 1 and bool(word) and (word == ":" or whole[-1].endswith(":"))
        if is_parted:
            whole[-1] += word
        else:
            whole.append(word)
    if len(whole) < len(words):
        environment["COMP_WORDS"] = "\n".join(whole)
        environment["COMP_CWORD"] = str(current - len(words) + len(whole))
    return whole[-1][: whole[-1].rindex(":") + 1] if is_parted else ""
