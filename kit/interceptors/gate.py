"""What interceptors share that only let calls in."""

from __future__ import annotations

from typing import final

import grpc

from kit.calls import Call


class Gate:
    """An interceptor with nothing to do when a call ends; the chain does not ask it."""

    @final
    def leave(self, call: Call, error: BaseException | None, code: grpc.StatusCode) -> None:
        """Nothing to undo."""
