from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from bench import peers
from bench.cores import Cores
from bench.peers import Absent

CORES = Cores.divided(frozenset(os.sched_getaffinity(0)))


def install(folder: Path, name: str, program: str, text: str) -> None:
    """A peer that is a script."""
    path = folder / name / program
    path.parent.mkdir(parents=True)
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    (folder / name / ".installed").write_text(f"{name}==1\n")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "peers"
    monkeypatch.setattr(peers, "FOLDER", folder)
    return folder


@pytest.mark.parametrize("name", peers.ALL)
def test_a_peer_that_is_not_installed_is_said_not_to_be(installed: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(Absent, match="make bench-peers"), peers.ALL[name](tmp_path, "127.0.0.1:1", CORES):
        pass
    assert peers.version(name) == ""


def test_a_peer_that_ends_at_once_is_told_with_the_end_of_its_log(installed: Path, tmp_path: Path) -> None:
    install(installed, "litellm", "bin/litellm", "raise SystemExit('no such setting')")

    with pytest.raises(Absent, match=r"(?s)does not answer.*no such setting"):
        peers.litellm(tmp_path, "127.0.0.1:1", CORES).__enter__()
    assert peers.version("LiteLLM") == "litellm==1"


@pytest.mark.parametrize("name", peers.alike("", str))
def test_a_peer_that_does_more_is_not_installed_either(installed: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(Absent, match="make bench-peers"), peers.alike("", str)[name](tmp_path, "127.0.0.1:1", CORES):
        pass


def test_a_peer_that_does_as_much_is_told_to(installed: Path, tmp_path: Path) -> None:
    install(installed, "litellm", "bin/litellm", "import os, sys; print(open(sys.argv[2]).read(), os.environ)")

    with pytest.raises(Absent, match=r"(?s)weight.*bench-fallback.*callbacks.*http://spans"):
        peers.alike("http://spans", str)["LiteLLM, alike"](tmp_path, "127.0.0.1:1", CORES).__enter__()
    assert peers.version("LiteLLM, alike") == "litellm==1"


def test_a_peer_without_known_tables_is_absent(installed: Path, tmp_path: Path) -> None:
    install(installed, "tensorzero", "bin/python", "")

    with pytest.raises(Absent, match="migrations"):
        peers.alike("", str)["TensorZero, durable"](tmp_path, "127.0.0.1:1", CORES).__enter__()


def test_an_embedded_peer_that_fails_is_told_with_what_it_said(installed: Path, tmp_path: Path) -> None:
    install(installed, "tensorzero", "bin/python", "raise SystemExit('no such function')")

    with pytest.raises(Absent, match="no such function"):
        peers.tensorzero(tmp_path, "127.0.0.1:1", CORES).__enter__()


def test_the_question_without_a_template_is_the_one_with_it_rendered() -> None:
    body = json.loads(peers.rendered_body(stream=True))

    assert body["messages"][0]["content"] == "You are an expert on France. Answer questions in English."
    assert body["stream"] is True
