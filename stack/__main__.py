"""Postgres, NATS and a local LLM on free loopback ports, until Ctrl-C.

Each keeps its data in a folder of its own below <root>/<n>, where n is the first number that no living stack holds: a
second stack gets its own folder and ports, the next one finds the data of the last. The servers end with this process,
however it ends.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias

from kit.errors import AppError, Unavailable
from stack.folder import DEFAULT_ROOT, StackFolder
from stack.llm import Llm
from stack.nats import Nats
from stack.postgres import Postgres

_SERVERS = ("postgres", "nats", "llm")
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_WATCH_SECONDS = 0.5
_EXAMPLES = """examples:
  python -m stack
  python -m stack postgres nats --json
  python -m stack --root /var/tmp/demo
"""

AnyServer: TypeAlias = Postgres | Nats | Llm


def main() -> int:
    """Run until asked to stop; 0 then, 1 if a server failed."""
    arguments = _parser().parse_args()
    for number in _STOPS:
        signal.signal(number, _interrupt)
    try:
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(StackFolder.allocate(arguments.root))
            names = dict.fromkeys(arguments.servers or _SERVERS)
            servers = [_make(name, folder.path, durable=arguments.durable) for name in names]
            for server in servers:
                stack.enter_context(server)
            addresses = {"folder": str(folder.path)} | {server.name: _address(server) for server in servers}
            print(json.dumps(addresses) if arguments.json else _table(addresses), flush=True)
            _watch(servers)
    except KeyboardInterrupt:
        return 0
    except AppError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stack",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EXAMPLES,
    )
    parser.add_argument(
        "servers", nargs="*", metavar="server", type=_server_name, help=f"{', '.join(_SERVERS)} (default: all of them)"
    )
    parser.add_argument("--root", type=Path, default=DEFAULT_ROOT, help="folder of the data (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the addresses as one line of JSON once all serve")
    parser.add_argument("--durable", action="store_true", help="let Postgres survive a power loss; slower")
    return parser


def _server_name(text: str) -> str:
    if text not in _SERVERS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(_SERVERS)}")
    return text


def _make(name: str, folder: Path, *, durable: bool) -> AnyServer:
    match name:
        case "postgres":
            return Postgres(folder / name, durable=durable)
        case "nats":
            return Nats(folder / name)
        case _:
            return Llm(folder / name)


def _address(server: AnyServer) -> str:
    match server:
        case Postgres():
            return server.url("postgres")
        case Nats():
            return server.url
        case Llm():
            return server.base_url


def _table(addresses: dict[str, str]) -> str:
    width = max(map(len, addresses))
    rows = [f"  {name:<{width}}  {address}" for name, address in addresses.items()]
    return "\n".join(["", *rows, "", "Ctrl-C stops them."])


def _watch(servers: Sequence[AnyServer]) -> NoReturn:
    """
    :raises Unavailable: `SERVER_ENDED`, once one of them has
    """
    while True:
        for server in servers:
            if not server.alive():
                raise Unavailable(
                    f"{server.name} {server.ending}; its log is {server.log_path}",
                    reason="SERVER_ENDED",
                    server=server.name,
                )
        time.sleep(_WATCH_SECONDS)


def _interrupt(_number: int, _frame: object) -> None:
    # Once is enough: a second signal must not cut the stopping short.
    for number in _STOPS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
