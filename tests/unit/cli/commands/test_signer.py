from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from ledger.address import address_of, to_text
from node.home import Home
from node.keystore import dev_key
from node.signer import GuardedKey
from node.signer_protocol import Hello, Sign, Signature
from node.signer_server import SignerServer
from node.signing_record import RecordFile, create
from tests.signers import commit, raw
from tests.unit.cli.typed import answer, failure, typed

KEY = dev_key("validator")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = typed("init", "--chain-id=dev-1", "--organisation=grocer", "--dev-keys", home=tmp_path / "home")
    assert made.exit_code == 0, made.stderr
    return Home(tmp_path / "home")


def while_it_runs(home: Home, action: Callable[[], Result], path: Path | None = None) -> Result:
    """What an action returns while a signer runs in this home."""

    async def scenario() -> Result:
        server = SignerServer(GuardedKey(KEY, RecordFile(home.signing_record)), path or home.signer_socket)
        await server.start()
        try:
            return await asyncio.to_thread(action)
        finally:
            await server.stop()

    return asyncio.run(scenario())


def test_status_says_who_signs_and_what_was_signed_last(home: Home) -> None:
    def action() -> Result:
        with raw(home.signer_socket) as node:
            node.ask(Hello(1, "dev-1"))
            assert isinstance(node.ask(Sign(commit(5, round_=2, chain="dev-1"))), Signature)
            return typed("signer", "status", "--json", home=home.path)

    assert answer(while_it_runs(home, action)) == {
        "schema": "troth/signer-status/1",
        "socket": str(home.signer_socket),
        "address": to_text(address_of(KEY.public)),
        "public_key": KEY.public.hex(),
        "chain_id": "dev-1",
        "height": 5,
        "round": 2,
        "step": "COMMIT",
        "node_connected": True,
    }
    shown = while_it_runs(home, lambda: typed("signer", "status", home=home.path)).stdout
    assert "It signed last: COMMIT of height 5 round 2." in shown and "No node is connected." in shown


def test_status_finds_the_signer_that_is_set_or_named(home: Home, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    for arguments in (("--socket", str(place)), ("--set", f"validator.signer={place}")):
        found = while_it_runs(home, lambda a=arguments: typed("signer", "status", "--json", *a, home=home.path), place)  # type: ignore[misc]
        assert answer(found)["socket"] == str(place)
        assert answer(found)["height"] == 0


def test_where_no_signer_runs_that_is_said_with_code_6(home: Home) -> None:
    result = typed("signer", "status", "--json", home=home.path)
    assert result.exit_code == 6
    error = failure(result)
    assert error["code"] == "E-SIGNER-001" and str(home.signer_socket) in error["cause"]


def test_without_a_record_nothing_starts_and_the_fix_is_said(home: Home) -> None:
    home.signing_record.unlink()
    error = failure(typed("signer", "start", "--json", home=home.path))
    assert error["code"] == "E-GUARD-002"
    assert error["fix"].startswith("restore the newest record")
    assert not home.signing_record.exists()


def test_a_record_that_is_in_use_starts_no_second_signer(home: Home) -> None:
    with RecordFile(home.signing_record):
        assert failure(typed("signer", "start", "--json", home=home.path))["code"] == "E-SIGNING-002"


def test_a_path_that_no_socket_can_have_is_refused_before_a_passphrase_is_asked(tmp_path: Path) -> None:
    home = tmp_path / ("x" * 90)
    made = typed("init", "--chain-id=dev-1", "--organisation=grocer", "--dev-keys", home=home)
    assert made.exit_code == 0, made.stderr
    assert failure(typed("signer", "start", "--json", home=home))["code"] == "E-SIGNER-009"


def test_a_development_key_signs_on_development_chains_only(home: Home) -> None:
    home.signing_record.unlink()
    create(home.signing_record, "acme-1")
    assert failure(typed("signer", "start", "--json", home=home.path))["code"] == "E-CLI-008"
