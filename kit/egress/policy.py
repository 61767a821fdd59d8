"""Where calls may go: what kind of address each one is, and which kinds and URLs an installation allows. Pure."""

from __future__ import annotations

import enum
import ipaddress
import re
from dataclasses import dataclass
from typing import TypeAlias

from yarl import URL

from kit.errors import Invalid, Violation

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL_CHARACTERS = 2048


class Reach(enum.Enum):
    """Who answers at an address."""

    PUBLIC = "public"
    """Somebody on the internet."""
    PRIVATE = "private"
    """This machine or its own network: loopback, RFC 1918, unique local."""
    SPECIAL = "special"
    """Nobody that a call is meant for: link-local, cloud metadata, shared (CGNAT), multicast, reserved, and so on."""


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


# The tables follow the IANA special-purpose address registries (RFC 6890 and its updates), not the properties of
# `ipaddress`, whose answers change between patch releases of Python.
_PRIVATE = _networks("10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
_SPECIAL = _networks(
    "0.0.0.0/8",
    "100.64.0.0/10",  # shared (CGNAT); Alibaba Cloud's metadata is at 100.100.100.200
    "169.254.0.0/16",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",  # broadcast is its last address
    "168.63.129.16/32",  # a public number that every Azure machine reaches as its platform's agent
    "2001::/23",  # protocol assignments; Teredo, which hides an IPv4 address, is in it
    "2001:db8::/32",
    "3fff::/20",
    "fd00:ec2::254/128",  # metadata of AWS and of Google Cloud, inside the unique local range
    "fd20:ce::254/128",
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All of IPv6 that is handed out; whatever lies outside is special unless named."""
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_6TO4 = ipaddress.IPv6Network("2002::/16")


def reach_of(address: Address) -> Reach:
    """What kind of address it is; of an IPv6 address that leads to an IPv4 one (mapped, NAT64, 6to4), that one's kind.

    An address with a zone id is link-local by nature and so special.
    """
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        return Reach.SPECIAL
    address = _destination(address)
    if any(address in network for network in _SPECIAL):
        return Reach.SPECIAL
    if any(address in network for network in _PRIVATE):
        return Reach.PRIVATE
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST:
        return Reach.SPECIAL
    return Reach.PUBLIC


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """What an installation lets its services call. Public addresses over https are always allowed."""

    allow_private: bool = False
    """Also private addresses, and http."""
    allow_plain_http: bool = False
    """Also http."""
    allowed_networks: tuple[Network, ...] = ()
    """Also these, whatever their kind; the only way to special addresses."""

    def permits(self, address: Address) -> bool:
        """Whether a connection to this address may be made."""
        reach = reach_of(address)
        if reach is Reach.PUBLIC or (reach is Reach.PRIVATE and self.allow_private):
            return True
        destination = _destination(address)
        return any(address in network or destination in network for network in self.allowed_networks)

    @property
    def permits_http(self) -> bool:
        """Whether a URL may be plain http."""
        return self.allow_private or self.allow_plain_http


def check_url(url: str, policy: EgressPolicy, *, field: str = "url") -> None:
    """Refuse, when it is written, a URL that could not be called. A name's addresses are checked at each connection.

    :param field: path of the URL in the request, for the violation
    :raises Invalid: `EGRESS_URL_INVALID` with one violation; its message repeats nothing of the URL but scheme and port
    """
    wrong = refusal_of_host(parse_url(url, policy, field=field), policy)
    if wrong is not None:
        raise _invalid(field, wrong)


def parse_url(url: str, policy: EgressPolicy, *, field: str = "url") -> URL:
    """The URL, if its form is right; whether its host may be called is :func:`refusal_of_host`.

    :raises Invalid: as :func:`check_url`
    """
    if len(url) > MAX_URL_CHARACTERS:
        raise _invalid(field, f"must have at most {MAX_URL_CHARACTERS} characters, has {len(url)}")
    if _FORBIDDEN_CHARACTER.search(url) is not None:
        raise _invalid(field, "must be ASCII without spaces or backslashes; write others as %XX or, in names, punycode")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise _invalid(field, "must begin with https:// or http://")
    if scheme.lower() == "http" and not policy.permits_http:
        raise _invalid(field, "must begin with https://; plain http is not allowed here")
    authority = _END_OF_AUTHORITY.split(rest, maxsplit=1)[0]
    if "@" in authority:
        raise _invalid(field, "must not hold a user name or password")
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise _invalid(field, "must name a host, with or without a port")
    name, port = match["name"], match["port"]
    if name is not None and not _is_host_name(name):
        raise _invalid(field, "must name a host whose parts are 1 to 63 letters, digits, '-' and '_'")
    if port is not None and not 1 <= int(port) <= 65535:
        raise _invalid(field, f"must have a port from 1 to 65535, has {port}")
    try:
        return URL(url)
    except ValueError:
        raise _invalid(field, "is not a URL") from None


def refusal_of_host(url: URL, policy: EgressPolicy) -> str | None:
    """Why the host of a parsed URL may not be called, as the end of a sentence; None for a name or permitted one."""
    host = url.raw_host or ""
    if ":" not in host and not _ENDS_IN_NUMBER.search(host):
        return None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # 127.1, 2130706433, 0x7f.1 and 0177.0.0.1 are addresses to some resolvers and names to others.
        return "must write an IP address in its canonical form"
    if not policy.permits(address):
        return "must not be an address in a private or special network"
    return None


_FORBIDDEN_CHARACTER = re.compile(r"[^\x21-\x7e]|\\")
_END_OF_AUTHORITY = re.compile(r"[/?#]")
_AUTHORITY = re.compile(r"(?:\[[^\]]*:[^\]]*\]|(?P<name>[^:\[\]]+))(?::(?P<port>[0-9]{1,5}))?")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
# As the WHATWG URL standard tells addresses from names: by the last part, decimal or hexadecimal.
_ENDS_IN_NUMBER = re.compile(r"(?:^|\.)(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?$")


def _is_host_name(name: str) -> bool:
    name = name.removesuffix(".")
    return len(name) <= 253 and all(_LABEL.fullmatch(label) for label in name.split("."))


def _destination(address: Address) -> Address:
    """Where packets for this address end up: the IPv4 address inside an IPv6 one, else itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _MAPPED or address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in _6TO4:
        return ipaddress.IPv4Address(int(address) >> 80 & 0xFFFF_FFFF)
    return address


def _invalid(field: str, message: str) -> Invalid:
    return Invalid(f"{field} {message}", reason="EGRESS_URL_INVALID", violations=(Violation(field, message),))
