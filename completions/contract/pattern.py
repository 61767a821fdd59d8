"""What a pattern costs, read from its text."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

BACKTRACKS: Final = 10_000
"""Steps that a pattern which looks around or back may take in one place, at 1.7 ns each; past them, it fails."""
_LOOKS_AROUND: Final = re.compile(r"\(\?[=!<>(P]|\\[1-9kKgGZ]|[+*?}]\+")
"""What a pattern has that the engine does not match in linear time, or is written like it."""
_EDGE: Final = re.compile(r"\\[bB]|[(|:]\^|\$[|)]")
_REPEATED: Final = re.compile(r"\)[*+?{]|(?:\\[bB]|(?<!\[)\^|\$)[*+?{]")
"""Edges that are, or may be, repeated are tried too."""
_WORD_EDGE: Final = re.compile(r"\\[bB]")
_TOKEN: Final = re.compile(
    r"""(?P<atom> \\[pP]\{[^}]*\} | \\u\{[^}]*\} | \\. | \[\^?\]?(?:\\.|[^\]\\])*\]? )
    | \{(?P<low>\d+)(?:,(?P<high>\d*))?\}
    | (?P<open>\((?:\?[^)(]?)?) | (?P<close>\)) | (?P<free>[*+?|^$]) | (?P<plain>.)""",
    re.VERBOSE | re.DOTALL,
)
_MAX_POSITIONS: Final = 1 << 30


class Steps(NamedTuple):
    """What matching takes, at most, in looks of 50 ns."""

    once: int = 0
    """For a text."""
    each: int = 0
    """For every hundred characters of it."""


def looks_around(pattern: str) -> bool:
    """Whether it may be matched by trying."""
    if _LOOKS_AROUND.search(pattern):
        return True
    return bool(_REPEATED.search(pattern)) and bool(_EDGE.search(pattern))


def steps_of(pattern: str) -> Steps:
    """How long it takes: what looks around begins anew at every character, or goes through the text with every step;
    another goes through a text once, and may stand at many of its positions at the same time, at 10 ns each.

    Source: R. Cox (2007), "Regular Expression Matching Can Be Simple And Fast"; limits measured with the engine.
    """
    if not looks_around(pattern):
        # Edges of words that are not in ASCII keep the engine from its fast ways.
        return Steps(0, (200 if _WORD_EDGE.search(pattern) else 20) * _at_once(pattern))
    tries = BACKTRACKS // 29
    return Steps(tries, 100 * tries)


def _at_once(pattern: str) -> int:
    """At how many of its positions a match may stand. What is tried at the start only stands at one, up to the first
    part that may be longer or shorter."""
    if not pattern.startswith("^") or "|" in pattern or "(" in pattern:
        return positions(pattern)
    for token in _TOKEN.finditer(pattern):
        is_counted = token.lastgroup in ("low", "high")
        if token["free"] in ("*", "+", "?") or (is_counted and "," in token[0]):
            return 1 + positions(pattern[token.end() :])
    return 1


def positions(pattern: str) -> int:
    """The characters and classes of a pattern, each as often as it is counted out: 6 for `(ab){3}`."""
    whole: list[int] = [0]
    last = 0
    for token in _TOKEN.finditer(pattern):
        match token.lastgroup:
            case "open":
                whole.append(0)
                last = 0
            case "close" if len(whole) > 1:
                last = whole.pop()
                whole[-1] += last
            case "low" | "high":
                times = max(_number(token["low"]), _number(token["high"]))
                more = last * max(times - 1, 0)
                last = min(last + more, _MAX_POSITIONS)
                whole[-1] = min(whole[-1] + more, _MAX_POSITIONS)
            case "free":
                pass
            case _:
                last = 1
                whole[-1] += 1
    return sum(whole)


def _number(digits: str | None) -> int:
    # As good as any more: no engine takes it.
    return int((digits or "").lstrip("0")[:9] or 0)
