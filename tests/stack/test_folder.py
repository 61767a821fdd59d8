from __future__ import annotations

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stack.folder import StackFolder, free_port, is_free_port, remembered_port


def test_two_owners_at_once_get_different_folders(tmp_path: Path) -> None:
    with StackFolder.allocate(tmp_path / "root") as first, StackFolder.allocate(tmp_path / "root") as second:
        assert (first.path, second.path) == (tmp_path / "root" / "0", tmp_path / "root" / "1")


def test_a_released_folder_is_used_again_with_what_is_in_it(tmp_path: Path) -> None:
    with StackFolder.allocate(tmp_path) as folder:
        (folder.path / "data").write_text("kept")
    folder.release()  # again: nothing happens

    with StackFolder.allocate(tmp_path) as again:
        assert (again.path / "data").read_text() == "kept"


def test_many_who_ask_at_once_get_different_folders(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        folders = list(threads.map(lambda _: StackFolder.allocate(tmp_path), range(16)))

    assert {int(folder.path.name) for folder in folders} == set(range(16))
    for folder in folders:
        folder.release()


def test_the_folder_of_an_owner_that_was_killed_is_used_again(tmp_path: Path) -> None:
    code = "import sys, signal, pathlib; from stack.folder import StackFolder\n"
    code += "folder = StackFolder.allocate(pathlib.Path(sys.argv[1])); print(folder.path, flush=True); signal.pause()"
    owner = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdout.readline().strip() == str(tmp_path / "0")
    with StackFolder.allocate(tmp_path) as beside:
        assert beside.path == tmp_path / "1"

    owner.kill()
    owner.communicate()

    with StackFolder.allocate(tmp_path) as folder:
        assert folder.path == tmp_path / "0"


def test_a_port_is_remembered(tmp_path: Path) -> None:
    assert remembered_port(tmp_path) == remembered_port(tmp_path)


@pytest.mark.parametrize("note", ["", "words", "80", "65536", "-1"])
def test_a_senseless_note_is_replaced(tmp_path: Path, note: str) -> None:
    (tmp_path / "port").write_text(note)

    port = remembered_port(tmp_path)

    assert is_free_port(port)
    assert (tmp_path / "port").read_text() == f"{port}\n"


def test_a_remembered_port_that_is_taken_is_replaced(tmp_path: Path) -> None:
    port = remembered_port(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()

        assert remembered_port(tmp_path) != port


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_free_port_is_never_one_that_an_outgoing_connection_could_take() -> None:
    lowest, highest = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())

    assert all(not lowest <= free_port() <= highest for _ in range(50))


def test_what_another_process_has_chosen_is_not_chosen_again(tmp_path: Path) -> None:
    program = "from stack.folder import free_port; print(free_port(), flush=True); input()"
    elsewhere = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1, text=True, env=elsewhere) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        port = int(other.stdout.readline())
        assert is_free_port(port), "nobody listens there yet"
        (tmp_path / "port").write_text(f"{port}\n")

        chosen = remembered_port(tmp_path)
        other.stdin.write("\n")
    (tmp_path / "port").write_text(f"{port}\n")

    assert chosen != port
    assert remembered_port(tmp_path) == port, "it is free again once the other has ended"


def test_no_port_is_chosen_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = free_port(), free_port()
    while not is_free_port(first + 1):
        first = free_port()
    dice = iter([first, second, first + 1])
    monkeypatch.setattr("random.randint", lambda lowest, highest: next(dice))

    assert free_port() == first + 1
