"""From a name to addresses that may be called, and from such an address to a socket, with the policy in both steps."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeAlias

from kit.egress.policy import EgressPolicy
from kit.lru import Lru

AddressInfo: TypeAlias = tuple[int, int, int, str, tuple[Any, ...]]
"""As `socket.getaddrinfo` gives it."""


_LOOK_UP_SECONDS: Final = 30.0
"""Whoever asks waits for less; without it one that hangs would be waited for for ever."""


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


class Unresolved(OSError):
    """The name has no addresses."""


class CheckedResolver:
    """From a name to addresses that may be called: one that the policy forbids is as if the name did not have it.

    :param remember_seconds: how long the addresses of a name are remembered
    :param remember_names: of how many names
    """

    def __init__(
        self, resolver: Resolver, policy: EgressPolicy, *, remember_seconds: float = 0, remember_names: int = 1
    ) -> None:
        self._resolver = resolver
        self._policy = policy
        self._remember_seconds = remember_seconds
        self._remembered: Lru[tuple[str, int], tuple[float, Sequence[AddressInfo]]] = Lru(max_entries=remember_names)
        self._under_way: dict[tuple[str, int], asyncio.Task[Sequence[AddressInfo]]] = {}

    async def resolve(self, host: str, port: int) -> Sequence[AddressInfo]:
        """The preferred first. Whoever asks for a name that is being looked up waits for the same look-up.

        :raises Unresolved: if the name has no addresses
        :raises AddressRefused: if it has some but none that may be called
        """
        key, loop = (host, port), asyncio.get_running_loop()
        remembered = self._remembered.get(key)
        if remembered is not None and remembered[0] > loop.time():
            return remembered[1]
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = loop.create_task(self._look_up(host, port))
            task.add_done_callback(functools.partial(self._looked_up, key))
        try:
            # Whoever gives up does not end it for the others.
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            asked_by = asyncio.current_task()
            if task.cancelled() and asked_by is not None and not asked_by.cancelling():
                raise Unresolved("nobody looks names up any more") from None
            raise

    def close(self) -> None:
        """Look nothing up any more."""
        for task in self._under_way.values():
            task.cancel()

    def _looked_up(self, key: tuple[str, int], task: asyncio.Task[Sequence[AddressInfo]]) -> None:
        del self._under_way[key]
        if not task.cancelled():
            # Or asyncio would log it, if nobody waits any more.
            task.exception()

    async def _look_up(self, host: str, port: int) -> Sequence[AddressInfo]:
        try:
            async with asyncio.timeout(_LOOK_UP_SECONDS):
                found = await self._resolver.addresses(host, port)
            permitted = [address for address in found if self._policy.permits(ipaddress.ip_address(address))]
        except (OSError, ValueError) as error:
            raise Unresolved(str(error)) from error
        if not found:
            raise Unresolved("the name has no addresses")
        if not permitted:
            raise AddressRefused("no address of the name may be called")
        infos = [info for address in permitted for info in address_infos(address, port)]
        if self._remember_seconds:
            self._remembered.put((host, port), (asyncio.get_running_loop().time() + self._remember_seconds, infos))
        return infos


def address_infos(address: str, port: int) -> Sequence[AddressInfo]:
    """What a socket is made for; looks nothing up.

    :param address: numeric
    """
    return socket.getaddrinfo(
        address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    )


def checked_sockets(policy: EgressPolicy) -> Callable[[tuple[Any, ...]], socket.socket]:
    """A socket factory that judges the very address which is connected to next.

    Every connection passes it, however its address was come by: a name's addresses a second time, an address written
    in a URL even if two parts of this should ever read one URL in two ways. The tuple is getaddrinfo's.
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
