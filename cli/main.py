"""What the shell runs as `turnout`. However it ends, it ends with a status and at most a sentence, not a traceback.

The commands are imported late: that takes most of a second, in which people press Ctrl-C too.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Final

INTERRUPTED: Final = 128 + signal.SIGINT
_USAGE: Final = 2
_COMPLETE: Final = "_TURNOUT_COMPLETE"


def main() -> int:
    """Run the command line; the exit status: 0, 1 after a failure, 2 for bad usage, 130 after a Ctrl-C."""
    # A parent that ignores Ctrl-C for us has its reasons.
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _speak_utf8()
    try:
        arguments = _arguments(sys.argv[1:])
    except UnicodeError as error:
        _say(str(error))
        return _USAGE
    from cli.app import app

    if is_ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status = _status(app, arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:
        # Whoever read has enough.
        _discard_output()
        status = 1
    except OSError as error:
        _discard_output()
        _say(f"{error.filename or 'the answer cannot be written'}: {error.strerror}")
        status = 1
    except UnicodeError as error:
        _discard_output()
        _say(f"the answer cannot be written as text here: {error.reason if hasattr(error, 'reason') else error}")
        status = 1
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    return status


def _status(app: object, arguments: Sequence[str]) -> int:
    assert callable(app)  # noqa: S101  # a Typer; its own type would have to be imported early
    try:
        if "--json" in arguments:
            return _told_as_json(app, arguments)
        if os.environ.get(_COMPLETE) == "complete_bash":
            return _completed(app, arguments)
        app(args=arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _told_as_json(app: Callable[..., object], arguments: Sequence[str]) -> int:
    """Programs that ask for JSON are told in JSON, too, what is wrong with their options."""
    import grpc
    import typer

    from cli import output
    from kit.errors import Invalid

    try:
        status = app(args=arguments, standalone_mode=False)
    except typer.Abort:
        return 1
    except Exception as error:
        # Usage errors have a base that typer does not publish.
        if not (hasattr(error, "format_message") and hasattr(error, "exit_code")):
            raise
        output.tell_failures_as_json(True)
        output.failure(Invalid(error.format_message(), reason="USAGE"), grpc.StatusCode.INVALID_ARGUMENT)
        return int(error.exit_code)
    return status if isinstance(status, int) else 0


def _completed(app: Callable[..., object], arguments: Sequence[str]) -> int:
    """Proposals for bash, without what it has already."""
    from cli import bash_words

    prefix = bash_words.joined(os.environ)
    proposed = io.StringIO()
    try:
        with contextlib.redirect_stdout(proposed):
            app(args=arguments)
    finally:
        for line in proposed.getvalue().splitlines():
            print(line.removeprefix(prefix))
    return 0


def _arguments(given: Sequence[str]) -> list[str]:
    """As UTF-8, whatever the locale.

    :raises UnicodeError: a sentence that says which argument, or setting, is none
    """
    arguments = []
    for number, argument in enumerate(given, start=1):
        try:
            arguments.append(os.fsencode(argument).decode())
        except UnicodeError:
            raise UnicodeError(f"argument {number} is not valid UTF-8") from None
    for name, value in os.environ.items():
        if name.startswith("TURNOUT_"):
            try:
                value.encode()
            except UnicodeError:
                raise UnicodeError(f"{name} cannot be read as text in this locale") from None
    return arguments


def _speak_utf8() -> None:
    # The locale C promises ASCII only, and terminals in it show UTF-8 nevertheless.
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            is_ascii = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding="utf-8" if is_ascii else None, errors="backslashreplace")


def _discard_output() -> None:
    """Let what is still buffered go nowhere: the interpreter writes it once more when it ends."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.__stdout__.fileno() if sys.__stdout__ is not None else 1)
        os.close(null)


def _say(sentence: str) -> None:
    with contextlib.suppress(OSError):
        print(sentence, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
