from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.errors import Fault, Invalid, NotFound, Refused, TrothError
from node.home import FILE_BYTES_MAX, Home, default_dev_home, default_home, home_of_environment

ROOT = Path(__file__).resolve().parents[3]


def code_of(action: Callable[[], object], kind: type[TrothError]) -> str:
    with pytest.raises(kind) as caught:
        action()
    return caught.value.code


def made(tmp_path: Path) -> Home:
    home = Home.create(tmp_path / "home")
    home.write_new(home.config_file, "")
    return home


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_home_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        home = made(tmp_path)
        with home.claimed():
            pass
    finally:
        os.umask(before)
    assert {mode(path) for path in (home.path, home.keys, home.data, home.ledger)} == {0o700}
    assert {mode(path) for path in (home.config_file, home.pid_file)} == {0o600}


def test_a_folder_without_settings_is_no_home(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        Home.open(tmp_path)
    assert str(caught.value) == f"E-HOME-001 no home at {tmp_path}; run: troth init"
    assert code_of(lambda: Home.open(tmp_path / "missing"), NotFound) == "E-HOME-001"


def test_an_interrupted_creation_is_no_home_and_can_be_repeated(tmp_path: Path) -> None:
    Home.create(tmp_path / "home")
    assert code_of(lambda: Home.open(tmp_path / "home"), NotFound) == "E-HOME-001"
    Home.create(tmp_path / "home")


def test_a_home_is_never_made_over_another(tmp_path: Path) -> None:
    home = made(tmp_path)
    assert code_of(lambda: Home.create(home.path), Refused) == "E-HOME-002"
    home.config_file.unlink()
    home.write_new(home.genesis_file, "{}")
    assert code_of(lambda: Home.create(home.path), Refused) == "E-HOME-002"


def test_a_home_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    home = made(tmp_path)
    home.path.chmod(0o750)
    with pytest.raises(Refused) as caught:
        Home.open(home.path)
    assert caught.value.code == "E-HOME-003"
    assert caught.value.fix == f"run: chmod 700 {home.path}"


def test_a_path_through_a_file_is_a_fault_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert code_of(lambda: Home.create(tmp_path / "file" / "home"), Fault) == "E-HOME-005"


def test_writing_replaces_nothing_and_leaves_no_draft(tmp_path: Path) -> None:
    home = made(tmp_path)
    target = home.path / "target"
    home.genesis_file.symlink_to(target)
    assert code_of(lambda: home.write_new(home.genesis_file, "x"), Refused) == "E-HOME-002"
    assert not target.exists()
    assert code_of(lambda: home.write_new(home.config_file, "x"), Refused) == "E-HOME-002"
    assert home.config_file.read_text() == ""
    assert code_of(lambda: home.write_new(home.path / "no" / "file", "x"), Fault) == "E-HOME-005"
    assert not [path.name for path in home.path.iterdir() if "draft" in path.name]


def test_reading_names_what_is_wrong(tmp_path: Path) -> None:
    home = made(tmp_path)
    assert code_of(lambda: home.read_text(home.genesis_file), NotFound) == "E-HOME-004"
    home.genesis_file.write_bytes(b"abc\xff")
    with pytest.raises(Invalid, match="not UTF-8 at byte 3"):
        home.read_text(home.genesis_file)
    with home.genesis_file.open("wb") as file:
        file.truncate(FILE_BYTES_MAX + 1)
    assert code_of(lambda: home.read_text(home.genesis_file), Invalid) == "E-HOME-007"
    assert code_of(lambda: home.read_text(home.keys), Fault) == "E-HOME-005"


def test_one_node_at_a_time(tmp_path: Path) -> None:
    home = made(tmp_path)
    assert home.running_pid() is None
    with home.claimed():
        assert home.running_pid() == os.getpid()
        with pytest.raises(Refused) as caught, home.claimed():
            pytest.fail("claimed twice")
        assert caught.value.code == "E-HOME-006" and f"pid {os.getpid()}" in caught.value.cause
    assert home.running_pid() is None
    with home.claimed():
        assert home.running_pid() == os.getpid()


def test_a_killed_node_leaves_no_claim(tmp_path: Path) -> None:
    home = made(tmp_path)
    program = (
        "import sys; from pathlib import Path; from node.home import Home\n"
        "with Home(Path(sys.argv[1])).claimed():\n    print('claimed', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(home.path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"claimed\n"
        assert home.running_pid() == process.pid
        process.kill()
        process.wait()
    assert home.pid_file.read_text() == f"{process.pid}\n"
    assert home.running_pid() is None
    with home.claimed():
        pass


def test_the_default_homes_follow_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert [default_home(), default_home(2)] == [Path("/data/troth/home"), Path("/data/troth/home-2")]
    assert [default_dev_home(), default_dev_home(2)] == [Path("/data/troth/dev"), Path("/data/troth/dev-2")]


def test_the_environment_names_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TROTH_HOME", raising=False)
    assert home_of_environment() is None
    monkeypatch.setenv("TROTH_HOME", "")
    assert home_of_environment() is None
    monkeypatch.setenv("HOME", "/people/one")
    monkeypatch.setenv("TROTH_HOME", "~/ledger")
    assert home_of_environment() == Path("/people/one/ledger")
