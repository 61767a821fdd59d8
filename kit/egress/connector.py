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
            # Names in certificates have no dot at their end.
            name = place.host.rstrip(".")
            if self._tls is None:
                # It reads hundreds of certificates.
                self._tls = await asyncio.to_thread(ssl.create_default_context)
                self._tls.set_alpn_protocols(["http/1.1"])
            _, wire = await loop.create_connection(made, sock=opened, ssl=self._tls, server_hostname=name)
        except BaseException:
            # Behind what the loop still does with it: the next socket has the same number.
            loop.call_soon(opened.close)
            raise
        return wire

    async def _addresses(self, place: Place) -> Sequence[AddressInfo]:
        try:
            ipaddress.ip_address(place.host)
        except ValueError:
            return await self._resolver.resolve(place.host, place.port)
        return address_infos(place.host, place.port)
