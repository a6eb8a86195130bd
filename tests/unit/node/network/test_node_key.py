from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from ledger.errors import Fault, Invalid, NotFound, Refused, TrothError
from ledger.node_certificate import make_certificate
from node.home import Home
from node.network.node_key import (
    certificate_of_pem,
    certificate_pem,
    create_node_key,
    load_node_key,
    write_node_key,
)
from tests.networks import node_key

KEY = node_key("one")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def refusal(home: Home) -> TrothError:
    with pytest.raises(TrothError) as caught:
        load_node_key(home)
    assert caught.value.cause and caught.value.fix
    return caught.value


def test_a_new_key_is_another_each_time_and_loads_again(tmp_path: Path) -> None:
    homes = [Home(tmp_path / name) for name in ("a", "b")]
    made = []
    for each in homes:
        each.path.mkdir()
        made.append(create_node_key(each))
        assert load_node_key(each).id == made[-1].id == made[-1].key.public
    assert made[0].id != made[1].id


def test_the_files_are_private_and_standard(home: Home) -> None:
    identity = write_node_key(home, KEY)
    for file in (identity.key_file, identity.certificate_file):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    held = load_pem_private_key(identity.key_file.read_bytes(), None)
    assert isinstance(held, Ed25519PrivateKey)
    assert held.private_bytes_raw() == KEY.seed()
    assert certificate_of_pem(identity.certificate_file.read_text()) == identity.certificate == make_certificate(KEY)


def test_a_key_is_never_replaced(home: Home) -> None:
    write_node_key(home, KEY)
    with pytest.raises(Refused) as caught:
        create_node_key(home)
    assert caught.value.code == "E-HOME-002"
    assert load_node_key(home).id == KEY.public


def test_a_lost_certificate_is_made_anew(home: Home) -> None:
    first = write_node_key(home, KEY)
    first.certificate_file.unlink()
    assert load_node_key(home).certificate == first.certificate
    assert certificate_of_pem(first.certificate_file.read_text()) == first.certificate


def test_the_certificate_of_another_key_is_refused(home: Home) -> None:
    identity = write_node_key(home, KEY)
    identity.certificate_file.write_text(certificate_pem(make_certificate(node_key("two"))))
    error = refusal(home)
    assert type(error) is Invalid and error.code == "E-NODEKEY-001"


def test_a_missing_key_is_said(home: Home) -> None:
    error = refusal(home)
    assert type(error) is NotFound and error.code == "E-NODEKEY-004"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_may_read_is_refused(home: Home, mode: int) -> None:
    write_node_key(home, KEY).key_file.chmod(mode)
    error = refusal(home)
    assert type(error) is Refused and error.code == "E-NODEKEY-003"


def test_a_folder_in_its_place_is_a_fault(home: Home) -> None:
    (home.path / "node.key").mkdir()
    error = refusal(home)
    assert type(error) is Fault and error.code == "E-NODEKEY-005"


def _pem(key: Ed25519PrivateKey | X25519PrivateKey, passphrase: bytes | None = None) -> bytes:
    encryption = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a key",
        b"\xff" * 5_000,
        _pem(X25519PrivateKey.from_private_bytes(bytes(32))),
        _pem(Ed25519PrivateKey.from_private_bytes(KEY.seed()), b"passphrase"),
        _pem(Ed25519PrivateKey.from_private_bytes(KEY.seed()))[:-40],
    ],
    ids=["empty", "text", "garbage", "another algorithm", "encrypted", "cut"],
)
def test_what_is_no_key_is_refused(home: Home, content: bytes) -> None:
    file = home.path / "node.key"
    file.touch(mode=0o600)
    file.write_bytes(content)
    os.chmod(file, 0o600)
    error = refusal(home)
    assert type(error) is Invalid and error.code == "E-NODEKEY-002"


@pytest.mark.parametrize("text", ["", "nothing", certificate_pem(b"not a certificate")])
def test_what_is_no_certificate_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        certificate_of_pem(text)
    assert caught.value.code == "E-NODEKEY-001"
