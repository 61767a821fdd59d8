"""From a name to addresses that may be called, and from such an address to a socket, with the policy in both steps."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from aiohttp.abc import AbstractResolver, ResolveResult

from kit.egress.policy import EgressPolicy


class Resolver(Protocol):
    """Looks names up."""

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """Numeric addresses of `host`, the preferred first; a zone id stays attached (`fe80::1%2`).

        :raises OSError: when there is none
        """
        ...


class SystemResolver:
    """The operating system's resolver: hosts file, search domains and the order of RFC 6724 included."""

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """As :class:`Resolver`."""
        # No AI_ADDRCONFIG: on a machine with nothing but loopback it makes `localhost` unknown.
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [_with_zone(sockaddr) for *_, sockaddr in found]


class AddressRefused(OSError):
    """The policy forbids the address. An OSError, since that is what a connector takes as "not this one"."""


class CheckedResolver(AbstractResolver):
    """Between aiohttp and a :class:`Resolver`: an address that the policy forbids is as if the name did not have it."""

    def __init__(self, resolver: Resolver, policy: EgressPolicy) -> None:
        self._resolver = resolver
        self._policy = policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """:raises AddressRefused: if the name has addresses but none that may be called"""
        found = await self._resolver.addresses(host, port)
        if not found:
            raise OSError("the name has no addresses")
        permitted = [address for address in found if self._policy.permits(ipaddress.ip_address(address))]
        if not permitted:
            raise AddressRefused("no address of the name may be called")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in permitted
        ]

    async def close(self) -> None:
        """Holds nothing."""


def checked_sockets(policy: EgressPolicy) -> Callable[[tuple[Any, ...]], socket.socket]:
    """A socket factory for aiohttp that judges the very address which is connected to next.

    Every connection passes it, however its address was come by: a name's addresses a second time, an address written
    in a URL even if aiohttp and `kit.egress.policy` should ever read one URL in two ways. The tuple is getaddrinfo's.
    """

    def make(address_info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, sockaddr = address_info
        if not policy.permits(ipaddress.ip_address(_with_zone(sockaddr))):
            raise AddressRefused("the address may not be called")
        return socket.socket(family, kind, protocol)

    return make


def _with_zone(sockaddr: tuple[Any, ...]) -> str:
    """The address in a sockaddr; one of IPv6 has four fields, the last its zone, of which 0 is none."""
    address = str(sockaddr[0])
    zone = sockaddr[3] if len(sockaddr) == 4 else 0
    return f"{address}%{zone}" if zone and "%" not in address else address
