"""What is the same for all requests to one URL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from yarl import URL

from kit.egress.pool import Place

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""RFC 9110, section 5.6.2: a method, or the name of a header."""
_FORBIDDEN: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""What would end a header, or has no place in one."""


class Target:
    """A URL that is called.

    :param is_refused: whether its host may not be
    """

    __slots__ = ("_head", "is_refused", "origin", "place")

    def __init__(self, url: URL, place: Place, *, is_refused: bool) -> None:
        host = f"[{url.raw_host}]" if ":" in (url.raw_host or "") else url.raw_host
        self.origin = f"{url.scheme}://{host}:{url.port}"
        self.place = place
        self.is_refused = is_refused
        self._head = (
            f" {url.raw_path_qs} HTTP/1.1\r\nHost: {url.host_port_subcomponent}\r\n"
            # Answers are small or streamed: compression would cost both sides time and hold events back.
            "Accept-Encoding: identity\r\nUser-Agent: turnout\r\n"
        )

    def request(self, method: str, headers: Mapping[str, str], body: bytes) -> bytes:
        """A request as it is sent.

        :raises ValueError: for a method or a header that HTTP cannot carry
        """
        lines = [method, self._head]
        if not _TOKEN.fullmatch(method):
            raise ValueError("the method is no token")
        # Tokens in a row are a token, so one look is enough for all; only an empty name would not be seen.
        if headers and (
            "" in headers or not _TOKEN.fullmatch("".join(headers)) or _FORBIDDEN.search("".join(headers.values()))
        ):
            raise ValueError("a header has characters that have no place there")
        lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
        if body or method not in ("GET", "HEAD"):
            lines.append(f"Content-Length: {len(body)}\r\n")
        lines.append("\r\n")
        return "".join(lines).encode() + body
