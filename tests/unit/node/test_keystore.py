from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgpack
import pytest
from argon2.low_level import Type, hash_secret_raw
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger.address import address_of, to_text
from ledger.errors import Fault, Invalid, NotFound, Refused, TrothError
from ledger.keys import PrivateKey
from node import keystore
from node.keystore import DEFAULT_KDF, Kdf, KeyInfo, dev_key, find, list_keys, load, save

FAST = Kdf(time_cost=1, memory_kib=16, parallelism=1)
PASSPHRASE = "correct horse"
KEY = PrivateKey(bytes(range(32)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "home" / "keys"


@pytest.fixture
def path(folder: Path) -> Path:
    return save(folder, "alice", KEY, PASSPHRASE, kdf=FAST)


def _refused(kind: type[TrothError], code: str, function: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(kind) as caught:
        function(*arguments)
    assert caught.value.code == code
    assert type(caught.value) is kind
    assert caught.value.fix
    return str(caught.value)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_a_key_comes_back(folder: Path, path: Path) -> None:
    assert path == folder / "alice.json"
    assert load(path, PASSPHRASE).seed() == KEY.seed()


def test_default_parameters() -> None:
    assert (DEFAULT_KDF.time_cost, DEFAULT_KDF.memory_kib, DEFAULT_KDF.parallelism) == (3, 65536, 4)


def test_default_parameters_are_written_and_read(folder: Path) -> None:
    path = save(folder, "alice", KEY, PASSPHRASE)
    kdf = json.loads(path.read_text())["kdf"]
    assert (kdf["time_cost"], kdf["memory_kib"], kdf["parallelism"]) == (3, 65536, 4)
    assert load(path, PASSPHRASE).public == KEY.public


def test_file_format(path: Path) -> None:
    text = path.read_text()
    document = json.loads(text)
    assert list(document) == [
        "format",
        "version",
        "label",
        "address",
        "public_key",
        "created_by",
        "kdf",
        "cipher",
        "ciphertext",
    ]
    assert (document["format"], document["version"], document["label"]) == ("troth key", 1, "alice")
    assert document["address"] == to_text(address_of(KEY.public))
    assert document["public_key"] == KEY.public.hex()
    assert document["created_by"].startswith("troth")
    assert document["kdf"] | {"salt": ""} == {
        "name": "argon2id",
        "time_cost": 1,
        "memory_kib": 16,
        "parallelism": 1,
        "salt": "",
    }
    assert len(document["kdf"]["salt"]) == 32
    assert document["cipher"]["name"] == "aes-256-gcm"
    assert len(document["cipher"]["nonce"]) == 24
    assert len(document["ciphertext"]) == 96
    assert KEY.seed().hex() not in text
    assert PASSPHRASE not in text


def test_a_file_of_version_1_can_be_read_for_ever(tmp_path: Path) -> None:
    """Written once by this version, with known salt and nonce: a change of the format would refuse it."""
    path = tmp_path / "alice.json"
    path.write_text(_VERSION_1)
    path.chmod(0o600)
    assert load(path, "correct horse").seed() == bytes(range(32))


def test_a_file_of_version_1_can_be_opened_by_its_description() -> None:
    """With Argon2id, AES-GCM and msgpack at hand, and the docstring of the module: nothing of ours is needed."""
    document = json.loads(_VERSION_1)
    kdf, cipher = document["kdf"], document["cipher"]
    costs = kdf["time_cost"], kdf["memory_kib"], kdf["parallelism"]
    key = hash_secret_raw(b"correct horse", bytes.fromhex(kdf["salt"]), *costs, hash_len=32, type=Type.ID, version=0x13)
    names = ("format", "version", "label", "address", "public_key", "created_by")
    header = [document[name] for name in names] + list(kdf.values()) + list(cipher.values())
    data = msgpack.packb(header)
    seed = AESGCM(key).decrypt(bytes.fromhex(cipher["nonce"]), bytes.fromhex(document["ciphertext"]), data)
    assert seed == bytes(range(32))


def test_salt_and_nonce_are_fresh(folder: Path) -> None:
    documents = [json.loads(save(folder, label, KEY, PASSPHRASE, kdf=FAST).read_text()) for label in ("a", "b")]
    assert documents[0]["kdf"]["salt"] != documents[1]["kdf"]["salt"]
    assert documents[0]["cipher"]["nonce"] != documents[1]["cipher"]["nonce"]
    assert documents[0]["ciphertext"] != documents[1]["ciphertext"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_modes_under_any_umask(folder: Path, umask: int) -> None:
    folder.parent.mkdir()
    before = os.umask(umask)
    try:
        path = save(folder, "alice", KEY, PASSPHRASE, kdf=FAST)
    finally:
        os.umask(before)
    assert _mode(path) == 0o600
    assert _mode(folder) == 0o700
    assert path.stat().st_nlink == 1


def test_the_file_is_private_from_its_creation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every sync, which is the first time that anything is on disk, nothing in the folder is open to others."""
    seen = []

    def fsync(descriptor: int) -> None:
        seen.append([(_mode(entry), entry.name) for entry in sorted(folder.iterdir())])

    monkeypatch.setattr(os, "fsync", fsync)
    save(folder, "alice", KEY, PASSPHRASE, kdf=FAST)
    assert [[mode for mode, _ in entries] for entries in seen] == [[0o600], [0o600]]
    assert seen[0][0][1].endswith(".draft")  # synced under another name,
    assert seen[1][0][1] == "alice.json"  # then the folder, under its own


def test_no_file_is_replaced(folder: Path, path: Path) -> None:
    before = path.read_bytes()
    other = PrivateKey(bytes(32))
    said = _refused(Refused, "E-KEYSTORE-002", save, folder, "alice", other, PASSPHRASE)
    assert str(path) in said
    assert path.read_bytes() == before
    assert [entry.name for entry in folder.iterdir()] == ["alice.json"]


def test_no_file_is_replaced_in_a_race(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process makes the same file after the first look and before the last step."""
    encrypt = keystore._encrypt

    def slow(*arguments: Any) -> bytes:
        (folder / "alice.json").write_text("another's")
        return encrypt(*arguments)

    monkeypatch.setattr(keystore, "_encrypt", slow)
    with pytest.raises(Refused) as caught:
        save(folder, "alice", KEY, PASSPHRASE, kdf=FAST)
    assert caught.value.code == "E-KEYSTORE-002"
    assert (folder / "alice.json").read_text() == "another's"
    assert [entry.name for entry in folder.iterdir()] == ["alice.json"]


@pytest.mark.parametrize("dangling", [True, False])
def test_a_symbolic_link_at_the_target_is_not_followed(folder: Path, tmp_path: Path, dangling: bool) -> None:
    target = tmp_path / "elsewhere"
    if not dangling:
        target.write_text("precious")
    folder.mkdir(parents=True, mode=0o700)
    (folder / "alice.json").symlink_to(target)
    _refused(Refused, "E-KEYSTORE-002", save, folder, "alice", KEY, PASSPHRASE)
    assert target.exists() != dangling
    assert dangling or target.read_text() == "precious"


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701, 0o770, 0o777])
def test_a_folder_that_others_may_enter_is_refused(folder: Path, mode: int) -> None:
    folder.mkdir(parents=True)
    folder.chmod(mode)
    said = _refused(Refused, "E-KEYSTORE-004", save, folder, "alice", KEY, PASSPHRASE)
    assert f"chmod 700 {folder}" in said
    assert not list(folder.iterdir())


@pytest.mark.parametrize("step", ["fsync", "link"])
def test_a_failing_disk_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def failing(*arguments: Any, **named: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, failing)
    said = _refused(Fault, "E-KEYSTORE-009", save, folder, "alice", KEY, PASSPHRASE)
    assert "No space left on device" in said
    assert not list(folder.iterdir())


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("")
    _refused(Fault, "E-KEYSTORE-009", save, tmp_path / "keys", "alice", KEY, PASSPHRASE)
    _refused(Fault, "E-KEYSTORE-009", list_keys, tmp_path / "keys")


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o660, 0o666, 0o601, 0o620])
def test_a_file_open_to_others_is_refused(folder: Path, path: Path, mode: int) -> None:
    path.chmod(mode)
    said = _refused(Refused, "E-KEYSTORE-004", load, path, PASSPHRASE)
    assert f"chmod 600 {path}" in said
    assert f"{mode:04o}" in said
    _refused(Refused, "E-KEYSTORE-004", list_keys, folder)


def test_a_file_may_be_read_only(path: Path) -> None:
    path.chmod(0o400)
    assert load(path, PASSPHRASE).public == KEY.public


@pytest.mark.parametrize("wrong", ["Correct horse", "correct horse ", " ", "x", "correct horse\n"])
def test_a_wrong_passphrase(path: Path, wrong: str) -> None:
    said = _refused(Invalid, "E-KEYSTORE-007", load, path, wrong)
    assert "wrong passphrase" in said
    assert PASSPHRASE not in said


def test_an_unusable_passphrase(folder: Path, path: Path) -> None:
    for passphrase in ("", "\udcff"):
        _refused(Invalid, "E-KEYSTORE-008", load, path, passphrase)
        _refused(Invalid, "E-KEYSTORE-008", save, folder, "bob", KEY, passphrase)
    assert [info.label for info in list_keys(folder)] == ["alice"]


def test_a_passphrase_is_taken_in_nfkd(folder: Path) -> None:
    path = save(folder, "alice", KEY, "pa\u0308sswort", kdf=FAST)
    assert load(path, "p\u00e4sswort").public == KEY.public


def _flip(text: str) -> str:
    return ("0" if text[0] != "0" else "1") + text[1:]


_OTHER = PrivateKey(b"\x01" * 32)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(label="mallory"),
        lambda d: d.update(created_by="troth 9.9.9"),
        lambda d: d.update(public_key=_OTHER.public.hex(), address=to_text(address_of(_OTHER.public))),
        lambda d: d.update(ciphertext=_flip(d["ciphertext"])),
        lambda d: d.update(ciphertext=d["ciphertext"][:-1] + ("0" if d["ciphertext"][-1] != "0" else "1")),
        lambda d: d["kdf"].update(time_cost=2),
        lambda d: d["kdf"].update(memory_kib=24),
        lambda d: d["kdf"].update(parallelism=2),
        lambda d: d["kdf"].update(salt=_flip(d["kdf"]["salt"])),
        lambda d: d["cipher"].update(nonce=_flip(d["cipher"]["nonce"])),
    ],
)
def test_every_field_is_authenticated(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    _edit(path, change)
    _refused(Invalid, "E-KEYSTORE-007", load, path, PASSPHRASE)


def test_the_text_of_the_json_is_not_authenticated_only_its_fields(path: Path) -> None:
    document = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(document.items()))))
    assert load(path, PASSPHRASE).public == KEY.public


def test_a_header_swapped_with_another_file(folder: Path, path: Path) -> None:
    """The ciphertext of one key under the header of another, both under one passphrase."""
    other = save(folder, "bob", _OTHER, PASSPHRASE, kdf=FAST)
    foreign = json.loads(other.read_text())
    _edit(path, lambda d: d.update(ciphertext=foreign["ciphertext"]))
    _refused(Invalid, "E-KEYSTORE-007", load, path, PASSPHRASE)
    own = json.loads(path.read_text())
    path.write_text(json.dumps(foreign | {"label": "alice"}))
    assert own != json.loads(path.read_text())
    _refused(Invalid, "E-KEYSTORE-007", load, path, PASSPHRASE)


def test_the_sealed_key_must_be_the_one_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file made by somebody who knows the passphrase, whose header names another public key."""

    class Impostor(PrivateKey):
        def seed(self) -> bytes:
            return _OTHER.seed()

    path = save(folder, "alice", Impostor(KEY.seed()), PASSPHRASE, kdf=FAST)
    said = _refused(Invalid, "E-KEYSTORE-005", load, path, PASSPHRASE)
    assert "another public key" in said


def _without(*names: str) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        place = document
        for name in names[:-1]:
            place = place[name]
        del place[names[-1]]

    return change


@pytest.mark.parametrize(
    "change",
    [
        *[_without(n) for n in ("format", "version", "label", "address", "public_key", "created_by", "kdf", "cipher")],
        _without("ciphertext"),
        *[_without("kdf", name) for name in ("name", "time_cost", "memory_kib", "parallelism", "salt")],
        *[_without("cipher", name) for name in ("name", "nonce")],
        lambda d: d.update(extra=1),
        lambda d: d["kdf"].update(extra=1),
        lambda d: d["cipher"].update({"": None}),
        lambda d: d.update(format="ssh key"),
        lambda d: d.update(version=2),
        lambda d: d.update(version=0),
        lambda d: d.update(version=True),
        lambda d: d.update(version="1"),
        lambda d: d.update(version=1.0),
        lambda d: d.update(label="Alice"),
        lambda d: d.update(label="../alice"),
        lambda d: d.update(label=None),
        lambda d: d.update(address=to_text(address_of(_OTHER.public))),
        lambda d: d.update(address=d["address"].upper()),
        lambda d: d.update(address=""),
        lambda d: d.update(public_key=_OTHER.public.hex()),
        lambda d: d.update(public_key=d["public_key"].upper()),
        lambda d: d.update(public_key=d["public_key"] + "00"),
        lambda d: d.update(public_key=bytes(32).hex(), address=to_text(address_of(bytes(32)))),
        lambda d: d.update(created_by="\u0000"),
        lambda d: d.update(created_by="\ud800"),
        lambda d: d.update(kdf=[]),
        lambda d: d.update(cipher="aes-256-gcm"),
        lambda d: d["kdf"].update(name="argon2i"),
        lambda d: d["kdf"].update(name="scrypt"),
        lambda d: d["kdf"].update(salt=""),
        lambda d: d["kdf"].update(salt=d["kdf"]["salt"][2:]),
        lambda d: d["kdf"].update(salt="zz" * 16),
        lambda d: d["kdf"].update(salt=d["kdf"]["salt"] + "\n"),
        lambda d: d["kdf"].update(time_cost=1.0),
        lambda d: d["cipher"].update(name="none"),
        lambda d: d["cipher"].update(nonce="00" * 11),
        lambda d: d.update(ciphertext=""),
        lambda d: d.update(ciphertext=d["ciphertext"][:-2]),
        lambda d: d.update(ciphertext=d["ciphertext"] + "00"),
        lambda d: d.update(ciphertext=KEY.seed().hex()),
    ],
)
def test_a_file_that_is_no_key_file(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    _edit(path, change)
    said = _refused(Invalid, "E-KEYSTORE-005", load, path, PASSPHRASE)
    assert str(path) in said


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"1",
        b"\xff\xfe",
        b"\x00" * 100,
        b"[" * 16_000,
        b'{"a":' * 3000,
        b"9" * 10_000,
        b'{"format": NaN}',
        b"x" * 20_000,
        b" " * 2_000_000,
    ],
    ids=lambda data: f"{data[:6]!r} {len(data)}",
)
def test_bytes_that_are_no_key_file(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    said = _refused(Invalid, "E-KEYSTORE-005", load, path, PASSPHRASE)
    assert len(said) < 500


def test_a_file_cut_anywhere_is_refused(path: Path) -> None:
    data = path.read_bytes().rstrip()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        _refused(Invalid, "E-KEYSTORE-005", load, path, PASSPHRASE)


def test_a_field_that_appears_twice_is_refused(path: Path) -> None:
    path.write_text(path.read_text().replace('"version": 1,', '"version": 1, "version": 1,'))
    assert "twice" in _refused(Invalid, "E-KEYSTORE-005", load, path, PASSPHRASE)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("memory_kib", (1 << 20) + 1),
        ("memory_kib", 1 << 40),
        ("memory_kib", 10**4000),
        ("memory_kib", 7),
        ("memory_kib", 0),
        ("memory_kib", -1),
        ("time_cost", 21),
        ("time_cost", 2**32),
        ("time_cost", 0),
        ("time_cost", -1),
        ("parallelism", 17),
        ("parallelism", 3),  # 16 KiB are enough for two lanes
        ("parallelism", 0),
    ],
)
def test_absurd_parameters_are_refused_before_any_work(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: int
) -> None:
    def never(*arguments: object) -> bytes:
        raise AssertionError("the KDF ran")

    _edit(path, lambda d: d["kdf"].update({name: value}))
    monkeypatch.setattr(keystore, "_derive", never)
    said = _refused(Invalid, "E-KEYSTORE-006", load, path, PASSPHRASE)
    assert len(said) < 300


def test_parameters_at_their_bounds() -> None:
    Kdf(time_cost=20, memory_kib=1 << 20, parallelism=16)
    Kdf(time_cost=1, memory_kib=8, parallelism=1)
    for parameters in ((21, 8, 1), (1, (1 << 20) + 1, 1), (1, 1 << 20, 17), (1, 15, 2), (True, 8, 1)):
        _refused(Invalid, "E-KEYSTORE-006", Kdf, *parameters)


def test_no_file(folder: Path) -> None:
    _refused(NotFound, "E-KEYSTORE-003", load, folder / "alice.json", PASSPHRASE)
    assert list_keys(folder) == []


def test_what_is_not_a_regular_file(folder: Path) -> None:
    folder.mkdir(parents=True, mode=0o700)
    (folder / "folder.json").mkdir(mode=0o700)
    os.mkfifo(folder / "fifo.json", 0o600)
    for name in ("folder.json", "fifo.json"):
        _refused(Invalid, "E-KEYSTORE-005", load, folder / name, PASSPHRASE)
    _refused(Invalid, "E-KEYSTORE-005", load, Path("/dev/null"), PASSPHRASE)


def test_list_and_find(folder: Path) -> None:
    keys = {label: PrivateKey(label.encode().ljust(32)) for label in ("bob", "alice", "c.d_e-1")}
    for label, key in keys.items():
        save(folder, label, key, PASSPHRASE, kdf=FAST)
    (folder / "notes.txt").write_text("not a key")
    (folder / ".alice.json.0123456789abcdef.draft").write_text("left by a crash")
    infos = list_keys(folder)
    assert [info.label for info in infos] == ["alice", "bob", "c.d_e-1"]
    for info in infos:
        key = keys[info.label]
        address = to_text(address_of(key.public))
        assert info == KeyInfo(info.label, address, key.public.hex(), folder / f"{info.label}.json")
        assert find(folder, info.label) == find(folder, address) == find(folder, address.upper()) == info
        assert load(info.path, PASSPHRASE).seed() == key.seed()


def test_one_key_under_two_labels(folder: Path) -> None:
    for label in ("two", "one"):
        save(folder, label, KEY, PASSPHRASE, kdf=FAST)
    assert find(folder, to_text(address_of(KEY.public))).label == "one"


def test_find_nothing(folder: Path, path: Path) -> None:
    _refused(NotFound, "E-KEYSTORE-003", find, folder, "bob")
    _refused(NotFound, "E-KEYSTORE-003", find, folder, to_text(bytes(20)))
    for text in ("", "Bob", "../alice", "a/b", "..", "troth1" + "q" * 38, "x" * 41, "alice\n"):
        _refused(Invalid, "E-KEYSTORE-001", find, folder, text)


def test_a_damaged_file_is_named_not_left_out(folder: Path, path: Path) -> None:
    save(folder, "bob", _OTHER, PASSPHRASE, kdf=FAST)
    path.write_text("{}")
    assert str(path) in _refused(Invalid, "E-KEYSTORE-005", list_keys, folder)
    assert find(folder, "bob").label == "bob"  # the others can still be reached by label


def test_a_file_under_another_name_is_no_answer(folder: Path, path: Path) -> None:
    """Else whoever can rename files exchanges whose key a label means."""
    path.rename(folder / "bob.json")
    said = _refused(Invalid, "E-KEYSTORE-005", find, folder, "bob")
    assert "labelled alice" in said
    assert load(folder / "bob.json", PASSPHRASE).public == KEY.public  # a backup may have any name


@pytest.mark.parametrize("label", ["a", "0", "x" * 40, "a.b-c_d", "a.."])
def test_labels(folder: Path, label: str) -> None:
    assert save(folder, label, KEY, PASSPHRASE, kdf=FAST).parent == folder
    assert find(folder, label).label == label


@pytest.mark.parametrize(
    "label", ["", "x" * 41, "A", "ä", "a b", "a/b", "..", ".", "../a", "-a", ".a", "_a", "a\n", "a\0", "٣", None, 1]
)
def test_what_is_no_label(folder: Path, label: Any) -> None:
    _refused(Invalid, "E-KEYSTORE-001", save, folder, label, KEY, PASSPHRASE)
    _refused(Invalid, "E-KEYSTORE-001", dev_key, label)
    assert not folder.exists()


def test_public_development_keys() -> None:
    """They are written into documents and scripts: they must never change."""
    assert dev_key("alice").seed() == sha256(b"troth public development key/alice").digest()
    assert dev_key("alice").public.hex() == "4581fb04c00c854243ceb9c3439b622383237e24182eeeb92e24e10c07bf035a"
    assert dev_key("alice").public != dev_key("bob").public


_VERSION_1 = """{
  "format": "troth key",
  "version": 1,
  "label": "alice",
  "address": "troth1uk7altrxrxsjk4ljl9598r34ta7hs0xzu6g588",
  "public_key": "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8",
  "created_by": "troth 0.1.0",
  "kdf": {
    "name": "argon2id",
    "time_cost": 1,
    "memory_kib": 16,
    "parallelism": 1,
    "salt": "000102030405060708090a0b0c0d0e0f"
  },
  "cipher": {
    "name": "aes-256-gcm",
    "nonce": "a0a1a2a3a4a5a6a7a8a9aaab"
  },
  "ciphertext": "1a55c7982209dd3401e07f6be5be52afcf4e309654213a30509b22b2b98c8b7bc105158ac50e8d75c42822b9a2c79bcd"
}
"""
