"""From a place to an open connection: look up, connect to a checked address, speak TLS."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Callable, Sequence
from typing import Final

import aiohappyeyeballs

from kit.egress.policy import EgressPolicy
from kit.egress.pool import Place
from kit.egress.resolver import AddressInfo, CheckedResolver, address_infos, checked_sockets
from kit.egress.wire import Wire

_NEXT_ADDRESS_SECONDS: Final = 0.25
"""RFC 8305, section 5: after it, the next address is tried beside the one before."""


class Connector:
    """Makes connections.

    :param tls: trust for https; the system's roots if None
    """

    def __init__(self, resolver: CheckedResolver, policy: EgressPolicy, tls: ssl.SSLContext | None) -> None:
        self._resolver = resolver
        self._sockets = checked_sockets(policy)
        self._tls = tls

    async def connect(self, place: Place, made: Callable[[], Wire]) -> Wire:
        """A connection.

        :raises OSError: `Unresolved`, `AddressRefused`, `ssl.SSLError`, or the operating system's
        """
        loop = asyncio.get_running_loop()
        opened = await aiohappyeyeballs.start_connection(
            await self._addresses(place),
            happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS,
            interleave=1,
            loop=loop,
            socket_factory=self._sockets,
        )
        try:
            if not place.is_tls:
                _, wire = await loop.create_connection(made, sock=opened)
                return wire
            if self._tls is None:
                # It reads hundreds of certificates.
                self._tls = await asyncio.to_thread(ssl.create_default_context)
                self._tls.set_alpn_protocols(["http/1.1"])
            network, before = await loop.create_connection(_BeforeTls, sock=opened)
        except BaseException:
            # Behind what the loop still does with it: the next socket has the same number.
            loop.call_soon(opened.close)
            raise
        wire = made()
        try:
            wire.secured(await _tls_over(network, before, wire, self._tls, place.host), network)
        except BaseException:
            # Not `close`: it says farewell, and waits for an answer.
            network.abort()
            raise
        return wire

    async def _addresses(self, place: Place) -> Sequence[AddressInfo]:
        try:
            ipaddress.ip_address(place.host)
        except ValueError:
            return await self._resolver.resolve(place.host, place.port)
        return address_infos(place.host, place.port)


class _BeforeTls(asyncio.Protocol):
    """A connection until TLS begins, which is the client's to do. What comes before is lost: uvloop reads at once."""

    def __init__(self) -> None:
        self.has_heard = False

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self.has_heard = True


async def _tls_over(
    network: asyncio.Transport, before: _BeforeTls, wire: Wire, tls: ssl.SSLContext, host: str
) -> asyncio.Transport:
    if before.has_heard:
        raise ssl.SSLError("the server speaks first")
    secured = None
    if not network.is_closing():
        # Names in certificates have no dot at their end.
        secured = await asyncio.get_running_loop().start_tls(network, wire, tls, server_hostname=host.rstrip("."))
    if secured is None or network.is_closing():
        raise ConnectionResetError("the server has hung up")
    return secured
