"""Commands made from declarations: a contract that nobody wrote a command for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

import click
import pytest

from cli.commands.certificate import certificate
from cli.commands.consent import consent
from cli.commands.points import points
from cli.contract_commands import Naming, contract_group
from cli.session import Session
from consortium.organisations import Organisations
from node.contracts import registry
from vm.context import Context
from vm.contract import NativeContract, method, view
from vm.kinds import Address, Amount, ArrayKind, BytesKind, Count, Flag, TextKind, TimeMs
from vm.registry import Registry

P = TypeVar("P", click.Argument, click.Option)
Words = Annotated[tuple[str, ...], ArrayKind(TextKind(8), 3, shortest=1)]
Token = Annotated[bytes, BytesKind(4, 4, "4 bytes")]


class Sample(NativeContract, name="sample", version=1):
    """A sample for tests."""

    @method(gas=10, role="issuer")
    def put(self, ctx: Context, where: Address, count: Amount, until_ms: TimeMs = 5, loud: Flag = False) -> None:
        """Puts something."""

    @method(gas=10)
    def many(self, ctx: Context, words: Words, token: Token) -> None:
        """Takes several words."""

    @method(gas=10)
    def wide(self, ctx: Context, a: Count, b: Count, c: Count, d: Count, e: Count) -> None:
        """Takes more than a line of arguments."""

    @view
    def look(self, ctx: Context, where: Address) -> Amount:
        """Looks."""
        return 0


REGISTRY = Registry([Organisations, Sample], authority="organisations")
GROUP = contract_group(REGISTRY, "sample", Naming({"put": "place"}, frozenset({("many", "token")})))


def command(name: str) -> click.Command:
    return GROUP.commands[name]


def names(found: click.Command, kind: type[P]) -> dict[str, P]:
    return {str(parameter.name): parameter for parameter in found.params if isinstance(parameter, kind)}


def parsed(name: str, *arguments: str) -> dict[str, Any]:
    found = command(name)
    with found.make_context(name, list(arguments), obj=Session(Path("/nowhere"))) as context:
        return context.params


def test_each_method_and_view_has_its_command() -> None:
    assert set(GROUP.commands) == {"place", "many", "wide", "look"}
    assert GROUP.help == "A sample for tests."
    assert command("place").short_help == "Puts something."


def test_what_is_needed_is_an_argument_and_what_has_a_default_an_option() -> None:
    assert list(names(command("place"), click.Argument)) == ["call_where", "call_count"]
    options = names(command("place"), click.Option)
    assert options["call_until_ms"].opts == ["--until"]
    assert (options["call_loud"].opts, options["call_loud"].secondary_opts) == (["--loud"], ["--no-loud"])


def test_help_says_what_arguments_take_and_who_may() -> None:
    text = command("place").help or ""
    assert "WHERE  an address, a key's label or dev:NAME" in text
    assert "COUNT  units, a whole number" in text
    assert "Needs the role issuer" in text


def test_arrays_and_wide_methods_are_given_by_options() -> None:
    assert not names(command("many"), click.Argument)
    assert not names(command("wide"), click.Argument)
    many = names(command("many"), click.Option)
    assert many["call_words"].multiple
    assert many["call_words"].required
    assert not many["call_token"].required
    assert all(names(command("wide"), click.Option)[f"call_{name}"].required for name in "abcde")


def test_text_becomes_values() -> None:
    values = parsed("place", "dev:alice", "12", "--until", "1970-01-02", "--loud", "--as", "dev:bob")
    assert (values["call_count"], values["call_until_ms"], values["call_loud"]) == (12, 86_400_000, True)
    assert len(values["call_where"]) == 20
    assert parsed("many", "--words", "one", "--words", "two")["call_words"] == ("one", "two")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("dev:alice", "many"), "must be a whole number"),
        (("troth1x", "5"), "'troth1x' has 7 characters, an address has 44"),
        (("dev:alice", "5", "--until", "soon"), "must be a date"),
        (("dev:alice",), "Missing argument 'COUNT'"),
    ],
)
def test_what_is_wrong_is_a_usage_error_with_the_reason(arguments: tuple[str, ...], reason: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        parsed("place", *arguments)
    assert reason in caught.value.format_message()


def test_two_commands_of_one_name_are_a_defect() -> None:
    with pytest.raises(ValueError, match="two commands of sample are called 'many'"):
        contract_group(REGISTRY, "sample", Naming({"put": "many"}))


@pytest.mark.parametrize("group", [points, certificate, consent])
def test_every_method_of_a_real_contract_has_a_command_that_tells_its_options(group: click.Group) -> None:
    methods = registry().contract(str(group.name)).methods
    made = [found for name, found in group.commands.items() if name != "batch"]
    assert len(made) == len(methods)
    for found in made:
        assert found.help
        for parameter in found.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{group.name} {found.name} {parameter.opts}"


def test_every_option_name_of_a_command_is_its_own() -> None:
    for group in (points, certificate, consent):
        for found in group.commands.values():
            taken = [option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)]
            assert len(taken) == len(set(taken)), f"{group.name} {found.name}"


def test_the_names_that_people_know() -> None:
    assert {"create", "mint", "transfer", "approve", "transfer-from", "spend", "burn", "freeze", "unfreeze"} <= set(
        points.commands
    )
    assert {"pause", "unpause", "cap", "balance", "show", "batch"} <= set(points.commands)
    assert {
        "define",
        "issue",
        "record",
        "transfer",
        "mark",
        "recall",
        "revoke",
        "scan",
        "show",
        "verdict",
        "batch",
    } <= (set(certificate.commands))
    assert {"request", "grant", "refuse", "withdraw", "revoke", "access", "show"} <= set(consent.commands)
