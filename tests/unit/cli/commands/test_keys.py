from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ledger.address import address_of, to_text
from ledger.keys import PrivateKey
from node import keystore, wallet
from tests.unit.cli.typed import PASSPHRASE, answer, failure, passphrase_file, typed

WORDS = "abandon " * 11 + "about"
"""The first test vector of BIP-39."""
SEED = bytes(range(32))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def secret(tmp_path: Path) -> str:
    return f"--passphrase-file={passphrase_file(tmp_path)}"


@pytest.mark.parametrize("count", [12, 24])
def test_new_shows_words_that_bring_the_key_back(home: Path, secret: str, count: int) -> None:
    made = answer(typed("keys", "new", "mine", f"--words={count}", "--account=3", secret, "--json", home=home))
    assert len(made["words"]) == count
    key = keystore.load(home / "keys" / "mine.json", PASSPHRASE)
    assert wallet.private_key(" ".join(made["words"]), 3).public == key.public
    assert made["address"] == to_text(address_of(key.public))
    assert made["public_key"] == key.public.hex()
    assert stat.S_IMODE((home / "keys" / "mine.json").stat().st_mode) == 0o600


def test_new_shows_the_words_once_and_keeps_them_nowhere(home: Path, secret: str) -> None:
    result = typed("keys", "new", "mine", "--words", "12", secret, home=home)
    shown = [cell for line in result.stdout.splitlines()[2:5] for cell in line.split()]
    assert [int(number) for number in shown[::2]] == list(range(1, 13))
    kept = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file()).decode()
    assert " ".join(shown[1::2]) not in kept
    assert result.stderr == "Next: troth keys show mine\n"


def test_new_replaces_no_key(home: Path, secret: str) -> None:
    typed("keys", "new", "mine", secret, home=home)
    before = (home / "keys" / "mine.json").read_bytes()
    found = failure(typed("keys", "new", "mine", secret, "--json", home=home))
    assert found["code"] == "E-KEYSTORE-002"
    assert (home / "keys" / "mine.json").read_bytes() == before


@pytest.mark.parametrize("label", ["Mine", "../mine", "a b", ""])
def test_a_bad_label_is_refused_before_anything_is_made(home: Path, secret: str, label: str) -> None:
    assert failure(typed("keys", "new", label, secret, "--json", home=home))["code"] == "E-KEYSTORE-001"
    assert not home.exists()


def test_without_a_terminal_the_passphrase_must_be_in_a_file(home: Path) -> None:
    found = failure(typed("keys", "new", "mine", "--json", home=home))
    assert (found["code"], found["fix"]) == ("E-CLI-001", "give --passphrase-file FILE")


def test_no_option_takes_a_passphrase_itself(home: Path) -> None:
    assert typed("keys", "new", "mine", "--passphrase", PASSPHRASE, home=home).exit_code == 2


def test_import_of_words_gives_the_same_key_as_anywhere(home: Path, secret: str, tmp_path: Path) -> None:
    words = tmp_path / "words"
    words.write_text(WORDS.upper() + "\n")
    made = answer(typed("keys", "import", "mine", f"--words-file={words}", "--account=1", secret, "--json", home=home))
    assert made["public_key"] == wallet.private_key(WORDS, 1).public.hex()


def test_import_of_wrong_words_says_which(home: Path, secret: str, tmp_path: Path) -> None:
    words = tmp_path / "words"
    words.write_text(WORDS.replace("about", "abuot"))
    found = failure(typed("keys", "import", "mine", f"--words-file={words}", secret, "--json", home=home))
    assert found["code"] == "E-WALLET-002" and "word 12" in found["cause"] and "about" in found["fix"]


def test_import_without_words_or_terminal_names_the_option(home: Path, secret: str) -> None:
    assert failure(typed("keys", "import", "mine", secret, "--json", home=home))["code"] == "E-KEYS-002"


def test_export_to_a_file_can_be_imported_again(home: Path, secret: str, tmp_path: Path) -> None:
    keystore.save(home / "keys", "mine", PrivateKey(SEED), PASSPHRASE)
    out = tmp_path / "seed"
    exported = answer(typed("keys", "export", "mine", f"--out={out}", secret, "--json", home=home))
    assert SEED.hex() not in str(exported)
    assert out.read_text() == SEED.hex() + "\n"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    again = answer(typed("keys", "import", "again", f"--seed-file={out}", secret, "--json", home=home))
    assert again["public_key"] == PrivateKey(SEED).public.hex()
    assert failure(typed("keys", "export", "mine", f"--out={out}", secret, "--json", home=home))["code"] == "E-HOME-002"


def test_export_to_a_pipe_must_be_meant(home: Path, secret: str) -> None:
    keystore.save(home / "keys", "mine", PrivateKey(SEED), PASSPHRASE)
    assert failure(typed("keys", "export", "mine", secret, "--json", home=home))["code"] == "E-KEYS-003"
    assert typed("keys", "export", "mine", secret, "--yes", home=home).stdout == SEED.hex() + "\n"


@pytest.mark.parametrize("text", ["", "00", "g" * 64, "0" * 63, "0" * 65, "00" * 3000])
def test_a_bad_seed_file_is_refused(home: Path, secret: str, tmp_path: Path, text: str) -> None:
    file = tmp_path / "seed"
    file.write_text(text)
    found = failure(typed("keys", "import", "mine", f"--seed-file={file}", secret, "--json", home=home))
    assert found["code"] == "E-KEYS-001"


def test_words_and_seed_exclude_each_other(home: Path, secret: str) -> None:
    assert typed("keys", "import", "mine", "--seed-file=a", "--words-file=b", secret, home=home).exit_code == 2


def test_list_needs_no_passphrase(home: Path) -> None:
    empty = typed("keys", "list", home=home)
    assert "No keys" in empty.stdout and empty.stderr == "Next: troth keys new LABEL\n"
    for label in ("b", "a"):
        keystore.save(home / "keys", label, PrivateKey(SEED), PASSPHRASE)
    assert [key["label"] for key in answer(typed("keys", "list", "--json", home=home))["keys"]] == ["a", "b"]
    assert typed("keys", "list", home=home).stdout.splitlines()[1].split()[0] == "a"


def test_show_finds_by_address_and_opens_on_request(home: Path, secret: str, tmp_path: Path) -> None:
    keystore.save(home / "keys", "mine", PrivateKey(SEED), PASSPHRASE)
    address = to_text(address_of(PrivateKey(SEED).public))
    shown = answer(typed("keys", "show", address, "--json", home=home))
    assert (shown["label"], shown["checked"]) == ("mine", False)
    assert answer(typed("keys", "show", "mine", "--check", secret, "--json", home=home))["checked"] is True
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong\n")
    found = failure(typed("keys", "show", "mine", "--check", f"--passphrase-file={wrong}", "--json", home=home))
    assert found["code"] == "E-KEYSTORE-007"


def test_a_missing_key_is_not_found(home: Path) -> None:
    assert typed("keys", "show", "mine", home=home).exit_code == 5


def test_the_words_of_a_key_are_numbered_four_a_line() -> None:
    from cli.commands.keys import numbered

    assert numbered(WORDS).splitlines()[2] == " 9 abandon   10 abandon   11 abandon   12 about"
