"""Key files: one Ed25519 key each, encrypted under a passphrase.

A key file is JSON in ASCII, `LABEL.json`, mode 0600, in a directory of mode 0700. Version 1:

    {
      "format": "troth key",
      "version": 1,
      "label": "alice",
      "address": "troth1...",               address of the account whose first key this is
      "public_key": "<64 hex digits>",
      "created_by": "troth 0.1.0",
      "kdf": {
        "name": "argon2id",                 RFC 9106, version 1.3 (0x13), 32 bytes of output
        "time_cost": 3,                     passes
        "memory_kib": 65536,                64 MiB
        "parallelism": 4,                   lanes
        "salt": "<32 hex digits>"
      },
      "cipher": {"name": "aes-256-gcm", "nonce": "<24 hex digits>"},
      "ciphertext": "<96 hex digits>"       the 32-byte seed, and the tag of 16 bytes
    }

Rules kept here:
- everything but the ciphertext is authenticated: the associated data is the codec's encoding of all header
  fields in the order above, so no field can be changed or swapped between files without the passphrase;
- the passphrase is taken in NFKD, as UTF-8; an empty one is refused;
- a file appears whole or not at all: written beside its place under another name, synced, linked to its name,
  the directory synced; no existing file is ever replaced, and no symbolic link at its name is followed;
- a file that group or others may read is refused, and so is one whose parameters would use more than 1 GiB
  or 20 passes: they come before the tag can be checked, so they are an attacker's to choose;
- after decryption, the public key and address must be the seed's own.

The default parameters are the second recommendation of RFC 9106, section 4 (64 MiB, 3 passes, 4 lanes).

Public development keys (`dev_key`) are the exception to all of it: derived from a name, known to everybody,
worth nothing. No file holds them.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NamedTuple

from ledger import codec
from ledger.address import address_of, from_text, to_text
from ledger.errors import Fault, Invalid, NotFound, Refused, TrothError, define
from ledger.keys import PUBLIC_KEY_BYTES, PrivateKey, check_public_key

FORMAT: Final = "troth key"
VERSION: Final = 1
SUFFIX: Final = ".json"

BAD_LABEL = define(
    "E-KEYSTORE-001", "not a key label", "use 1 to 40 of a-z 0-9 . _ -, beginning with a letter or digit"
)
EXISTS = define("E-KEYSTORE-002", "the key file exists", "choose another label: no key file is replaced")
NO_KEY = define("E-KEYSTORE-003", "no such key", "see `troth keys list`")
OPEN_MODE = define("E-KEYSTORE-004", "others may read the key", "run: chmod 600 on the file, 700 on the folder")
BAD_FILE = define("E-KEYSTORE-005", "not a key file", "restore it from a backup, or from the wallet's words")
BAD_KDF = define(
    "E-KEYSTORE-006",
    "unacceptable Argon2id parameters",
    "use 1 to 20 passes, 8 KiB per lane to 1 GiB of memory, 1 to 16 lanes",
)
WRONG_PASSPHRASE = define(
    "E-KEYSTORE-007", "the key does not open", "check the passphrase, else restore the file from a backup"
)
BAD_PASSPHRASE = define("E-KEYSTORE-008", "not a usable passphrase", "give one that is not empty")
IO_FAILED = define("E-KEYSTORE-009", "a key file could not be read or written", "check the disk and the folder")

FILE_BYTES_MAX: Final = 16 << 10
KEY_BYTES: Final = 32
SALT_BYTES: Final = 16
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
TIME_COST_MAX: Final = 20
MEMORY_KIB_MAX: Final = 1 << 20
PARALLELISM_MAX: Final = 16

_LABEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_ARGON2_VERSION = 0x13
_PERMISSIONS_OF_OTHERS = 0o077


@dataclass(frozen=True, slots=True)
class Kdf:
    """Parameters of Argon2id: passes, memory in KiB, lanes. Raises Invalid (E-KEYSTORE-006) out of bounds."""

    time_cost: int = 3
    memory_kib: int = 64 << 10
    parallelism: int = 4

    def __post_init__(self) -> None:
        bounds = (
            ("time_cost", self.time_cost, 1, TIME_COST_MAX),
            ("parallelism", self.parallelism, 1, PARALLELISM_MAX),
            ("memory_kib", self.memory_kib, 8, MEMORY_KIB_MAX),
        )
        for name, value, least, most in bounds:
            if type(value) is not int or not least <= value <= most:
                raise Invalid(BAD_KDF, f"{name} must be a number from {least} to {most}")
        if self.memory_kib < 8 * self.parallelism:
            raise Invalid(BAD_KDF, f"{self.parallelism} lanes need at least {8 * self.parallelism} KiB of memory")


DEFAULT_KDF: Final = Kdf()


class KeyInfo(NamedTuple):
    """What a key file says of itself without its passphrase. Proven only when `load` opens the file."""

    label: str
    address: str
    public_key: str
    path: Path


class _Header(NamedTuple):
    """The authenticated fields, in the order in which they are encoded."""

    format: str
    version: int
    label: str
    address: str
    public_key: str
    created_by: str
    kdf_name: str
    time_cost: int
    memory_kib: int
    parallelism: int
    salt: str
    cipher_name: str
    nonce: str

    def associated_data(self) -> bytes:
        return codec.encode(self)


def save(directory: Path, label: str, private_key: PrivateKey, passphrase: str, *, kdf: Kdf = DEFAULT_KDF) -> Path:
    """Writes a new key file and returns its path; makes the directory, and those above it, where they are
    missing.

    Raises Invalid: E-KEYSTORE-001 for the label, E-KEYSTORE-008 for the passphrase. Raises Refused:
    E-KEYSTORE-002 where the file exists, E-KEYSTORE-004 where others may enter the directory. Raises Fault
    (E-KEYSTORE-009).
    """
    header = _Header(
        format=FORMAT,
        version=VERSION,
        label=check_label(label),
        address=to_text(address_of(private_key.public)),
        public_key=private_key.public.hex(),
        created_by=_created_by(),
        kdf_name="argon2id",
        time_cost=kdf.time_cost,
        memory_kib=kdf.memory_kib,
        parallelism=kdf.parallelism,
        salt=secrets.token_bytes(SALT_BYTES).hex(),
        cipher_name="aes-256-gcm",
        nonce=secrets.token_bytes(NONCE_BYTES).hex(),
    )
    path = directory / (label + SUFFIX)
    with _directory(directory) as folder:
        if _exists(path.name, folder):  # said again by the link itself; here it saves the work of the KDF
            raise Refused(EXISTS, f"{path} exists")
        ciphertext = _encrypt(header, private_key.seed(), passphrase)
        _write_new(path, _to_json(header, ciphertext), folder)
    return path


def load(path: Path, passphrase: str) -> PrivateKey:
    """The key in a file. The passphrase must open it, and the key must be the one the header names.

    Raises NotFound (E-KEYSTORE-003), Refused (E-KEYSTORE-004 where others may read it), Invalid:
    E-KEYSTORE-005 for a file that is no key file of version 1, E-KEYSTORE-006 for its parameters,
    E-KEYSTORE-007 for a wrong passphrase or a changed file, E-KEYSTORE-008; and Fault (E-KEYSTORE-009).
    """
    header, ciphertext = _read(path)
    seed = _decrypt(path, header, ciphertext, passphrase)
    private_key = PrivateKey(seed)
    if private_key.public.hex() != header.public_key:
        raise Invalid(BAD_FILE, f"{path} holds the key of another public key than it says")
    return private_key


def list_keys(directory: Path) -> list[KeyInfo]:
    """The keys in a directory, by label; none where it does not exist. Needs no passphrase, so proves
    nothing.

    A file that is no key file is an error with its name (as in `load`), never left out in silence.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(directory) if _is_key_name(entry.name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _io_fault(directory, error) from error
    return [_info(directory / name) for name in names]


def find(directory: Path, label_or_address: str) -> KeyInfo:
    """The key of that label or address text. No label can be an address: addresses are longer.

    Where several files hold the key of one address, the first by label. Raises NotFound (E-KEYSTORE-003),
    and for the files as `list_keys` does; Invalid (E-KEYSTORE-001) where it is neither a label nor an
    address.
    """
    if _LABEL.fullmatch(label_or_address):
        return _info(directory / (label_or_address + SUFFIX))
    try:
        wanted = to_text(from_text(label_or_address))
    except TrothError as error:
        raise Invalid(BAD_LABEL, f"neither a label nor an address: {error.cause}") from None
    for info in list_keys(directory):
        if info.address == wanted:
            return info
    raise NotFound(NO_KEY, f"no key of {wanted} in {directory}")


def check_label(label: str) -> str:
    """The label itself. Raises Invalid (E-KEYSTORE-001) unless it is one."""
    if type(label) is not str or not _LABEL.fullmatch(label):
        raise Invalid(BAD_LABEL, f"{label!r:.60} is not a key label")
    return label


def dev_key(name: str) -> PrivateKey:
    """A public development key, the same on every machine and in every version. NEVER for anything of value.

    Its seed is SHA-256("troth public development key/" + name), which anybody can compute: for `troth dev`,
    demos and tests. Names follow the rule of labels. Raises Invalid (E-KEYSTORE-001).
    """
    return PrivateKey(sha256(b"troth public development key/" + check_label(name).encode("ascii")).digest())


# Encryption


def _derive(header: _Header, passphrase: str) -> bytes:
    from argon2.exceptions import HashingError
    from argon2.low_level import Type, hash_secret_raw

    if not passphrase:
        raise Invalid(BAD_PASSPHRASE, "the passphrase is empty")
    try:
        secret = unicodedata.normalize("NFKD", passphrase).encode("utf-8")
    except UnicodeEncodeError:
        raise Invalid(BAD_PASSPHRASE, "the passphrase is not valid Unicode", fix="type it in UTF-8") from None
    try:
        return hash_secret_raw(
            secret,
            bytes.fromhex(header.salt),
            time_cost=header.time_cost,
            memory_cost=header.memory_kib,
            parallelism=header.parallelism,
            hash_len=KEY_BYTES,
            type=Type.ID,
            version=_ARGON2_VERSION,
        )
    except HashingError as error:  # it found no memory: every parameter was checked
        cause = f"Argon2id with {header.memory_kib} KiB failed: {error}"
        raise Fault(IO_FAILED, cause, fix="free some memory and try again") from error


def _encrypt(header: _Header, seed: bytes, passphrase: str) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key = _derive(header, passphrase)
    return AESGCM(key).encrypt(bytes.fromhex(header.nonce), seed, header.associated_data())


def _decrypt(path: Path, header: _Header, ciphertext: bytes, passphrase: str) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key = _derive(header, passphrase)
    try:
        return AESGCM(key).decrypt(bytes.fromhex(header.nonce), ciphertext, header.associated_data())
    except InvalidTag:
        raise Invalid(WRONG_PASSPHRASE, f"wrong passphrase for {path}, or the file was changed") from None


# The file's text


def _to_json(header: _Header, ciphertext: bytes) -> bytes:
    document = {
        "format": header.format,
        "version": header.version,
        "label": header.label,
        "address": header.address,
        "public_key": header.public_key,
        "created_by": header.created_by,
        "kdf": {
            "name": header.kdf_name,
            "time_cost": header.time_cost,
            "memory_kib": header.memory_kib,
            "parallelism": header.parallelism,
            "salt": header.salt,
        },
        "cipher": {"name": header.cipher_name, "nonce": header.nonce},
        "ciphertext": ciphertext.hex(),
    }
    return json.dumps(document, indent=2).encode("ascii") + b"\n"


def _parse(path: Path, data: bytes) -> tuple[_Header, bytes]:
    fields = _Fields(path, _json(path, data), "")
    if fields.take("format", str) != FORMAT:
        raise Invalid(BAD_FILE, f"{path} is not a Troth key file: its format is not {FORMAT!r}")
    version = fields.take("version", int)
    if version != VERSION:
        raise Invalid(
            BAD_FILE,
            f"{path} is a key file of version {version}, this program knows {VERSION}",
            fix="upgrade troth",
        )
    label, address, created_by = (fields.take(name, str) for name in ("label", "address", "created_by"))
    public_key = fields.hex("public_key", PUBLIC_KEY_BYTES)
    kdf, cipher = fields.object("kdf"), fields.object("cipher")
    names = kdf.take("name", str), cipher.take("name", str)
    if names != ("argon2id", "aes-256-gcm"):
        raise Invalid(BAD_FILE, f"{path} uses other algorithms than argon2id and aes-256-gcm")
    parameters = Kdf(*(kdf.take(name, int) for name in ("time_cost", "memory_kib", "parallelism")))
    header = _Header(
        format=FORMAT,
        version=version,
        label=label,
        address=address,
        public_key=public_key,
        created_by=created_by,
        kdf_name=names[0],
        time_cost=parameters.time_cost,
        memory_kib=parameters.memory_kib,
        parallelism=parameters.parallelism,
        salt=kdf.hex("salt", SALT_BYTES),
        cipher_name=names[1],
        nonce=cipher.hex("nonce", NONCE_BYTES),
    )
    ciphertext = bytes.fromhex(fields.hex("ciphertext", KEY_BYTES + TAG_BYTES))
    for part in (fields, kdf, cipher):
        part.end()
    try:
        check_label(label)
        check_public_key(bytes.fromhex(public_key))
        header.associated_data()
    except TrothError as error:
        raise Invalid(BAD_FILE, f"{path}: {error.cause}") from None
    if address != to_text(address_of(bytes.fromhex(public_key))):
        raise Invalid(BAD_FILE, f"{path}: its address is not that of its public key")
    return header, ciphertext


def _json(path: Path, data: bytes) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a field appears twice")
        return found

    try:
        return json.loads(data.decode("ascii"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise Invalid(BAD_FILE, f"{path} is not the JSON of a key file: {error}") from None


class _Fields:
    """The fields of one JSON object, each taken once and with its type; any left over is an error."""

    def __init__(self, path: Path, value: Any, name: str) -> None:
        if type(value) is not dict:
            raise Invalid(BAD_FILE, f"{path}: {name or 'the whole'} is not a JSON object")
        self._path, self._name, self._left = path, name, dict(value)

    def take(self, name: str, kind: type) -> Any:
        value = self._left.pop(name, None)
        if type(value) is not kind:  # exactly: true is an int to isinstance
            raise Invalid(BAD_FILE, f"{self._path}: {self._name}{name} is missing or not of type {kind.__name__}")
        return value

    def hex(self, name: str, size: int) -> str:
        text: str = self.take(name, str)
        if not re.fullmatch(rf"[0-9a-f]{{{2 * size}}}", text):
            raise Invalid(BAD_FILE, f"{self._path}: {self._name}{name} is not {2 * size} hex digits in lower case")
        return text

    def object(self, name: str) -> _Fields:
        return _Fields(self._path, self.take(name, dict), f"{name}.")

    def end(self) -> None:
        if self._left:
            raise Invalid(BAD_FILE, f"{self._path}: unknown field {self._name}{min(self._left)!s:.40}")


@cache
def _created_by() -> str:
    try:
        return f"troth {metadata.version('troth')}"
    except metadata.PackageNotFoundError:  # run from a checkout that was never installed
        return "troth (not installed)"


# The disk


@contextmanager
def _directory(directory: Path) -> Iterator[int]:
    """A descriptor of the directory, made where missing. All steps go through it: it cannot be exchanged."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _io_fault(directory, error) from error
    try:
        mode = stat.S_IMODE(os.fstat(folder).st_mode)
        if mode & _PERMISSIONS_OF_OTHERS:
            cause = f"the folder {directory} has mode {mode:04o}: others may enter it"
            raise Refused(OPEN_MODE, cause, fix=f"run: chmod 700 {directory}")
        yield folder
    finally:
        os.close(folder)


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _write_new(path: Path, data: bytes, folder: int) -> None:
    draft = f".{path.name}.{secrets.token_hex(8)}.draft"
    try:
        descriptor = os.open(
            draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder
        )
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            # A rename would replace whatever is there; a link fails on it, be it a dangling symbolic link.
            os.link(draft, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            os.unlink(draft, dir_fd=folder)
        os.fsync(folder)
    except FileExistsError:
        raise Refused(EXISTS, f"{path} exists") from None
    except OSError as error:
        raise _io_fault(path, error) from error


def _read(path: Path) -> tuple[_Header, bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not hold us up
        try:
            data = _read_private(path, descriptor)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise NotFound(NO_KEY, f"no key file {path}") from None
    except OSError as error:
        raise _io_fault(path, error) from error
    return _parse(path, data)


def _read_private(path: Path, descriptor: int) -> bytes:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise Invalid(BAD_FILE, f"{path} is not a regular file")
    if found.st_mode & _PERMISSIONS_OF_OTHERS:
        cause = f"{path} has mode {stat.S_IMODE(found.st_mode):04o}: others may read it"
        raise Refused(OPEN_MODE, cause, fix=f"run: chmod 600 {path}")
    with open(descriptor, "rb", closefd=False) as file:
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise Invalid(BAD_FILE, f"{path} is larger than {FILE_BYTES_MAX} bytes")
    return data


def _info(path: Path) -> KeyInfo:
    header, _ = _read(path)
    if header.label + SUFFIX != path.name:
        raise Invalid(
            BAD_FILE,
            f"{path} holds the key labelled {header.label}",
            fix=f"rename it to {header.label}{SUFFIX}",
        )
    return KeyInfo(header.label, header.address, header.public_key, path)


def _is_key_name(name: str) -> bool:
    return name.endswith(SUFFIX) and not name.startswith(".")


def _io_fault(path: Path, error: OSError) -> Fault:
    return Fault(IO_FAILED, f"{path}: {error.strerror or error}")
