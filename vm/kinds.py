"""Declared types of arguments, cells and events.

An annotation such as `Address` is `Annotated[bytes, AddressKind()]`: to a type checker it is bytes, to the kit it
is a kind that can check a value, describe itself as JSON Schema, and translate to and from JSON (the API's, the
CLI's and the forms' representation). Integers are exact and range-checked; nothing here is a float.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

from ledger import codec
from ledger.address import ADDRESS_BYTES, NULL_ADDRESS, from_text, to_text
from ledger.errors import Invalid, define

BAD_ARGUMENT = define("E-VM-001", "an argument is wrong", "see the method's schema: GET /v1/contracts")

MAX_AMOUNT = 2**63 - 1
Schema = dict[str, Any]


class Kind:
    """One declared type. `check` judges a codec value; `from_json` and `to_json` translate; `schema` describes."""

    def check(self, value: Any) -> str | None:
        """Why the value is not of this kind, or None."""
        raise NotImplementedError

    def schema(self) -> Schema:
        """JSON Schema (2020-12) of the JSON form."""
        raise NotImplementedError

    def from_json(self, value: Any) -> Any:
        """The codec value of a JSON value. Raises ValueError with the reason."""
        raise NotImplementedError

    def to_json(self, value: Any) -> Any:
        """The JSON value of a codec value of this kind."""
        raise NotImplementedError

    def restore(self, value: Any) -> Any:
        """The rich value of a decoded cell (records come back as their class)."""
        return value


class AddressKind(Kind):
    """A 20-byte address, in JSON as bech32m. The null address is refused unless `null` is set."""

    def __init__(self, *, null: bool = False) -> None:
        self.null = null

    def check(self, value: Any) -> str | None:
        if type(value) is not bytes or len(value) != ADDRESS_BYTES:
            return f"must be an address of {ADDRESS_BYTES} bytes"
        if value == NULL_ADDRESS and not self.null:
            return "must not be the null address"
        return None

    def schema(self) -> Schema:
        return {"type": "string", "pattern": "^troth1[02-9ac-hj-np-z]{38}$", "description": "a Troth address"}

    def from_json(self, value: Any) -> bytes:
        if type(value) is not str:
            raise ValueError("must be the text of an address")
        try:
            return from_text(value)
        except Invalid as error:
            raise ValueError(error.cause) from None

    def to_json(self, value: Any) -> str:
        return to_text(value)


class IntegerKind(Kind):
    """An integer from `low` to `high`, both included; in JSON a number, or a string of digits."""

    def __init__(self, low: int, high: int, what: str = "") -> None:
        self.low, self.high, self.what = low, high, what

    def check(self, value: Any) -> str | None:
        if type(value) is not int:
            return "must be a whole number"
        if not self.low <= value <= self.high:
            return f"must be from {self.low} to {self.high}"
        return None

    def schema(self) -> Schema:
        described = {"description": self.what} if self.what else {}
        return {"type": "integer", "minimum": self.low, "maximum": self.high, **described}

    def from_json(self, value: Any) -> int:
        if type(value) is str and re.fullmatch(r"-?[0-9]{1,20}", value):
            return int(value)
        if type(value) is not int:
            raise ValueError("must be a whole number")
        return value

    def to_json(self, value: Any) -> int:
        return int(value)


class BooleanKind(Kind):
    """True or false."""

    def check(self, value: Any) -> str | None:
        return None if type(value) is bool else "must be true or false"

    def schema(self) -> Schema:
        return {"type": "boolean"}

    def from_json(self, value: Any) -> bool:
        if type(value) is not bool:
            raise ValueError("must be true or false")
        return value

    def to_json(self, value: Any) -> bool:
        return bool(value)


class TextKind(Kind):
    """Text of at most `longest` characters, in codec normal form, and of `pattern` where one is given."""

    def __init__(self, longest: int, *, shortest: int = 0, pattern: str | None = None, what: str = "") -> None:
        self.longest, self.shortest, self.pattern, self.what = longest, shortest, pattern, what
        self._compiled = re.compile(pattern, re.ASCII) if pattern else None

    def check(self, value: Any) -> str | None:
        if type(value) is not str:
            return "must be text"
        if not self.shortest <= len(value) <= self.longest:
            return f"must have {self.shortest} to {self.longest} characters"
        if self._compiled is not None and not self._compiled.fullmatch(value):
            return f"must have the form {self.pattern}"
        return None

    def schema(self) -> Schema:
        schema: Schema = {"type": "string", "minLength": self.shortest, "maxLength": self.longest}
        if self.pattern:
            schema["pattern"] = f"^{self.pattern}$"
        if self.what:
            schema["description"] = self.what
        return schema

    def from_json(self, value: Any) -> str:
        if type(value) is not str:
            raise ValueError("must be text")
        fault = codec.text_fault(value)
        if fault:
            raise ValueError(f"must not contain {fault}")
        return value

    def to_json(self, value: Any) -> str:
        return str(value)


class ChoiceKind(Kind):
    """One of a fixed set of words."""

    def __init__(self, *choices: str, what: str = "") -> None:
        self.choices, self.what = choices, what

    def check(self, value: Any) -> str | None:
        return None if type(value) is str and value in self.choices else self._refusal

    def schema(self) -> Schema:
        described = {"description": self.what} if self.what else {}
        return {"type": "string", "enum": list(self.choices), **described}

    def from_json(self, value: Any) -> str:
        if type(value) is not str:
            raise ValueError(self._refusal)
        return value

    def to_json(self, value: Any) -> str:
        return str(value)

    @property
    def _refusal(self) -> str:
        return f"must be one of {', '.join(self.choices)}"


class BytesKind(Kind):
    """From `shortest` to `longest` bytes; in JSON lower-case hexadecimal."""

    def __init__(self, shortest: int, longest: int, what: str = "") -> None:
        self.shortest, self.longest, self.what = shortest, longest, what

    def check(self, value: Any) -> str | None:
        if type(value) is not bytes:
            return "must be bytes"
        if not self.shortest <= len(value) <= self.longest:
            return f"must have {self.shortest} to {self.longest} bytes"
        return None

    def schema(self) -> Schema:
        described = {"description": self.what} if self.what else {}
        return {
            "type": "string",
            "pattern": f"^([0-9a-f]{{2}}){{{self.shortest},{self.longest}}}$",
            **described,
        }

    def from_json(self, value: Any) -> bytes:
        if type(value) is not str or not re.fullmatch(r"([0-9a-f]{2})*", value):
            raise ValueError("must be lower-case hexadecimal digits, two to a byte")
        return bytes.fromhex(value)

    def to_json(self, value: Any) -> str:
        return bytes(value).hex()


class OptionalKind(Kind):
    """A value of another kind, or null."""

    def __init__(self, inner: Kind) -> None:
        self.inner = inner

    def check(self, value: Any) -> str | None:
        return None if value is None else self.inner.check(value)

    def schema(self) -> Schema:
        return {"anyOf": [self.inner.schema(), {"type": "null"}]}

    def from_json(self, value: Any) -> Any:
        return None if value is None else self.inner.from_json(value)

    def to_json(self, value: Any) -> Any:
        return None if value is None else self.inner.to_json(value)

    def restore(self, value: Any) -> Any:
        return None if value is None else self.inner.restore(value)


class ArrayKind(Kind):
    """An array of `shortest` to `longest` values of one kind."""

    def __init__(self, inner: Kind, longest: int, *, shortest: int = 0) -> None:
        self.inner, self.longest, self.shortest = inner, longest, shortest

    def check(self, value: Any) -> str | None:
        if type(value) is not tuple:
            return "must be an array"
        if not self.shortest <= len(value) <= self.longest:
            return f"must have {self.shortest} to {self.longest} entries"
        for index, item in enumerate(value):
            fault = self.inner.check(item)
            if fault:
                return f"entry {index} {fault}"
        return None

    def schema(self) -> Schema:
        return {
            "type": "array",
            "items": self.inner.schema(),
            "minItems": self.shortest,
            "maxItems": self.longest,
        }

    def from_json(self, value: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise ValueError("must be an array")
        return tuple([self.inner.from_json(item) for item in value])

    def to_json(self, value: Any) -> list[Any]:
        return [self.inner.to_json(item) for item in value]

    def restore(self, value: Any) -> Any:
        return tuple([self.inner.restore(item) for item in value])


class TupleKind(Kind):
    """A fixed sequence of kinds, in JSON an array. Keys of several parts are of this kind."""

    def __init__(self, parts: tuple[Kind, ...]) -> None:
        self.parts = parts

    def check(self, value: Any) -> str | None:
        if not isinstance(value, tuple) or len(value) != len(self.parts):
            return f"must be an array of {len(self.parts)} entries"
        for index, (part, item) in enumerate(zip(self.parts, value, strict=True)):
            fault = part.check(item)
            if fault:
                return f"entry {index} {fault}"
        return None

    def schema(self) -> Schema:
        count = len(self.parts)
        return {
            "type": "array",
            "prefixItems": [p.schema() for p in self.parts],
            "minItems": count,
            "maxItems": count,
        }

    def from_json(self, value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) != len(self.parts):
            raise ValueError(f"must be an array of {len(self.parts)} entries")
        return tuple([part.from_json(item) for part, item in zip(self.parts, value, strict=True)])

    def to_json(self, value: Any) -> list[Any]:
        return [part.to_json(item) for part, item in zip(self.parts, value, strict=True)]

    def restore(self, value: Any) -> Any:
        return tuple([part.restore(item) for part, item in zip(self.parts, value, strict=True)])


class RecordKind(Kind):
    """A NamedTuple whose fields have declared types; in JSON an object."""

    def __init__(self, record: Any) -> None:
        self.record = record
        self.fields = {name: kind_of(hint) for name, hint in get_type_hints(record, include_extras=True).items()}
        self._plain = all(type(kind).restore is Kind.restore for kind in self.fields.values())

    def check(self, value: Any) -> str | None:
        if not isinstance(value, tuple) or len(value) != len(self.fields):
            return f"must be an array of {len(self.fields)} fields"
        for (name, kind), item in zip(self.fields.items(), value, strict=True):
            fault = kind.check(item)
            if fault:
                return f"{name} {fault}"
        return None

    def schema(self) -> Schema:
        return {
            "type": "object",
            "title": self.record.__name__,
            "properties": {name: kind.schema() for name, kind in self.fields.items()},
            "required": list(self.fields),
            "additionalProperties": False,
        }

    def from_json(self, value: Any) -> Any:
        if type(value) is not dict or set(value) != set(self.fields):
            raise ValueError(f"must be an object with {', '.join(self.fields)}")
        return self.record(*[_named(name, kind.from_json, value[name]) for name, kind in self.fields.items()])

    def to_json(self, value: Any) -> dict[str, Any]:
        return {name: kind.to_json(item) for (name, kind), item in zip(self.fields.items(), value, strict=True)}

    def restore(self, value: Any) -> Any:
        if self._plain:
            return self.record(*value)
        return self.record(*[kind.restore(item) for kind, item in zip(self.fields.values(), value, strict=True)])


def _named(name: str, translate: Callable[[Any], Any], value: Any) -> Any:
    try:
        return translate(value)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def kind_of(hint: Any) -> Kind:
    """The kind that an annotation declares. Raises TypeError for an annotation that declares none."""
    if get_origin(hint) is Annotated:
        for extra in get_args(hint)[1:]:
            if isinstance(extra, Kind):
                return extra
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        if len(parts) == 2 and parts[1] is Ellipsis:
            raise TypeError(f"{hint} needs a bound: use Annotated[tuple[...], ArrayKind(kind, longest)]")
        return TupleKind(tuple([kind_of(part) for part in parts]))
    if isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields"):
        return RecordKind(hint)
    if hint is bool:
        return BooleanKind()
    raise TypeError(f"{hint!r} is not a declared type: use one of vm.kinds")


Address = Annotated[bytes, AddressKind()]
AnyAddress = Annotated[bytes, AddressKind(null=True)]
Amount = Annotated[int, IntegerKind(0, MAX_AMOUNT, "units, a whole number")]
TimeMs = Annotated[int, IntegerKind(0, 2**53 - 1, "ms since 1970-01-01 UTC")]
Count = Annotated[int, IntegerKind(0, 2**32 - 1)]
Hash = Annotated[bytes, BytesKind(32, 32, "32 bytes")]
PublicKey = Annotated[bytes, BytesKind(32, 32, "an Ed25519 public key")]
Flag = Annotated[bool, BooleanKind()]
ShortText = Annotated[str, TextKind(64)]
LongText = Annotated[str, TextKind(1024)]
Identifier = Annotated[str, TextKind(32, shortest=1, pattern=r"[a-z0-9][a-z0-9._-]*", what="a short lower-case name")]
OrganisationId = Annotated[str, TextKind(32, shortest=2, pattern=r"[a-z][a-z0-9-]+", what="an organisation's id")]
Reference = Annotated[
    str, TextKind(64, shortest=1, what="the caller's own key for this operation; never accepted twice")
]
OptionalAddress = Annotated[bytes | None, OptionalKind(AddressKind())]


class Parameter(NamedTuple):
    """One declared parameter of a method: name, kind, and its default (`REQUIRED` where it has none)."""

    name: str
    kind: Kind
    default: Any


REQUIRED = object()
