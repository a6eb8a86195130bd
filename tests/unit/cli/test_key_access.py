from __future__ import annotations

from pathlib import Path

import pytest

from cli.key_access import check_dev_chain, open_key
from cli.session import Session
from ledger.address import address_of, to_text
from ledger.errors import Forbidden, Invalid, NotFound
from ledger.keys import PrivateKey
from node import keystore
from node.home import Home
from tests.unit.cli.typed import PASSPHRASE, passphrase_file

KEY = PrivateKey(bytes(range(32)))
QUICK = keystore.Kdf(time_cost=1, memory_kib=64, parallelism=1)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home.create(tmp_path / "home")
    keystore.save(found.keys, "mine", KEY, PASSPHRASE, kdf=QUICK)
    return found


def test_a_key_opens_by_label_and_by_address(home: Home, tmp_path: Path) -> None:
    session, file = Session(home.path), passphrase_file(tmp_path)
    for reference in ("mine", to_text(address_of(KEY.public))):
        assert open_key(session, home, reference, file, chain_id="acme").public == KEY.public


def test_a_wrong_passphrase_opens_nothing(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "other"
    file.write_text("wrong\n")
    with pytest.raises(Invalid) as caught:
        open_key(Session(home.path), home, "mine", file, chain_id="acme")
    assert caught.value.code == "E-KEYSTORE-007"


def test_an_unknown_key_is_not_found_before_a_passphrase_is_asked_for(home: Home) -> None:
    with pytest.raises(NotFound):
        open_key(Session(home.path), home, "yours", None, chain_id="acme")


def test_a_development_key_opens_on_development_chains_only(home: Home) -> None:
    session = Session(home.path)
    assert open_key(session, home, "dev:grocer", None, chain_id="dev-1").public == keystore.dev_key("grocer").public
    for chain_id in ("acme", "my-dev", "xdev"):
        with pytest.raises(Forbidden) as caught:
            open_key(session, home, "dev:grocer", None, chain_id=chain_id)
        assert caught.value.code == "E-CLI-008"
        assert caught.value.exit_code == 4


def test_a_development_chain_is_known_by_its_id() -> None:
    check_dev_chain("dev", "it")
    check_dev_chain("development-7", "it")
    with pytest.raises(Forbidden, match="it may be used on chains whose id begins with dev, and this is acme"):
        check_dev_chain("acme", "it")
