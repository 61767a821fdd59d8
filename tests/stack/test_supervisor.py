from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from stack.supervisor import Child

ENV = {"PATH": os.environ["PATH"]}
SLEEP = ["/bin/sleep", "300"]

Eventually = Callable[[Callable[[], object], str], None]
IsGone = Callable[[int], bool]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def start(tmp_path: Path, log: Path) -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def start(*command: str, **options: object) -> Child:
        child = Child.start(command, env=ENV, cwd=tmp_path, log_path=log, **options)  # type: ignore[arg-type]
        children.append(child)
        return child

    yield start
    for child in children:
        child.stop(0)


def _shell(script: str) -> tuple[str, str, str]:
    return "/bin/sh", "-c", script


def _parent(script: str, log: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """A Python process that starts a child, runs `script` with it, prints process ids, and waits to be killed."""
    preamble = """\
        import os, signal, subprocess, sys
        from pathlib import Path
        from stack.supervisor import Child
        log = Path(sys.argv[1])
        def start(*command):
            return Child.start(command, env=dict(os.environ), cwd=log.parent, log_path=log)
    """
    code = textwrap.dedent(preamble) + textwrap.dedent(script) + "\nsignal.pause()\n"
    parent = subprocess.Popen([sys.executable, "-c", code, str(log)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    return parent, [int(word) for word in parent.stdout.readline().split()]


def _kill(parent: subprocess.Popen[str]) -> None:
    parent.kill()
    parent.communicate()


def test_output_is_logged_and_the_exit_status_forwarded(start: Callable[..., Child], log: Path) -> None:
    child = start(*_shell("echo out; echo err >&2; exit 7"))

    assert child.wait(10) == 7
    assert log.read_text().split() == ["out", "err"]
    assert not child.alive()


def test_a_kill_ends_the_real_child_and_is_reported_as_shells_do(
    start: Callable[..., Child], is_gone: IsGone, eventually: Eventually
) -> None:
    child = start(*SLEEP)
    # While the kernel puts the program in place, the process has no command line.
    eventually(lambda: psutil.Process(child.pid).cmdline() == SLEEP, "the child is the command itself")
    assert child.alive()

    child.kill()

    assert is_gone(child.pid)
    assert child.wait(0) == 128 + signal.SIGKILL


def test_a_crash_from_outside_is_noticed(start: Callable[..., Child], eventually: Eventually) -> None:
    child = start(*SLEEP)

    os.kill(child.pid, signal.SIGSEGV)

    eventually(lambda: not child.alive(), "noticing")
    assert child.wait(0) == 128 + signal.SIGSEGV


def test_stopping_sends_the_signal_the_child_asks_for(
    start: Callable[..., Child], log: Path, eventually: Eventually
) -> None:
    script = "trap 'echo asked; exit 3' INT; echo ready; while :; do sleep 0.02; done"
    child = start(*_shell(script), stop_signal=signal.SIGINT)
    eventually(lambda: "ready" in log.read_text(), "the trap")

    child.stop()

    assert "asked" in log.read_text()
    assert child.wait(0) == 3
    child.stop()  # again: nothing happens
    child.kill()


def test_a_child_that_will_not_stop_is_killed_after_the_bound(
    start: Callable[..., Child], log: Path, eventually: Eventually
) -> None:
    child = start(*_shell("trap '' TERM INT HUP; echo ready; while :; do sleep 0.02; done"))
    eventually(lambda: "ready" in log.read_text(), "the trap")

    child.stop(0.1)

    assert child.wait(0) == 128 + signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only the process group is found")
@pytest.mark.parametrize("way", ["stop", "kill", "exit"])
def test_nothing_that_the_child_started_outlives_it(
    start: Callable[..., Child], log: Path, eventually: Eventually, is_gone: IsGone, way: str
) -> None:
    last = "exit 0" if way == "exit" else "wait"
    # One grandchild in the child's process group, one in a session of its own below a process that is already gone.
    child = start(*_shell(f"sleep 300 & echo $!; (setsid sh -c 'echo $$; exec sleep 300' &) ; sleep 0.1; {last}"))
    eventually(lambda: len(log.read_text().split()) == 2, "both grandchildren")
    grandchildren = [int(word) for word in log.read_text().split()]

    if way == "exit":
        child.wait(10)
    else:
        getattr(child, way)()

    assert [pid for pid in grandchildren if not is_gone(pid)] == []


def test_a_missing_command_is_an_ordinary_error(start: Callable[..., Child]) -> None:
    with pytest.raises(FileNotFoundError, match="/no/such/command"):
        start("/no/such/command")


def test_a_command_that_may_not_run_is_an_ordinary_error(start: Callable[..., Child], tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a program")
    with pytest.raises(PermissionError):
        start(str(tmp_path / "text"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_child_inherits_neither_descriptors_nor_signal_settings(start: Callable[..., Child], log: Path) -> None:
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        # exec, because the shell clears the mask of what it forks.
        child = start(*_shell("cd /proc/self/fd; echo fds: *; exec grep -E 'Sig(Blk|Ign)' /proc/self/status"))
        assert child.wait(10) == 0
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGINT, ignored)
        os.close(read_end)
        os.close(write_end)

    seen = dict(line.split(":", 1) for line in log.read_text().splitlines())
    assert set(seen["fds"].split()) <= {"0", "1", "2", "3", "10"}  # 3 or 10 is the shell's own, for reading the folder
    assert int(seen["SigBlk"], 16) == 0
    # 32 and 33 are the C library's own: it lets nobody set them, so they are as our own parent left them.
    assert int(seen["SigIgn"], 16) & ~(0b11 << 31) == 0


@pytest.mark.usefixtures("as_root")
def test_a_child_becomes_the_user_it_is_given(start: Callable[..., Child], log: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    groups = os.getgroups()
    os.setgroups([*groups, 4])
    try:
        assert start(*_shell("id -u; id -g; id -G"), user=nobody).wait(10) == 0
    finally:
        os.setgroups(groups)

    assert log.read_text().split() == [str(nobody.pw_uid), str(nobody.pw_gid), str(nobody.pw_gid)]


def test_a_child_ends_with_a_parent_that_is_killed(log: Path, eventually: Eventually, is_gone: IsGone) -> None:
    parent, (pid,) = _parent("child = start('/bin/sleep', '300'); print(child.pid, flush=True)", log)
    assert not is_gone(pid)

    _kill(parent)

    eventually(lambda: is_gone(pid), "the child's end")


def test_a_child_ends_with_a_parent_that_simply_exits(log: Path, eventually: Eventually, is_gone: IsGone) -> None:
    parent, (pid,) = _parent("child = start('/bin/sleep', '300'); print(child.pid, flush=True); sys.exit()", log)
    parent.communicate(timeout=10)

    eventually(lambda: is_gone(pid), "the child's end")


@pytest.mark.parametrize(
    "sibling",
    [
        pytest.param("sibling = os.fork() or signal.pause()", id="forked"),
        pytest.param("sibling = subprocess.Popen(['sleep', '300'], close_fds=False).pid", id="executed"),
    ],
)
def test_a_sibling_that_lives_on_does_not_keep_the_child_alive(
    log: Path, eventually: Eventually, is_gone: IsGone, sibling: str
) -> None:
    script = f"child = start('/bin/sleep', '300')\n{sibling}\nprint(child.pid, sibling, flush=True)"
    parent, (pid, sibling_pid) = _parent(script, log)
    try:
        # Not communicate(): the sibling holds the parent's standard output open.
        parent.kill()
        parent.wait()

        eventually(lambda: is_gone(pid), "the child's end")
        assert not is_gone(sibling_pid)
    finally:
        os.kill(sibling_pid, signal.SIGKILL)
        _kill(parent)


def test_a_forked_process_neither_owns_nor_stops_the_child(start: Callable[..., Child]) -> None:
    child = start(*SLEEP)
    forked = os.fork()
    if forked == 0:
        try:
            owned = child.alive()
            child.stop()
            child.kill()
        finally:
            os._exit(1 if owned else 0)

    _, status = os.waitpid(forked, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert child.alive()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel does this on Linux only")
def test_a_child_whose_supervisor_is_killed_is_asked_to_stop(
    start: Callable[..., Child], eventually: Eventually, is_gone: IsGone
) -> None:
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None  # a change of user clears what the kernel was told
    child = start(*SLEEP, user=user)

    supervisor = psutil.Process(child.pid).parent()
    assert supervisor is not None
    supervisor.kill()

    eventually(lambda: is_gone(child.pid), "the child's end")
    assert not child.alive()


def test_a_second_child_waits_for_the_last_process_of_the_first(
    start: Callable[..., Child], log: Path, eventually: Eventually
) -> None:
    slow = "trap 'sleep 0.3; echo first ends; exit' TERM; echo ready; while :; do sleep 0.02; done"
    parent, _ = _parent(f'child = start("/bin/sh", "-c", {slow!r}); print(child.pid, flush=True)', log)
    eventually(lambda: "ready" in log.read_text(), "the trap")
    _kill(parent)

    start(*_shell("echo second begins")).wait(10)

    assert log.read_text().splitlines() == ["ready", "first ends", "second begins"]
