from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.session import PASSPHRASE_BYTES_MAX, Session
from ledger.errors import Fault, Invalid, TrothError


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path / "home")


def code_of(action: Callable[[], object]) -> str:
    with pytest.raises(TrothError) as caught:
        action()
    return caught.value.code


def test_a_result_is_text_then_the_next_step(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    session.result("thing", {"a": 1}, lambda: "a is 1", next="b")
    assert capsys.readouterr() == ("a is 1\n", "Next: b\n")


def test_a_result_under_json_begins_with_its_schema(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    session.json = True
    session.result("thing", {"a": "ä"}, lambda: pytest.fail("the text is not made"), next="b")
    assert capsys.readouterr() == ('{"schema": "troth/thing/1", "a": "ä"}\n', "")


def test_quiet_silences_notes_and_not_warnings(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    session.quiet = True
    session.note("note")
    session.warn("careful")
    assert capsys.readouterr() == ("", "Warning: careful\n")


def test_a_table_aligns_numbers_right_and_wide_characters_by_their_width(session: Session) -> None:
    session.no_color = True
    lines = session.table(("name", "points"), [("東京", 5), ("a", 1_234)]).splitlines()
    assert [line.removeprefix("\x1b[1m").removesuffix("\x1b[0m") for line in lines] == [
        "name  points",
        "東京       5",
        "a       1234",
    ]


def test_an_empty_table_has_its_head(session: Session) -> None:
    assert "name" in session.table(("name",), [])


def test_progress_is_silent_without_a_terminal(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    with session.progress("working", 3) as progress:
        progress.advance(2)
        progress.describe("still working")
    assert capsys.readouterr() == ("", "")


def test_a_question_without_a_terminal_names_the_option(session: Session) -> None:
    with pytest.raises(Invalid) as caught:
        session.confirm("Delete it?")
    assert (caught.value.code, caught.value.fix) == ("E-CLI-001", "give --yes")
    session.yes = True
    session.confirm("Delete it?")


def test_a_passphrase_without_terminal_or_file_names_the_option(session: Session) -> None:
    with pytest.raises(Invalid) as caught:
        session.passphrase(None)
    assert (caught.value.code, caught.value.fix) == ("E-CLI-001", "give --passphrase-file FILE")


@pytest.mark.parametrize(
    ("raw", "passphrase"),
    [(b"secret\n", "secret"), (b"secret", "secret"), (b"one\ntwo\n", "one"), ("pä ss\r\n".encode(), "pä ss")],
)
def test_a_passphrase_file_has_it_on_its_first_line(
    session: Session, tmp_path: Path, raw: bytes, passphrase: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(raw)
    assert session.passphrase(file, confirm=True) == passphrase


@pytest.mark.parametrize("raw", [b"", b"\n", b"\nsecret\n", b"\xff\n", b"x" * (PASSPHRASE_BYTES_MAX + 1)])
def test_a_bad_passphrase_file_is_refused(session: Session, tmp_path: Path, raw: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(raw)
    assert code_of(lambda: session.passphrase(file)) == "E-CLI-003"


def test_a_missing_passphrase_file_is_named(session: Session, tmp_path: Path) -> None:
    with pytest.raises(Fault, match="missing: No such file"):
        session.passphrase(tmp_path / "missing")


def test_the_next_command_names_a_home_that_is_not_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TROTH_HOME", raising=False)
    monkeypatch.delenv("TROTH_INSTANCE", raising=False)
    assert Session(tmp_path).command("doctor") == "troth doctor"
    named = Session(Path("/my home"), 2, home_given=True)
    assert named.command("doctor") == "troth --home '/my home' --instance 2 doctor"
    monkeypatch.setenv("TROTH_HOME", "/my home")
    monkeypatch.setenv("TROTH_INSTANCE", "2")
    assert named.command("doctor") == "troth doctor"


def test_the_configuration_follows_the_home_and_the_flags(session: Session, tmp_path: Path) -> None:
    session.settings = {"log.level": "error"}
    assert session.config.log.level == "error"
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.toml").write_text("[log]\nformat = 'json'\n")
    session.use_home(other)
    assert (session.config.log.format, session.config.log.level) == ("json", "error")
