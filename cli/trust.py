"""The genesis document that a person trusts: a file of this machine, never what a node says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from cli.session import Session
from ledger.errors import Fault, NotFound, define
from ledger.genesis import Genesis, parse_genesis

F = TypeVar("F", bound=Callable[..., Any])

NO_GENESIS = define(
    "E-VERIFY-003", "no genesis file to check against", "name it with --genesis FILE; get it from the consortium"
)

GENESIS_BYTES_MAX = 16 << 20


def read_genesis(path: Path) -> Genesis:
    """The genesis of a file. Raises NotFound and Fault (E-VERIFY-003), Invalid (E-GENESIS-001)."""
    try:
        with path.open("rb") as file:
            data = file.read(GENESIS_BYTES_MAX + 1)
        return parse_genesis(data.decode("utf-8-sig"))
    except FileNotFoundError:
        raise NotFound(NO_GENESIS, f"{path} is missing") from None
    except UnicodeDecodeError:
        raise Fault(NO_GENESIS, f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise Fault(NO_GENESIS, f"{path}: {error.strerror}") from None


def trusted_genesis(session: Session, given: Path | None) -> tuple[Genesis, Path]:
    """The genesis to check against and its file: the one named, that of the home, or of this machine's `troth dev`.

    Raises NotFound (E-VERIFY-003) where there is none, and what `read_genesis` raises.
    """
    from node.home import Home, default_dev_home

    if given is not None:
        return read_genesis(given), given
    places = [Home(session.home).genesis_file]
    if not session.home_given:
        places.append(Home(default_dev_home(session.instance)).genesis_file)
    for path in places:
        if path.exists():
            return read_genesis(path), path
    raise NotFound(NO_GENESIS, f"{places[0]} is missing")


def verify_options(function: F) -> F:
    """`--verify` and `--genesis FILE` as the arguments `verify: bool` and `genesis: Path | None`."""
    with_genesis = click.option(
        "--genesis",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The genesis document that is trusted. Default: that of the home.",
    )(function)
    return click.option(
        "--verify", is_flag=True, help="Check the proof and the validators' seals against the genesis document here."
    )(with_genesis)
