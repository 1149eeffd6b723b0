"""Which network addresses a URL from outside may lead to.

A URL in a request could otherwise make the machine that runs the job read from services that trust their own
network: a router's page, a cloud's metadata service, a database on loopback. Names are resolved here once, every
answer is checked, and the caller connects to the addresses returned and to nothing else, so that a name which
resolves differently a moment later gains nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from gnomon.errors import InputError

Resolver = Callable[[str, int], list[str]]
"""(host, port) -> addresses as text; raises OSError for a name without any."""

_IPV6_UNICAST = IPv6Network("2000::/3")
"""All of today's public IPv6. What lies outside is local, multicast, reserved, or wraps another address."""

_NAT64 = IPv6Network("64:ff9b::/96")
"""Addresses that IPv6-only networks make up for IPv4 hosts; the last 32 bits are the IPv4 address."""

_ALSO_REFUSED = tuple(
    map(
        ip_network,
        (
            "168.63.129.16/32",  # Azure's host agent: a public number that every virtual machine finds on its host
            "192.0.0.0/24",  # special purposes; clouds put services here, and Python's own table has changed
            "2001::/23",  # the same in IPv6, Teredo among them, which wraps IPv4 addresses
            "3fff::/20",  # documentation, unknown to older Python
        ),
    )
)


def resolve_by_system(host: str, port: int) -> list[str]:
    """The addresses of a host as the operating system knows them, in its order of preference."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


def checked_addresses(host: str, port: int, *, resolve: Resolver, allow_private: bool, field: str) -> list[str]:
    """The addresses of `host`, all of them public unless `allow_private`.

    One internal address among public ones is refused as well: nobody publishes such a mixture by design.

    Raises:
        InputError: An address is not public (code `url_private`). It is not named, so that the answer tells
            nothing about the inside of a network.
        OSError: The name has no address.
    """
    addresses = resolve(host, port)
    if not allow_private and not all(map(is_public, addresses)):
        raise InputError(
            f"{field}: {host} is an address inside a private network, or of this machine itself",
            code="url_private",
            field=field,
            value=host,
            expected="a host on the public internet",
            fix="allow private addresses for this job, or give the file instead of its URL",
        )
    return addresses


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet.

    Refuses loopback, private, link-local, shared (carrier NAT), multicast, reserved, documentation and unspecified
    ranges, and IPv6 forms that wrap an IPv4 address of such a range. The private prefixes that some networks use
    for NAT64 look like any other public address and are not recognised.
    """
    ip = _unwrapped(ip_address(address))
    if isinstance(ip, IPv6Address) and ip not in _IPV6_UNICAST:
        return False
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _ALSO_REFUSED)


def _unwrapped(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that a mapped, 6to4 or NAT64 address leads to; any other address itself."""
    if isinstance(ip, IPv4Address):
        return ip
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip
