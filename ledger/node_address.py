"""Where a node listens for other nodes: "host:port", "[IPv6]:port", or ":port" where the host is seen from the peer.

One grammar for the genesis document, settings and the handshake, so that no document can name an address which a node
then refuses. The host is a name or an IPv4 address of letters, digits, dots and hyphens, or an IPv6 address in
brackets; the port is 1 to 65535 without leading zeros.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ledger.errors import Invalid, define

BAD_ADDRESS = define("E-PEER-012", "not a node's address", "write host:port or [IPv6]:port")

ADDRESS_CHARACTERS = 259
PORT_MAX = 65_535

_LABEL = r"[0-9A-Za-z](?:[0-9A-Za-z-]{0,61}[0-9A-Za-z])?"
_ADDRESS = re.compile(rf"({_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]{{2,45}}\])?:([1-9][0-9]{{0,4}})")


class Address(NamedTuple):
    """Where a node listens. An empty host stands for the address that its connection comes from."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, *, host_required: bool = False) -> Address:
    """The address that a text names. Raises Invalid (E-PEER-012)."""
    found = _ADDRESS.fullmatch(text) if len(text) <= ADDRESS_CHARACTERS else None
    if found is None or int(found[2]) > PORT_MAX or (host_required and not found[1]):
        raise Invalid(BAD_ADDRESS, f"{text[:ADDRESS_CHARACTERS]!r} is no address")
    return Address((found[1] or "").strip("[]"), int(found[2]))
