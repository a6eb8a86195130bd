"""The commands of a contract, made from its declaration.

Every method becomes a command that sends one transaction, every view one that asks. Parameters become arguments and
options with the types of their declared kinds, docstrings become help: a new contract has its commands for free.

Rules kept here:
- what a call must be given is an argument, in order of declaration; where that would be more than four, or arrays,
  all of it is given by options;
- what has a default is an option;
- several words of a fixed set are a set: they are put in order;
- a contract's module says only how commands are called (`Naming`), and what may be drawn at random.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from cli.groups import TrothGroup
from cli.session import Session, pass_session
from cli.transactions import connect, node_option, perform, sending_of, sending_options, signer_of
from cli.values import KindType, describe, is_time, show_fields
from ledger.transaction import Call
from vm.contract import Method
from vm.kinds import (
    REQUIRED,
    ArrayKind,
    BooleanKind,
    BytesKind,
    ChoiceKind,
    OptionalKind,
    Parameter,
    Reference,
    kind_of,
)
from vm.registry import Registry

ARGUMENTS_MAX = 4


@dataclass(frozen=True, slots=True)
class Naming:
    """How the commands of a contract are called, where that is not the method's own name with dashes.

    `drawn` names (method, parameter) of bytes that are drawn at random where they are not given. `hidden` methods and
    views get no command.
    """

    commands: Mapping[str, str] = field(default_factory=dict)
    drawn: frozenset[tuple[str, str]] = frozenset()
    hidden: frozenset[str] = frozenset()

    def of(self, method: str) -> str:
        """The command of a method or view."""
        return self.commands.get(method, method.replace("_", "-"))


def add_contract_commands(group: click.Group, registry: Registry, contract: str, naming: Naming) -> None:
    """Adds a command to `group` for every method and view of a contract. Two of one name are a defect (ValueError)."""
    for found in registry.contract(contract).methods.values():
        if found.name in naming.hidden:
            continue
        name = naming.of(found.name)
        if name in group.commands:
            raise ValueError(f"two commands of {group.name} are called {name!r}")
        make = _view_command if found.is_view else _method_command
        group.add_command(make(registry, contract, found, name, naming))


def contract_group(registry: Registry, contract: str, naming: Naming) -> TrothGroup:
    """The group of a contract's commands, with the contract's own first line for help."""
    summary = (registry.contract(contract).__doc__ or "").strip().partition("\n")[0]
    group = TrothGroup(contract, help=summary)
    add_contract_commands(group, registry, contract, naming)
    return group


def _method_command(registry: Registry, contract: str, found: Method, name: str, naming: Naming) -> click.Command:
    drawn = {parameter for method, parameter in naming.drawn if method == found.name}

    @pass_session
    def run(session: Session, /, **values: Any) -> None:
        sending = sending_of(values)
        signer = signer_of(session, values)
        reference = values.pop(_REFERENCE)
        made = _draw(found, drawn, values)
        arguments = _arguments(found, values)
        call = Call(0, contract, found.name, (*arguments, *(() if reference is None else (reference,))))
        with connect(session, values["node"]) as client:
            perform(session, client, registry, signer, [call], sending, extra=made)

    role = f"\n\nNeeds the role {found.role} in an organisation." if found.role else ""
    command = click.Command(name, callback=sending_options(run), help=_help(found) + role, short_help=found.summary)
    command.params = [*_parameters(found, drawn), _reference_option(), *_collected(command)]
    return command


def _view_command(registry: Registry, contract: str, found: Method, name: str, naming: Naming) -> click.Command:
    @pass_session
    def run(session: Session, /, **values: Any) -> None:
        arguments = _arguments(found, values)
        given = {
            parameter.name: parameter.kind.to_json(argument)
            for parameter, argument in zip(found.parameters, arguments, strict=True)
        }
        with connect(session, values["node"]) as client:
            answer = client.post(f"/contracts/{contract}/views/{found.name}", given, height=values["height"])
        data = {"height": answer["height"], "value": answer["value"]}
        session.result(f"{contract}-{name}", data, lambda: show_fields(answer["value"]))

    help_text = f"{_help(found)}\n\nThe answer is the node's word: `troth query ... --verify` asks for proof."
    command = click.Command(name, callback=node_option(height_option(run)), help=help_text, short_help=found.summary)
    command.params = [*_parameters(found, set()), *_collected(command)]
    return command


height_option = click.option(
    "--height", type=click.IntRange(0), metavar="N", help="In the state after this block. Default: the last one."
)
"""`--height N` as the argument `height: int | None`."""


_REFERENCE = "call_reference"


def _reference_option() -> click.Option:
    return click.Option(
        ["--reference", _REFERENCE],
        type=KindType(kind_of(Reference)),
        help="Your own key for this operation: a second one with the same key and signer has no effect.",
    )


def _collected(command: click.Command) -> list[click.Parameter]:
    """The options that decorators left on the callback of a command that is made by hand."""
    left: list[click.Parameter] = list(getattr(command.callback, "__click_params__", ()))
    return left[::-1]


def _help(found: Method) -> str:
    """The docstring, and what each argument is: click itself describes options only."""
    needed = [parameter for parameter in found.parameters if parameter.default is REQUIRED]
    if not needed or not _are_arguments(found):
        return found.summary
    width = max([len(_metavar(parameter)) for parameter in needed])
    rows = "\n".join([f"{_metavar(each):<{width}}  {describe(each.kind)}" for each in needed])
    return f"{found.summary}\n\n\b\n{rows}"


def _are_arguments(found: Method) -> bool:
    needed = [parameter for parameter in found.parameters if parameter.default is REQUIRED]
    return len(needed) <= ARGUMENTS_MAX and not any(isinstance(parameter.kind, ArrayKind) for parameter in needed)


def _metavar(parameter: Parameter) -> str:
    return _option_name(parameter).upper()


def _option_name(parameter: Parameter) -> str:
    name = parameter.name.removesuffix("_ms") if is_time(parameter.kind) else parameter.name
    return name.replace("_", "-")


def _key(parameter: Parameter) -> str:
    """The argument's name in the command's function: none that an option of all commands could have."""
    return f"call_{parameter.name}"


def _parameters(found: Method, drawn: set[str]) -> list[click.Parameter]:
    arguments = _are_arguments(found)
    made: list[click.Parameter] = []
    for parameter in found.parameters:
        if parameter.default is REQUIRED and arguments and parameter.name not in drawn:
            made.append(click.Argument([_key(parameter)], type=KindType(parameter.kind), metavar=_metavar(parameter)))
        else:
            made.append(_option(parameter, drawn))
    return made


def _option(parameter: Parameter, drawn: set[str]) -> click.Option:
    name, kind = _option_name(parameter), parameter.kind
    required = parameter.default is REQUIRED and parameter.name not in drawn
    text = describe(kind)
    if parameter.name in drawn:
        text += "; drawn at random where it is not given"
    elif parameter.default not in (REQUIRED, None, ""):
        text += f". Default: {kind.to_json(parameter.default)}"
    if isinstance(kind, BooleanKind) and not required:
        default = parameter.default
        return click.Option([f"--{name}/--no-{name}", _key(parameter)], default=default, help=text)
    several = isinstance(kind, ArrayKind)
    return click.Option(
        [f"--{name}", _key(parameter)], type=KindType(kind), required=required, multiple=several, help=text
    )


def _draw(found: Method, drawn: set[str], values: dict[str, Any]) -> dict[str, Any]:
    """Draws what was left out and may be drawn. Returns it in its JSON form, to be told."""
    made: dict[str, Any] = {}
    for parameter in found.parameters:
        if parameter.name in drawn and values[_key(parameter)] is None:
            assert isinstance(parameter.kind, BytesKind)  # nothing else is drawn
            values[_key(parameter)] = secrets.token_bytes(parameter.kind.longest)
            made[parameter.name] = values[_key(parameter)].hex()
    return made


def _arguments(found: Method, values: Mapping[str, Any]) -> tuple[Any, ...]:
    """The argument tuple out of a command's values; what was not given takes the declared default."""
    arguments = []
    for parameter in found.parameters:
        value = values[_key(parameter)]
        if isinstance(parameter.kind, ArrayKind):
            value = tuple(value) or (() if parameter.default is REQUIRED else parameter.default)
            if isinstance(parameter.kind.inner, ChoiceKind):
                value = tuple(sorted(set(value)))
            fault = parameter.kind.check(value)
            if fault:
                raise click.UsageError(f"--{_option_name(parameter)} {fault}")
        elif value is None and not isinstance(parameter.kind, OptionalKind):
            value = parameter.default
        arguments.append(value)
    return tuple(arguments)
