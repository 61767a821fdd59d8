"""TLS: whom it trusts, how it begins, and that what is said over it is whole however slowly it is read."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import aiohappyeyeballs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kit.egress import Egress, EgressPolicy, EgressResponse, Timeouts
from kit.errors import Unavailable

LOOPBACK = EgressPolicy(allow_private=True)
GENEROUS = Timeouts(total_seconds=20, connect_seconds=20, first_byte_seconds=20)
OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
BIG = bytes(16 << 20)
"""More than the kernel takes from a writer whom nobody reads."""

if TYPE_CHECKING:
    from tests.kit.egress.conftest import Refusing

RawServer = Callable[..., AbstractAsyncContextManager[int]]


class Loopback:
    """Every name is this machine."""

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate for `provider.test`, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "provider.test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("provider.test")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cadata=certificate.public_bytes(serialization.Encoding.PEM).decode())


@pytest.fixture
def egress(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> Egress:
    """Trusts the server of `tls`."""
    return Egress(LOOPBACK, resolver=Loopback(), tls=tls[1])


async def get(
    egress: Egress, port: int, *, host: str = "provider.test", body: bytes = b"", timeout: Timeouts = GENEROUS
) -> EgressResponse:
    url = f"https://{host}:{port}/"
    return await egress.request("GET", url, headers={}, body=body, timeout=timeout, max_response_bytes=100)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(EMPTY)
    await writer.drain()


async def test_the_name_is_verified_though_its_checked_address_is_connected_to(
    raw_server: RawServer, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server, client = tls

    async with raw_server(answer_once, tls=server) as port:
        async with Egress(LOOPBACK, resolver=Loopback(), tls=client) as egress:
            answer = await get(egress, port)
            with pytest.raises(Unavailable, match="certificate is not valid: Hostname mismatch") as mismatch:
                await get(egress, port, host="other.test")
        async with Egress(LOOPBACK, resolver=Loopback()) as egress:
            with pytest.raises(Unavailable, match="certificate is not valid: self-signed") as untrusted:
                await get(egress, port)

    assert answer.status == 204
    for failure in (mismatch.value, untrusted.value):
        assert (failure.reason, failure.metadata["cause"]) == ("EGRESS_CONNECTION_FAILED", "TLS")


async def test_a_server_that_does_not_speak_tls_is_a_failed_connection(raw_server: RawServer) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with raw_server(talk) as port, Egress(LOOPBACK) as egress:
        with pytest.raises(Unavailable) as failure:
            await get(egress, port, host="127.0.0.1")

    assert (failure.value.reason, failure.value.metadata["cause"]) == ("EGRESS_CONNECTION_FAILED", "TLS")


@pytest.mark.parametrize("framing", [b"\r\n", b"Content-Length: 300000\r\n\r\n"], ids=["end of connection", "length"])
async def test_a_body_is_whole_though_its_server_had_left_before_it_was_read(
    tls: tuple[ssl.SSLContext, ssl.SSLContext], egress: Egress, framing: bytes
) -> None:
    """More than is taken while nobody reads, mostly; and the end comes without a farewell of TLS."""
    body = bytes(300_000)

    def serve() -> None:
        connection, _ = listening.accept()
        with tls[0].wrap_socket(connection, server_side=True) as secured:
            assert secured.recv(1 << 16).endswith(b"\r\n\r\n")
            secured.sendall(OK + framing + body)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        # The kernel takes all that is said.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, len(body))
        url = f"https://provider.test:{listening.getsockname()[1]}/"
        serving = asyncio.create_task(asyncio.to_thread(serve))
        async with (
            egress,
            egress.stream("GET", url, headers={}, timeout=GENEROUS, max_response_bytes=len(body)) as answer,
        ):
            await serving
            await until(lambda: answer.is_paused or answer._is_whole)
            # If the end were looked at, it would be found now.
            for _ in range(100):
                await asyncio.sleep(0)
            assert await answer.read() == body


async def test_a_server_that_refuses_what_it_has_not_read_gets_no_other_request_behind_it(
    raw_server: RawServer, refusing: Refusing, tls: tuple[ssl.SSLContext, ssl.SSLContext], egress: Egress
) -> None:
    async with raw_server(refusing, tls=tls[0]) as port, egress:
        for _ in range(2):
            assert (await get(egress, port, body=BIG)).status == 413
        refusing.may_read.set()

    assert refusing.connections == 2


class Handshaking(ssl.SSLObject):
    """Tells when its handshake is through, before anybody else learns of it."""

    is_through: Callable[[], object]

    def do_handshake(self) -> None:
        super().do_handshake()
        self.is_through()


async def test_a_call_that_is_cancelled_as_the_handshake_completes_leaves_nothing(
    tls: tuple[ssl.SSLContext, ssl.SSLContext], egress: Egress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that is closed while its transport is at work would share its number with the next one."""

    def serve() -> None:
        first, _ = listening.accept()
        with tls[0].wrap_socket(first, server_side=True, suppress_ragged_eofs=True) as silent:
            second, _ = listening.accept()
            with tls[0].wrap_socket(second, server_side=True) as secured:
                assert secured.recv(1 << 16).endswith(b"\r\n\r\n")
                secured.sendall(EMPTY)
            with contextlib.suppress(ConnectionResetError):
                assert silent.recv(1) == b""

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)
        port = listening.getsockname()[1]
        serving = asyncio.create_task(asyncio.to_thread(serve))
        async with egress:
            cancelled = asyncio.create_task(get(egress, port))
            monkeypatch.setattr(Handshaking, "is_through", lambda _: cancelled.cancel(), raising=False)
            monkeypatch.setattr(tls[1], "sslobject_class", Handshaking)
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            monkeypatch.undo()
            assert (await get(egress, port)).status == 204
            await serving


async def test_a_handshake_that_stalls_is_given_up(raw_server: RawServer, egress: Egress) -> None:
    ended = asyncio.Event()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            ended.set()

    async with raw_server(stall) as port, egress:
        with pytest.raises(Unavailable) as failure:
            await get(egress, port, timeout=Timeouts(5, 0.05, 5))
        await asyncio.wait_for(ended.wait(), 5)

    assert (failure.value.reason, failure.value.metadata["phase"]) == ("EGRESS_TIMEOUT", "connect")


@pytest.mark.parametrize(("said", "cause"), [(b"220 ready\r\n", "TLS"), (b"", "DISCONNECTED")], ids=["talk", "end"])
async def test_a_server_that_speaks_or_ends_before_tls_is_a_failed_connection(
    raw_server: RawServer,
    egress: Egress,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    said: bytes,
    cause: str,
) -> None:
    ended = asyncio.Event()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        if not said:
            writer.write_eof()
        try:
            await reader.read()
        finally:
            ended.set()

    start = aiohappyeyeballs.start_connection

    async def start_and_listen(*args: object, **settings: object) -> socket.socket:
        opened = await start(*args, **settings)  # type: ignore[arg-type]  # as it was called

        def is_heard() -> bool:
            try:
                opened.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                return False
            return True

        await until(is_heard)
        return opened

    monkeypatch.setattr(aiohappyeyeballs, "start_connection", start_and_listen)
    async with raw_server(speak) as port, egress:
        with pytest.raises(Unavailable) as failure:
            await get(egress, port)
        await asyncio.wait_for(ended.wait(), 5)

    assert (failure.value.reason, failure.value.metadata["cause"]) == ("EGRESS_CONNECTION_FAILED", cause)
    assert not caplog.records


class SpeaksFirst(asyncio.Protocol):
    """In one packet with the end of the handshake."""

    def __init__(self, said: bytes) -> None:
        self._said = said

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.WriteTransport, transport).write(self._said)


@pytest.mark.parametrize("size", [5, 100_000, 1_000_000])
async def test_a_server_may_speak_as_soon_as_tls_is_spoken(
    tls: tuple[ssl.SSLContext, ssl.SSLContext], egress: Egress, size: int
) -> None:
    # Later versions let the client have the last word.
    tls[0].maximum_version = ssl.TLSVersion.TLSv1_2
    said = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
    server = await asyncio.get_running_loop().create_server(lambda: SpeaksFirst(said), "127.0.0.1", 0, ssl=tls[0])

    async with server, egress:
        if size == 5:
            assert (await get(egress, server.sockets[0].getsockname()[1])).status == 503
        else:
            with pytest.raises(Unavailable):
                await get(egress, server.sockets[0].getsockname()[1])
        assert egress._pool is not None
        assert egress._pool._in_use == 0
