"""Names and addresses: what is checked is what is connected to."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import pytest

from kit.egress import Egress, EgressPolicy, EgressResponse, SystemResolver, Timeouts
from kit.egress.resolver import AddressRefused, CheckedResolver, checked_sockets
from kit.errors import Denied, Invalid, Unavailable

PUBLIC = EgressPolicy(allow_plain_http=True)
PRIVATE = EgressPolicy(allow_private=True)
GENEROUS = Timeouts(total_seconds=20, connect_seconds=20, first_byte_seconds=20)
CLOSING = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"

RawServer = Callable[..., AbstractAsyncContextManager[int]]


@dataclass
class Names:
    """A resolver that answers from a list, one entry for each look-up; the last one stays."""

    answers: list[Sequence[str] | Exception]
    asked: list[str] = field(default_factory=list)

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Silent:
    """A resolver that never answers."""

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        never: asyncio.Future[Sequence[str]] = asyncio.get_running_loop().create_future()
        return await never


@dataclass
class Counter:
    """A server's handler that counts its connections."""

    connections: int = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CLOSING)
        await writer.drain()


async def get(egress: Egress, url: str, *, timeout: Timeouts = GENEROUS) -> EgressResponse:
    return await egress.request("GET", url, headers={}, timeout=timeout, max_response_bytes=1 << 20)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.0.0.1.",
        "0.0.0.0",
        "10.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "[fd00::1]",
        "[fe80::1%25lo]",
        "[::ffff:127.0.0.1%25lo]",
        "localhost",
    ],
)
async def test_by_default_only_the_public_internet_can_be_called(raw_server: RawServer, host: str) -> None:
    trap = Counter()

    async with raw_server(trap) as port, Egress(PUBLIC) as egress:
        with pytest.raises(Denied) as failure:
            await get(egress, f"http://{host}:{port}/")

    assert failure.value.reason == "EGRESS_ADDRESS_REFUSED"
    assert failure.value.metadata["origin"].startswith("http://")
    assert trap.connections == 0


async def test_metadata_stays_refused_where_private_addresses_are_allowed() -> None:
    names = Names([["169.254.169.254", "fd00:ec2::254", "fe80::1%2"]])

    async with Egress(PRIVATE, resolver=names) as egress:
        for host in ("169.254.169.254", "[fd00:ec2::254]", "metadata.example"):
            with pytest.raises(Denied) as failure:
                await get(egress, f"http://{host}/")
            assert failure.value.reason == "EGRESS_ADDRESS_REFUSED"


async def test_a_malformed_url_is_invalid_at_the_call_too() -> None:
    async with Egress(EgressPolicy()) as egress:
        for url in ("http://h/", "https://u:p@h/", "gopher://h/"):
            with pytest.raises(Invalid) as failure:
                await get(egress, url)
            assert failure.value.reason == "EGRESS_URL_INVALID"


async def test_refused_addresses_of_a_name_are_passed_over(raw_server: RawServer) -> None:
    names = Names([["169.254.169.254", "127.0.0.1", "ff02::1"]])
    server = Counter()

    async with raw_server(server) as port, Egress(PRIVATE, resolver=names) as egress:
        answer = await get(egress, f"http://provider.example:{port}/")

    assert answer.status == 204
    assert server.connections == 1


async def test_a_name_that_changes_its_address_after_the_check_gains_nothing(raw_server: RawServer) -> None:
    """The attacker's name leads to a permitted address when it is looked up first, then to one behind the wall."""
    policy = EgressPolicy(allow_plain_http=True, allowed_networks=(ipaddress.ip_network("127.0.0.1/32"),))
    names = Names([["127.0.0.1"], ["127.0.0.2"]])
    permitted, trap = Counter(), Counter()

    async with raw_server(permitted) as port, raw_server(trap, host="127.0.0.2", port=port):
        async with Egress(policy, resolver=names, dns_cache_seconds=0) as egress:
            answer = await get(egress, f"http://attacker.example:{port}/")
            asked_for_one_call = len(names.asked)
            with pytest.raises(Denied) as failure:
                await get(egress, f"http://attacker.example:{port}/")

    assert answer.status == 204
    assert asked_for_one_call == 1
    assert failure.value.reason == "EGRESS_ADDRESS_REFUSED"
    assert (permitted.connections, trap.connections) == (1, 0)


async def test_a_public_answer_that_turns_into_loopback_is_refused_and_the_public_one_is_what_is_given_on() -> None:
    resolver = CheckedResolver(Names([["8.8.8.8"], ["127.0.0.1"]]), PUBLIC)

    first = await resolver.resolve("attacker.example", 80)

    assert [(info[0], info[4]) for info in first] == [(socket.AF_INET, ("8.8.8.8", 80))]
    with pytest.raises(AddressRefused):
        await resolver.resolve("attacker.example", 80)


async def test_look_ups_are_remembered_up_to_a_number_of_names(raw_server: RawServer) -> None:
    names = Names([["127.0.0.1"]])

    async with raw_server(Counter()) as port, Egress(PRIVATE, resolver=names, dns_cache_names=1) as egress:
        for _ in range(3):
            await get(egress, f"http://one.example:{port}/")
        remembered = len(names.asked)
        await get(egress, f"http://two.example:{port}/")
        await get(egress, f"http://one.example:{port}/")

    assert remembered == 1
    assert names.asked == ["one.example", "two.example", "one.example"]


@pytest.mark.parametrize("answer", [socket.gaierror(socket.EAI_NONAME, "unknown"), []])
async def test_a_name_without_addresses_is_unresolved_for_all_who_ask(answer: Sequence[str] | Exception) -> None:
    async with Egress(EgressPolicy(), resolver=Names([answer])) as egress:
        outcomes = await asyncio.gather(*(get(egress, "https://no.example/") for _ in range(3)), return_exceptions=True)

    for outcome in outcomes:
        assert isinstance(outcome, Unavailable)
        assert outcome.reason == "EGRESS_NAME_UNRESOLVED"
        assert outcome.message == "https://no.example:443: the name does not resolve"


async def test_a_look_up_that_never_ends_is_a_connect_timeout() -> None:
    async with Egress(EgressPolicy(), resolver=Silent()) as egress:
        with pytest.raises(Unavailable) as failure:
            await get(egress, "https://slow.example/", timeout=Timeouts(5, 0.05, 5))

    assert (failure.value.reason, failure.value.metadata["phase"]) == ("EGRESS_TIMEOUT", "connect")


@pytest.mark.parametrize(
    ("family", "sockaddr"),
    [
        (socket.AF_INET, ("127.0.0.1", 80)),
        (socket.AF_INET, ("169.254.169.254", 80)),
        (socket.AF_INET6, ("::ffff:10.0.0.1", 80, 0, 0)),
        (socket.AF_INET6, ("2606:4700::1", 80, 0, 3)),
        (socket.AF_INET6, ("fe80::1%lo", 80, 0, 1)),
    ],
)
def test_no_socket_is_made_for_a_refused_address(family: int, sockaddr: tuple[object, ...]) -> None:
    with pytest.raises(OSError, match="may not be called"):
        checked_sockets(PUBLIC)((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", sockaddr))


def test_a_socket_is_made_for_a_permitted_address() -> None:
    address_info = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 80))

    with checked_sockets(PRIVATE)(address_info) as made:
        assert made.family == socket.AF_INET


async def test_the_system_resolver_knows_this_machine_and_fails_as_the_port_says() -> None:
    found = await SystemResolver().addresses("localhost", 80)

    assert found
    assert all(ipaddress.ip_address(address).is_loopback for address in found)
    with pytest.raises(OSError):  # noqa: PT011  the port promises no more than that
        await SystemResolver().addresses("no-such-host.invalid", 80)


async def test_a_kept_connection_that_died_is_not_replaced_by_one_to_an_address_that_was_not_checked(
    raw_server: RawServer,
) -> None:
    """A GET is sent once more when its kept connection turns out to be closed: then the name is looked up again."""
    policy = EgressPolicy(allow_plain_http=True, allowed_networks=(ipaddress.ip_network("127.0.0.1/32"),))
    names = Names([["127.0.0.1"], ["127.0.0.2"]])
    requests = 0

    async def answer_once_then_hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await reader.readuntil(b"\r\n\r\n")
        requests += 1
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        await reader.readuntil(b"\r\n\r\n")
        requests += 1

    trap = Counter()
    async with raw_server(answer_once_then_hang_up) as port, raw_server(trap, host="127.0.0.2", port=port):
        async with Egress(policy, resolver=names, dns_cache_seconds=0) as egress:
            await get(egress, f"http://attacker.example:{port}/")
            with pytest.raises(Denied) as failure:
                await get(egress, f"http://attacker.example:{port}/")

    assert failure.value.reason == "EGRESS_ADDRESS_REFUSED"
    assert (requests, len(names.asked), trap.connections) == (2, 2, 0)


async def test_every_address_that_is_tried_in_turn_was_checked(raw_server: RawServer) -> None:
    """The first address refuses the connection; the next one tried is not whatever the name leads to by then."""
    policy = EgressPolicy(
        allow_plain_http=True,
        allowed_networks=(ipaddress.ip_network("127.0.0.1/32"), ipaddress.ip_network("127.0.0.3/32")),
    )
    names = Names([["127.0.0.3", "127.0.0.2", "127.0.0.1"], ["127.0.0.2"]])
    permitted, trap = Counter(), Counter()

    async with raw_server(permitted) as port, raw_server(trap, host="127.0.0.2", port=port):
        async with Egress(policy, resolver=names, dns_cache_seconds=0) as egress:
            answer = await get(egress, f"http://attacker.example:{port}/")

    assert answer.status == 204
    assert (permitted.connections, trap.connections, len(names.asked)) == (1, 0, 1)


async def test_a_remembered_address_is_one_that_was_checked_and_a_new_look_up_is_checked_anew(
    raw_server: RawServer,
) -> None:
    policy = EgressPolicy(allow_plain_http=True, allowed_networks=(ipaddress.ip_network("127.0.0.1/32"),))
    names = Names([["127.0.0.1"], ["127.0.0.1"], ["127.0.0.2"]])
    permitted, trap = Counter(), Counter()

    async with raw_server(permitted) as port, raw_server(trap, host="127.0.0.2", port=port):
        async with Egress(policy, resolver=names, dns_cache_names=1) as egress:
            for _ in range(2):
                await get(egress, f"http://attacker.example:{port}/")
            remembered = len(names.asked)
            # Another name takes its place in memory.
            await get(egress, f"http://other.example:{port}/")
            with pytest.raises(Denied):
                await get(egress, f"http://attacker.example:{port}/")

    assert (remembered, permitted.connections, trap.connections) == (1, 3, 0)
