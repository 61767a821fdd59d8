"""What callers rely on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from completions.contract.document import malformed
from kit.json import Json, dump


@dataclass(frozen=True)
class Contract:
    """What callers of an alias rely on. Not to be changed once made, its schemas included: they are hashed once."""

    variables: dict[str, Json] | None = None
    """The JSON schema of the variables; None when there are none."""
    response_format: dict[str, Json] | None = None
    """In OpenAI's shape; None for text."""

    @cached_property
    def variables_digest(self) -> bytes:
        """32 bytes that name the variables' schema, order of members included.

        :raises Invalid: `SCHEMA_MALFORMED` when it is no JSON
        """
        try:
            return hashlib.blake2b(dump(self.variables).encode(), digest_size=32).digest()
        except TypeError:
            raise malformed("variables", "must be JSON") from None
