"""A home: the folder of one member or node.

    HOME/                   mode 0700
      config.toml           settings (node.config)
      genesis.json          the genesis document of the chain
      keys/                 key files (node.keystore), mode 0700
      signing/record        what the validator signed last (node.signing_record), mode 0600
      signing/socket        where the signer of this home listens (node.signer_server), mode 0600
      data/ledger/          the database (node.stores)
      node.pid              the process id of the node that runs here, locked while it does

Rules kept here:
- everything below a home is its owner's alone: folders 0700, files 0600;
- a new file appears whole or not at all, and no existing file is replaced;
- one node at a time, by an exclusive flock on node.pid; the lock dies with its process, so a stale file is no obstacle.

The default place follows the XDG Base Directory specification (platformdirs).
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ledger.errors import Fault, Invalid, NotFound, Refused, define

NO_HOME = define("E-HOME-001", "no home", "run: troth init")
HOME_EXISTS = define("E-HOME-002", "the home exists", "choose another folder with --home")
OPEN_HOME = define("E-HOME-003", "others may enter the home", "run: chmod 700 on the folder")
FILE_MISSING = define("E-HOME-004", "a file of the home is missing", "restore it from a backup")
HOME_FAULT = define("E-HOME-005", "a file of the home could not be read or written", "check the disk and permissions")
NODE_RUNS = define("E-HOME-006", "a node runs in this home", "stop it first, or use another home")
NOT_TEXT = define("E-HOME-007", "a file of the home is not text", "restore it from a backup")

ENVIRONMENT = "TROTH_HOME"
FILE_BYTES_MAX = 16 << 20
"""Largest file read from a home, in bytes: a genesis document of thousands of members has less."""

_OTHERS = 0o077


def default_home(instance: int = 0) -> Path:
    """The home where none is named: one for each instance, below the user's data folder."""
    return _below("home" if instance == 0 else f"home-{instance}")


def default_dev_home(instance: int = 0) -> Path:
    """The home of `troth dev` where none is named."""
    return _below("dev" if instance == 0 else f"dev-{instance}")


def home_of_environment() -> Path | None:
    """The home that TROTH_HOME names, or None."""
    named = os.environ.get(ENVIRONMENT)
    return Path(named).expanduser() if named else None


def _below(name: str) -> Path:
    from platformdirs import user_data_path

    return user_data_path("troth", appauthor=False) / name


@dataclass(frozen=True, slots=True)
class Home:
    """The places in a home. Making one touches no disk: `open` and `create` do."""

    path: Path

    @property
    def config_file(self) -> Path:
        return self.path / "config.toml"

    @property
    def genesis_file(self) -> Path:
        return self.path / "genesis.json"

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def signing_record(self) -> Path:
        return self.path / "signing" / "record"

    @property
    def signer_socket(self) -> Path:
        return self.path / "signing" / "socket"

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def ledger(self) -> Path:
        return self.path / "data" / "ledger"

    @property
    def pid_file(self) -> Path:
        return self.path / "node.pid"

    @classmethod
    def open(cls, path: Path) -> Home:
        """The home at `path`. A folder is one when it has a config.toml, which is written last.

        Raises NotFound (E-HOME-001) and Refused (E-HOME-003) where others may enter it.
        """
        home = cls(path)
        try:
            found = home.config_file.is_file()
            mode = stat.S_IMODE(path.stat().st_mode) if found else 0
        except OSError as error:
            raise _fault(path, error) from error
        if not found:
            raise NotFound(NO_HOME, f"no home at {path}")
        if mode & _OTHERS:
            raise Refused(OPEN_HOME, f"{path} has mode {mode:04o}: others may enter it", fix=f"run: chmod 700 {path}")
        return home

    @classmethod
    def create(cls, path: Path) -> Home:
        """The folders of a new home. It is a home once `write_new` has put config.toml there.

        Keys that lie there already stay. Raises Refused (E-HOME-002, E-HOME-003) and Fault (E-HOME-005).
        """
        home = cls(path)
        try:
            for file in (home.config_file, home.genesis_file):
                if file.exists():
                    raise Refused(HOME_EXISTS, f"{file} exists")
            path.parent.mkdir(parents=True, exist_ok=True)
            for folder in (path, home.keys, home.data, home.ledger):
                folder.mkdir(mode=0o700, exist_ok=True)
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError as error:
            raise _fault(path, error) from error
        if mode & _OTHERS:
            raise Refused(OPEN_HOME, f"{path} has mode {mode:04o}: others may enter it", fix=f"run: chmod 700 {path}")
        return home

    def read_text(self, file: Path) -> str:
        """The text of a file. Raises NotFound (E-HOME-004), Invalid (E-HOME-007), Fault (E-HOME-005)."""
        try:
            with file.open("rb") as opened:
                raw = opened.read(FILE_BYTES_MAX + 1)
        except FileNotFoundError:
            raise NotFound(FILE_MISSING, f"{file} is missing") from None
        except OSError as error:
            raise _fault(file, error) from error
        if len(raw) > FILE_BYTES_MAX:
            raise Invalid(NOT_TEXT, f"{file} is larger than {FILE_BYTES_MAX} bytes")
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise Invalid(NOT_TEXT, f"{file} is not UTF-8 at byte {error.start}") from None

    def write_new(self, file: Path, text: str) -> None:
        """Writes a file of mode 0600 durably. Raises Refused (E-HOME-002) where it exists, Fault (E-HOME-005)."""
        draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}.draft")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with open(descriptor, "wb") as opened:
                    opened.write(text.encode())
                    opened.flush()
                    os.fsync(opened.fileno())
                os.link(draft, file)  # a rename would replace what is there
            finally:
                draft.unlink()
            _sync_folder(file.parent)
        except FileExistsError:
            raise Refused(HOME_EXISTS, f"{file} exists") from None
        except OSError as error:
            raise _fault(file, error) from error

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Holds node.pid locked. Raises Refused (E-HOME-006) where another process does, and Fault (E-HOME-005)."""
        try:
            descriptor = os.open(self.pid_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _fault(self.pid_file, error) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = self.running_pid()
                who = f"a node (pid {pid})" if pid else "a node"
                raise Refused(NODE_RUNS, f"{who} runs in {self.path}") from None
            # Never removed: another process may have opened it, and would lock a file that is no longer there.
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
            yield
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def running_pid(self) -> int | None:
        """The process id of the node that runs here, or None where none does."""
        try:
            descriptor = os.open(self.pid_file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _fault(self.pid_file, error) from error
        try:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
            text = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            return int(text) if text.isdecimal() else None
        finally:
            os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fault(path: Path, error: OSError) -> Fault:
    return Fault(HOME_FAULT, f"{path}: {error.strerror or error}")
