"""The contracts of a chain by name, and what a call must be before any of them runs.

`validate_call` is one function for the API (which wants to refuse a hopeless transaction at once) and the executor
(which must refuse it on every node alike).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from ledger.errors import Invalid, define
from ledger.transaction import Call
from vm.contract import Method, NativeContract
from vm.kinds import BAD_ARGUMENT, REQUIRED, Reference, kind_of

UNKNOWN_CONTRACT = define("E-VM-004", "unknown contract", "list the contracts: GET /v1/contracts")
UNKNOWN_METHOD = define("E-VM-005", "unknown method", "list the contract's methods: GET /v1/contracts")

_REFERENCE = kind_of(Reference)


class Registry:
    """The contracts that are active, in order of name. `authority` names the one that knows organisations and roles."""

    def __init__(self, contracts: Sequence[type[NativeContract]], authority: str) -> None:
        self.contracts = {contract.name: contract for contract in sorted(contracts, key=lambda c: c.name)}
        if len(self.contracts) != len(contracts):
            raise ValueError("two contracts have one name")
        self.authority = authority

    def contract(self, name: str) -> type[NativeContract]:
        """The contract of that name. Raises Invalid (E-VM-004)."""
        try:
            return self.contracts[name]
        except KeyError:
            raise Invalid(UNKNOWN_CONTRACT, f"there is no contract {name!r}{_near(name, self.contracts)}") from None

    def method(self, contract: str, name: str, *, is_view: bool = False) -> Method:
        """The method (or view) of that name. Raises Invalid (E-VM-004, E-VM-005)."""
        methods = self.contract(contract).methods
        found = methods.get(name)
        if found is None or found.is_view is not is_view:
            known = [m.name for m in methods.values() if m.is_view is is_view]
            what = "view" if is_view else "method"
            raise Invalid(UNKNOWN_METHOD, f"{contract} has no {what} {name!r}{_near(name, known)}")
        return found

    def validate_call(self, call: Call) -> tuple[Method, str | None]:
        """The method that a call names, and its reference if it carries one. Raises Invalid (E-VM-001, -004, -005)."""
        found = self.method(call.contract, call.method)
        parameters, arguments = found.parameters, call.arguments
        reference = None
        if len(arguments) != len(parameters):
            if len(arguments) != len(parameters) + 1:
                raise Invalid(
                    BAD_ARGUMENT,
                    f"{call.contract}.{call.method} takes {len(parameters)} arguments and an optional reference,"
                    f" {len(arguments)} were given",
                )
            reference = arguments[-1]
            problem = _REFERENCE.check(reference)
            if problem:
                raise Invalid(BAD_ARGUMENT, f"{call.contract}.{call.method}: the reference {problem}")
        for parameter, argument in zip(parameters, arguments, strict=False):
            problem = parameter.kind.check(argument)
            if problem:
                raise Invalid(BAD_ARGUMENT, f"{call.contract}.{call.method}: {parameter.name} {problem}")
        return found, reference

    def arguments_from_json(self, found: Method, contract: str, given: dict[str, Any]) -> tuple[Any, ...]:
        """The argument tuple of a JSON object of named arguments. Raises Invalid (E-VM-001) naming the argument.

        A missing argument takes its declared default; `reference` may be given for any method.
        """
        names = [parameter.name for parameter in found.parameters]
        for name in given:
            if name not in names and (name != "reference" or found.is_view):
                raise Invalid(BAD_ARGUMENT, f"{contract}.{found.name} has no argument {name!r}{_near(name, names)}")
        arguments = []
        for name, kind, default in found.parameters:
            if name in given:
                try:
                    value = kind.from_json(given[name])
                except ValueError as error:
                    raise Invalid(BAD_ARGUMENT, f"{contract}.{found.name}: {name} {error}") from None
                problem = kind.check(value)
                if problem:
                    raise Invalid(BAD_ARGUMENT, f"{contract}.{found.name}: {name} {problem}")
                arguments.append(value)
            elif default is REQUIRED:
                raise Invalid(BAD_ARGUMENT, f"{contract}.{found.name} needs the argument {name!r}")
            else:
                arguments.append(default)
        if "reference" in given and given["reference"] is not None:
            reference = given["reference"]
            problem = _REFERENCE.check(reference)
            if problem:
                raise Invalid(BAD_ARGUMENT, f"{contract}.{found.name}: the reference {problem}")
            arguments.append(reference)
        return tuple(arguments)


def _near(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
