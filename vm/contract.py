"""What a native contract is: one class in one readable module, with fixed sections in a fixed order.

    class Points(NativeContract, name="points", version=1):
        '''One line for people. Then the rules that always hold, as bullets.'''

        # storage
        balance: Map[tuple[Identifier, Address], Amount] = Map(default=0)

        # events
        class Transferred(NamedTuple): ...

        # errors
        short = fault("E-POINTS-004", "the account holds {} points, {} are needed", "spend less")

        # methods
        @method(gas=60)
        def transfer(self, ctx: Context, programme: Identifier, to: Address, amount: Amount) -> None: ...

        # views
        @view
        def balance_of(self, ctx: Context, programme: Identifier, account: Address) -> Amount: ...

        # invariants
        @invariant
        def conserved(self, cells: Cells) -> Iterator[str]: ...

The declarations are everything: argument checks, JSON Schema, the API's routes and the CLI's forms come from them.
Storage holds immutable values only. Iteration over a map is offered to invariants, never to methods.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar, get_args, get_type_hints

from ledger.errors import define
from vm.context import ContractFault
from vm.kinds import REQUIRED, Address, Count, Kind, Parameter, Reference, TupleKind, kind_of
from vm.overlay import ABSENT, Overlay, map_prefix

K = TypeVar("K")
V = TypeVar("V")
F = TypeVar("F", bound=Callable[..., Any])
_NO_DEFAULT: Any = object()


class Map(Generic[K, V]):
    """Declared storage: a map from keys to values. Read a missing key and you get `default`, or KeyError without one.

    On a contract's class it is the declaration; on an instance it is bound to the overlay of the running block.
    """

    __slots__ = ("_default", "_overlay", "_prefix", "_restore", "key", "name", "value")

    def __init__(self, *, default: Any = _NO_DEFAULT) -> None:
        self._default = default
        self._overlay: Overlay | None = None
        self._prefix = b""
        self._restore: Callable[[Any], Any] | None = None
        self.name = ""
        self.key: Kind = TupleKind(())
        self.value: Kind = TupleKind(())

    def declare(self, contract: str, name: str, key: Kind, value: Kind) -> None:
        """Fixes contract, name and kinds; called once per declaration by the kit."""
        self.name, self.key, self.value = name, key, value
        self._prefix = map_prefix(contract, name, len(key.parts) if isinstance(key, TupleKind) else 1)
        self._restore = None if type(value).restore is Kind.restore else value.restore

    @property
    def prefix(self) -> bytes:
        """The bytes with which the key of each of this map's cells begins, and no other cell's."""
        return self._prefix

    def bind(self, overlay: Overlay) -> Map[K, V]:
        """This map over one overlay."""
        bound: Map[K, V] = Map(default=self._default)
        bound._overlay, bound._prefix, bound._restore = overlay, self._prefix, self._restore
        bound.name, bound.key, bound.value = self.name, self.key, self.value
        return bound

    def __getitem__(self, key: K) -> V:
        value = self._overlay.get((self._prefix, key), self._restore)  # type: ignore[union-attr]
        if value is ABSENT:
            value = self._default
            if value is _NO_DEFAULT:
                raise KeyError(key)
        return value  # type: ignore[no-any-return]

    def get(self, key: K) -> V | None:
        """The value, or None where the key has none. For maps whose values are never null."""
        value = self._overlay.get((self._prefix, key), self._restore)  # type: ignore[union-attr]
        return None if value is ABSENT else value

    def __contains__(self, key: K) -> bool:
        return self._overlay.get((self._prefix, key), self._restore) is not ABSENT  # type: ignore[union-attr]

    def __setitem__(self, key: K, value: V) -> None:
        self._overlay.put((self._prefix, key), value)  # type: ignore[union-attr]

    def __delitem__(self, key: K) -> None:
        self._overlay.put((self._prefix, key), ABSENT)  # type: ignore[union-attr]


class Cells(Protocol):
    """All cells of a state, for invariants and audits."""

    def of(self, declared: Map[K, V]) -> Iterator[tuple[K, V]]:
        """Every (key, value) of one map, in ascending order of the encoded keys."""


class FaultCode:
    """A declared error of a contract: call it with the values that its message names to get the fault to raise."""

    __slots__ = ("code", "message")

    def __init__(self, code: str, message: str) -> None:
        self.code, self.message = code, message

    def __call__(self, *detail: Any) -> ContractFault:
        return ContractFault(self.code, detail)


FAULT_MESSAGES: dict[str, str] = {}


def fault(code: str, message: str, fix: str) -> FaultCode:
    """Declares an error. `message` has one `{}` for each value that the fault will carry."""
    define(code, message.replace("{}", "..."), fix)
    FAULT_MESSAGES[code] = message
    return FaultCode(code, message)


class Method(NamedTuple):
    """A declared method or view. `role` is the role that its caller needs somewhere, or empty."""

    name: str
    function: Callable[..., Any]
    parameters: tuple[Parameter, ...]
    returns: Kind | None
    gas: int
    role: str
    is_view: bool
    summary: str


class _Declared(NamedTuple):
    gas: int
    role: str
    is_view: bool


def method(*, gas: int, role: str = "") -> Callable[[F], F]:
    """Declares a method: its base gas, and the role (`issuer`, ...) its caller must have in some organisation."""

    def declare(function: F) -> F:
        function._declared = _Declared(gas, role, False)  # type: ignore[attr-defined]
        return function

    return declare


def view(function: F) -> F:
    """Declares a view: a read of committed state that changes nothing and needs no transaction."""
    function._declared = _Declared(0, "", True)  # type: ignore[attr-defined]
    return function


def invariant(function: F) -> F:
    """Declares an invariant: given all cells it yields a sentence for each way in which it is broken."""
    function._invariant = True  # type: ignore[attr-defined]
    return function


class NativeContract:
    """Base of all contracts. An instance lives for one block and is bound to its overlay."""

    name: ClassVar[str]
    version: ClassVar[int]
    maps: ClassVar[dict[str, Map[Any, Any]]]
    methods: ClassVar[dict[str, Method]]
    events: ClassVar[dict[str, Any]]
    invariants: ClassVar[dict[str, Callable[..., Iterator[str]]]]

    references: Map[tuple[bytes, str], int]
    """Kept by the kit: (actor, reference) -> height at which the reference was used."""

    def __init_subclass__(cls, *, name: str, version: int) -> None:
        cls.name, cls.version = name, version
        cls.maps, cls.methods, cls.events, cls.invariants = {}, {}, {}, {}
        for attribute, hint in get_type_hints(cls, include_extras=True).items():
            declared = vars(cls).get(attribute)
            if isinstance(declared, Map):
                key, value = get_args(hint)
                declared.declare(name, attribute, kind_of(key), kind_of(value))
                cls.maps[attribute] = declared
        for attribute, declared in list(vars(cls).items()):
            if isinstance(declared, type) and issubclass(declared, tuple):
                cls.events[attribute] = kind_of(declared)
            elif hasattr(declared, "_declared"):
                cls.methods[attribute] = _read_method(attribute, declared)
            elif hasattr(declared, "_invariant"):
                cls.invariants[attribute] = declared
        references: Map[tuple[bytes, str], int] = Map()
        references.declare(name, "references", kind_of(tuple[Address, Reference]), kind_of(Count))
        cls.maps["references"] = references

    def __init__(self, overlay: Overlay) -> None:
        for name, declared in self.maps.items():
            setattr(self, name, declared.bind(overlay))


def _read_method(name: str, function: Callable[..., Any]) -> Method:
    declared: _Declared = function._declared  # type: ignore[attr-defined]
    hints = get_type_hints(function, include_extras=True)
    parameters = [
        Parameter(p.name, kind_of(hints[p.name]), REQUIRED if p.default is p.empty else p.default)
        for p in list(inspect.signature(function).parameters.values())[2:]
    ]
    result = hints.get("return", type(None))
    if not function.__doc__:
        raise TypeError(f"{function.__qualname__} needs a docstring: it is what people read in the API and the CLI")
    return Method(
        name,
        function,
        tuple(parameters),
        None if result is type(None) else kind_of(result),
        declared.gas,
        declared.role,
        declared.is_view,
        " ".join(function.__doc__.split()),
    )
