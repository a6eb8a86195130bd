"""What a person types and reads, and the declared kinds (`vm.kinds`) that stand behind it.

Rules kept here:
- an address may be typed as `troth1...`, as the label of a key of this home, or as `dev:NAME` (a development key);
- a time may be typed as ms since 1970, as a date or time of ISO 8601 (UTC unless it says otherwise), or as `+30d`;
- a 32-byte hash may be typed as hexadecimal or as `@FILE`, the SHA-256 of that file; never where it must be salted,
  because a bare hash of something guessable tells it;
- everything else is typed as JSON shows it; `none` stands for null.
"""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.key_access import DEV_PREFIX
from cli.session import Session
from ledger.address import PREFIX, address_of, from_text
from ledger.errors import TrothError
from vm.kinds import AddressKind, ArrayKind, BooleanKind, BytesKind, ChoiceKind, IntegerKind, Kind, OptionalKind

if TYPE_CHECKING:
    from collections.abc import Callable

HASH_FILE_BYTES = 32

_SPAN = re.compile(r"\+([0-9]{1,6})(m|h|d)")
_SPAN_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
_YES, _NO = ("yes", "true", "on"), ("no", "false", "off")


def now_ms() -> int:
    """This machine's time, ms since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000


def is_time(kind: Kind) -> bool:
    """True where a kind is a time in ms."""
    kind = kind.inner if isinstance(kind, OptionalKind) else kind
    return isinstance(kind, IntegerKind) and kind.what.startswith("ms since")


def parse_time(text: str, now: int) -> int:
    """The ms since 1970-01-01 UTC of what was typed. `now` is what `+30d` counts from. Raises ValueError."""
    from datetime import UTC, datetime, timedelta

    if text.isascii() and text.isdecimal():
        return int(text)
    span = _SPAN.fullmatch(text)
    if span:
        return now + int(span[1]) * _SPAN_MS[span[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("must be a date such as 2030-01-31, a span such as +30d, or ms since 1970") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def show_time(time_ms: int) -> str:
    """A time for people: `2030-01-31 12:00:00 UTC`, with ms where there are any."""
    from datetime import UTC, datetime

    try:
        moment = datetime.fromtimestamp(time_ms // 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{time_ms} ms"
    rest = time_ms % 1000
    return f"{moment:%Y-%m-%d %H:%M:%S}{f'.{rest:03}' if rest else ''} UTC"


def address_from_text(text: str, label_address: Callable[[str], str] | None = None) -> bytes:
    """The address that was typed. `label_address` finds the address text of a key's label.

    Raises TrothError: E-ADDRESS-001, E-KEYSTORE-....
    """
    if text.startswith(DEV_PREFIX):
        from node.keystore import dev_key

        return address_of(dev_key(text.removeprefix(DEV_PREFIX)).public)
    if label_address is None or text.lower().startswith(PREFIX + "1"):
        return from_text(text)
    return from_text(label_address(text))


def value_from_text(kind: Kind, text: str, label_address: Callable[[str], str] | None = None) -> Any:
    """The codec value of what was typed, checked. Raises ValueError with the reason."""
    if isinstance(kind, OptionalKind):
        return None if text == "none" else value_from_text(kind.inner, text, label_address)
    value = _translate(kind, text, label_address)
    fault = kind.check(value)
    if fault:
        raise ValueError(fault)
    return value


def _translate(kind: Kind, text: str, label_address: Callable[[str], str] | None) -> Any:
    if isinstance(kind, AddressKind):
        try:
            return address_from_text(text, label_address)
        except TrothError as error:
            raise ValueError(error.cause) from None
    if isinstance(kind, BooleanKind):
        if text.lower() not in _YES + _NO:
            raise ValueError("must be yes or no")
        return text.lower() in _YES
    if is_time(kind):
        return parse_time(text, now_ms())
    if isinstance(kind, BytesKind) and text.startswith("@"):
        return _file_hash(kind, Path(text[1:]))
    if isinstance(kind, BytesKind):
        return kind.from_json(text.lower())
    if isinstance(kind, ArrayKind):
        return tuple([value_from_text(kind.inner, part, label_address) for part in text.split(",")])
    return kind.from_json(text)


def _file_hash(kind: BytesKind, path: Path) -> bytes:
    if kind.shortest != HASH_FILE_BYTES or kind.longest != HASH_FILE_BYTES:
        raise ValueError("must be hexadecimal digits: only a hash of 32 bytes can be taken from a file")
    if "salted" in kind.what:
        raise ValueError("must be a salted hash: the bare SHA-256 of a file would tell what it is to who can guess it")
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None


def describe(kind: Kind) -> str:
    """What may be typed, in a few words for a help text."""
    if isinstance(kind, OptionalKind):
        return f"{describe(kind.inner)}; or none"
    if isinstance(kind, AddressKind):
        return "an address, a key's label or dev:NAME"
    if is_time(kind):
        return "a date, +30d, or ms since 1970"
    if isinstance(kind, BooleanKind):
        return "yes or no"
    if isinstance(kind, ChoiceKind):
        return f"{kind.what + ': ' if kind.what else ''}{', '.join(choice or 'none' for choice in kind.choices)}"
    if isinstance(kind, ArrayKind):
        return f"{describe(kind.inner)}; may be given several times"
    if isinstance(kind, BytesKind):
        size = f"{kind.shortest} bytes" if kind.shortest == kind.longest else f"up to {kind.longest} bytes"
        bare = kind.shortest == kind.longest == HASH_FILE_BYTES and "salted" not in kind.what
        lead = f"{kind.what}, " if kind.what and kind.what != size else ""
        return f"{lead}{size} in hexadecimal{', or @FILE for the SHA-256 of a file' if bare else ''}"
    what: str = getattr(kind, "what", "")
    if what:
        return what
    return f"a number from {kind.low} to {kind.high}" if isinstance(kind, IntegerKind) else "text"


class KindType(click.ParamType[Any]):
    """A click type made from a declared kind: what is typed wrong is a usage error with the reason."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind.inner if isinstance(kind, ArrayKind) else kind
        self.name = _metavar(self.kind)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The codec value of the text. Values that are no text were converted before."""
        if type(value) is not str:
            return value
        session = None if ctx is None else ctx.find_object(Session)
        try:
            return value_from_text(self.kind, value, None if session is None else label_finder(session))
        except ValueError as error:
            reason = str(error)
            self.fail(reason if repr(value) in reason else f"{value!r} {reason}", param, ctx)


def label_finder(session: Session) -> Callable[[str], str]:
    """Finds the address text of a key's label in the session's home."""

    def find(label: str) -> str:
        from cli.signers import keys_folder
        from node.keystore import find

        return find(keys_folder(session), label).address

    return find


def _metavar(kind: Kind) -> str:
    if isinstance(kind, OptionalKind):
        return _metavar(kind.inner)
    if isinstance(kind, AddressKind):
        return "account"
    if is_time(kind):
        return "time"
    if isinstance(kind, BytesKind):
        return "hex"
    if isinstance(kind, ChoiceKind):
        return "word"
    return {IntegerKind: "number", BooleanKind: "yes/no"}.get(type(kind), "text")


def show(value: Any, name: str = "") -> str:
    """A JSON value of the API for people; `name` ending in `_ms` makes a number a time."""
    if value is None:
        return "none"
    if type(value) is bool:
        return "yes" if value else "no"
    if type(value) is int and name.endswith("_ms"):
        return show_time(value)
    if type(value) is list:
        return ", ".join([show(item, name) for item in value]) or "none"
    if type(value) is dict:
        return ", ".join([f"{_title(key)} {show(item, key)}" for key, item in value.items()])
    return str(value)


def show_fields(value: Any) -> str:
    """A JSON value for people: an object as one aligned line per field, anything else as it is."""
    if type(value) is not dict:
        return show(value)
    width = max([len(_title(name)) for name in value], default=0)
    return "\n".join([f"{_title(name):<{width}}  {show(item, name)}" for name, item in value.items()])


def _title(name: str) -> str:
    return name.removesuffix("_ms").replace("_", " ")
