"""Which addresses and URLs may be called."""

from __future__ import annotations

import contextlib
import ipaddress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kit.egress import EgressPolicy, Reach, check_url, reach_of
from kit.egress.policy import MAX_URL_CHARACTERS, Address, Network
from kit.errors import Invalid

STRICT = EgressPolicy()
PRIVATE = EgressPolicy(allow_private=True)

STRICTER = tuple(
    ipaddress.ip_network(text)
    for text in (
        "192.0.0.0/24",
        "192.88.99.0/24",
        "168.63.129.16/32",
        "2001::/23",
        "3fff::/20",
        "fd00:ec2::254/128",
        "fd20:ce::254/128",
    )
)
"""Special here, whatever this release of Python calls them."""
LOCAL = tuple(ipaddress.ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
EDGES: tuple[Network, ...] = (
    *STRICTER,
    *LOCAL,
    *(
        ipaddress.ip_network(text)
        for text in (
            "0.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "192.0.2.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
            "::/128",
            "::1/128",
            "::/96",
            "::ffff:0:0/96",
            "64:ff9b::/96",
            "64:ff9b:1::/48",
            "100::/64",
            "2000::/3",
            "2001:db8::/32",
            "2002::/16",
            "5f00::/16",
            "fe80::/10",
            "fec0::/10",
            "ff00::/8",
        )
    ),
)


def reference(address: Address) -> Reach:
    """The same judgement from the properties of `ipaddress`."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return Reach.SPECIAL
        embedded = address.ipv4_mapped or address.sixtofour
        if address in ipaddress.ip_network("64:ff9b::/96"):
            embedded = ipaddress.IPv4Address(address.packed[12:])
        if embedded is not None:
            return reference(embedded)
    if any(address in network for network in STRICTER):
        return Reach.SPECIAL
    if address.is_loopback or any(address in network for network in LOCAL):
        return Reach.PRIVATE
    if address.is_global and not (address.is_multicast or address.is_reserved or address.is_link_local):
        is_site_local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
        return Reach.SPECIAL if is_site_local else Reach.PUBLIC
    return Reach.SPECIAL


@st.composite
def edge_addresses(draw: st.DrawFn) -> Address:
    network = draw(st.sampled_from(EDGES))
    number = int(draw(st.sampled_from((network[0], network[-1])))) + draw(st.integers(-1, 1))
    number %= 1 << network.max_prefixlen
    return ipaddress.IPv4Address(number) if network.version == 4 else ipaddress.IPv6Address(number)


@st.composite
def embedding_addresses(draw: st.DrawFn) -> Address:
    inner = int(draw(st.ip_addresses(v=4) | edge_addresses())) & 0xFFFF_FFFF
    prefix, shift = draw(st.sampled_from((("::ffff:0:0", 0), ("64:ff9b::", 0), ("2002::", 80), ("::", 0))))
    return ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | inner << shift)


zoned_addresses = st.builds(lambda address: ipaddress.ip_address(f"{address}%eth0"), st.ip_addresses(v=6))
addresses = st.ip_addresses() | edge_addresses() | embedding_addresses() | zoned_addresses


@settings(max_examples=500)
@given(addresses)
@example(ipaddress.ip_address("::ffff:127.0.0.1"))
@example(ipaddress.ip_address("64:ff9b::a9fe:a9fe"))
@example(ipaddress.ip_address("2002:7f00:1::"))
@example(ipaddress.ip_address("255.255.255.255"))
@example(ipaddress.ip_address("8.8.8.8"))
def test_every_address_is_classified_as_the_reference_does(address: Address) -> None:
    assert reach_of(address) is reference(address)


@settings(max_examples=200)
@given(addresses)
def test_public_addresses_are_always_permitted_private_by_setting_and_special_ones_never(address: Address) -> None:
    reach = reach_of(address)

    assert STRICT.permits(address) is (reach is Reach.PUBLIC)
    assert PRIVATE.permits(address) is (reach is not Reach.SPECIAL)


@given(addresses)
def test_a_listed_network_is_permitted_whatever_its_kind(address: Address) -> None:
    listed = EgressPolicy(allowed_networks=(ipaddress.ip_network(address),))

    assert listed.permits(address)


def test_a_listed_network_permits_the_ipv6_forms_of_its_addresses_and_nothing_beside_it() -> None:
    metadata = EgressPolicy(allowed_networks=(ipaddress.ip_network("169.254.169.254/32"),))

    assert metadata.permits(ipaddress.ip_address("::ffff:169.254.169.254"))
    assert not metadata.permits(ipaddress.ip_address("169.254.169.253"))
    assert not metadata.permits(ipaddress.ip_address("127.0.0.1"))


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1",
        "HTTPS://API.OpenAI.com",
        "https://api.openai.com.:8443/v1/?api-version=2024-06-01#x",
        "https://_dmarc.my_host.example",
        "https://8.8.8.8/dns-query",
        "https://[2606:4700:4700::1111]:443/",
        "https://[64:ff9b::808:808]/",
        "https://xn--bcher-kva.example/%C3%BC",
        "https://a.b.c.d.e1",
        "https://localhost/",
        "https://h:65535",
    ],
)
def test_a_public_https_url_is_accepted(url: str) -> None:
    check_url(url, STRICT)


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("", "must begin with"),
        ("api.openai.com", "must begin with"),
        ("//api.openai.com/", "must begin with"),
        ("ftp://h/", "must begin with"),
        ("file:///etc/passwd", "must begin with"),
        ("javascript:alert(1)", "must begin with"),
        ("https:h", "must begin with"),
        ("http://h/", "plain http is not allowed"),
        ("https://", "must name a host"),
        ("https:///v1", "must name a host"),
        ("https://:443/", "must name a host"),
        ("https://?x", "must name a host"),
        ("https://user@h/", "user name or password"),
        ("https://user:hunter2@h/", "user name or password"),
        ("https://@h/", "user name or password"),
        ("https://h:/", "must name a host"),
        ("https://h:+80/", "must name a host"),
        ("https://h:8_0/", "must name a host"),
        ("https://h:80:80/", "must name a host"),
        ("https://h:0/", "port from 1 to 65535"),
        ("https://h:65536/", "port from 1 to 65535"),
        ("https://a..b/", "parts are 1 to 63"),
        ("https://-a.example/", "parts are 1 to 63"),
        ("https://a%2eb/", "parts are 1 to 63"),
        ("https://" + "a" * 64 + ".example/", "parts are 1 to 63"),
        ("https://" + ".".join(["a" * 50] * 5) + "/", "parts are 1 to 63"),
        ("https://h/\r\nHost: x", "must be ASCII"),
        ("https://h /", "must be ASCII"),
        ("https://good.example\\@127.0.0.1/", "must be ASCII"),
        ("https://bücher.example/", "must be ASCII"),
        ("https://１２７.0.0.1/", "must be ASCII"),
        ("https://[::1/", "must name a host"),
        ("https://[v1.x]/", "must name a host"),
        ("https://[v1.x:y]/", ""),
        ("https://[1.2.3.4]/", "must name a host"),
        ("https://127.0.0.1/", "private or special"),
        ("https://10.1.2.3:8000/", "private or special"),
        ("https://169.254.169.254/latest/meta-data", "private or special"),
        ("https://0.0.0.0/", "private or special"),
        ("https://100.100.100.200/", "private or special"),
        ("https://255.255.255.255/", "private or special"),
        ("https://[::]/", "private or special"),
        ("https://[::1]/", "private or special"),
        ("https://[::ffff:127.0.0.1]/", "private or special"),
        ("https://[0:0:0:0:0:FFFF:7F00:1]/", "private or special"),
        ("https://[::127.0.0.1]/", "private or special"),
        ("https://[64:ff9b::7f00:1]/", "private or special"),
        ("https://[2002:7f00:1::]/", "private or special"),
        ("https://[fd00:ec2::254]/", "private or special"),
        ("https://[fe80::1]/", "private or special"),
        ("https://[fe80::1%25eth0]/", "private or special"),
        ("https://[2606:4700::1%eth0]/", "private or special"),
        ("https://[ff02::1]/", "private or special"),
        ("https://2130706433/", "canonical form"),
        ("https://134744072/", "canonical form"),
        ("https://127.1/", "canonical form"),
        ("https://0177.0.0.1/", "canonical form"),
        ("https://017700000001/", "canonical form"),
        ("https://0x7f000001/", "canonical form"),
        ("https://0X7F.0.0.0x1/", "canonical form"),
        ("https://0x/", "canonical form"),
        ("https://127.0.0.1./", "canonical form"),
        ("https://256.1.1.1/", "canonical form"),
        ("https://x.1/", "canonical form"),
        ("https://h/" + "a" * MAX_URL_CHARACTERS, "at most 2048 characters"),
    ],
)
def test_a_url_that_could_not_be_called_is_refused_with_one_violation(url: str, wrong: str) -> None:
    with pytest.raises(Invalid) as failure:
        check_url(url, STRICT, field="provider.base_url")

    (violation,) = failure.value.violations
    assert failure.value.reason == "EGRESS_URL_INVALID"
    assert violation.field == "provider.base_url"
    assert wrong in violation.message
    assert "hunter2" not in str(failure.value)


@given(st.text(max_size=60) | st.text("htps:/@[]%\\.01x7fa-#?", max_size=40).map("https://".__add__))
def test_any_text_is_either_accepted_or_invalid(url: str) -> None:
    with contextlib.suppress(Invalid):
        check_url(url, PRIVATE)


def test_plain_http_needs_a_setting_and_so_do_private_addresses() -> None:
    check_url("http://api.example/", EgressPolicy(allow_plain_http=True))
    check_url("http://localhost:11434/", PRIVATE)
    check_url("http://[::1]:11434/", PRIVATE)
    with pytest.raises(Invalid, match="private or special"):
        check_url("http://127.0.0.1/", EgressPolicy(allow_plain_http=True))
    with pytest.raises(Invalid, match="private or special"):
        check_url("http://169.254.169.254/", PRIVATE)
    with pytest.raises(Invalid, match="canonical form"):
        check_url("http://127.1/", PRIVATE)
