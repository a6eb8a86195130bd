from __future__ import annotations

import pickle

import pytest

from ledger import errors
from ledger.errors import (
    CODES,
    Fault,
    Forbidden,
    Invalid,
    NotFound,
    Refused,
    TrothError,
    Unavailable,
    VerifyFailed,
    define,
)


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(errors, "CODES", dict(CODES))
    return define("E-TEST-001", "a thing is wrong", "put it right")


def test_says_code_cause_and_fix(code: str) -> None:
    error = Invalid(code, "the thing is 3")
    assert (error.code, error.title, error.cause, error.fix) == (
        "E-TEST-001",
        "a thing is wrong",
        "the thing is 3",
        "put it right",
    )
    assert str(error) == "E-TEST-001 the thing is 3; put it right"


def test_the_raiser_may_know_a_better_fix(code: str) -> None:
    assert Invalid(code, "the thing is 3", fix="make it 2").fix == "make it 2"
    assert Invalid(code, "the thing is 3", fix="").fix == ""


def test_a_code_has_one_meaning(code: str) -> None:
    with pytest.raises(ValueError, match="E-TEST-001 is already taken by: a thing is wrong"):
        define(code, "another thing", "another fix")


def test_a_code_must_be_registered() -> None:
    with pytest.raises(KeyError):
        Invalid("E-NOWHERE-999", "cause")


@pytest.mark.parametrize(
    ("kind", "exit_code", "http_status"),
    [
        (Invalid, 1, 400),
        (Refused, 1, 409),
        (Forbidden, 4, 403),
        (NotFound, 5, 404),
        (VerifyFailed, 3, 422),
        (Unavailable, 6, 503),
        (Fault, 1, 500),
    ],
)
def test_class_decides_exit_code_and_status(kind: type[TrothError], exit_code: int, http_status: int) -> None:
    assert issubclass(kind, TrothError)
    assert (kind.exit_code, kind.http_status) == (exit_code, http_status)
    assert errors.__doc__
    assert f"{kind.__name__} " in errors.__doc__


def test_survives_a_process_boundary(code: str) -> None:
    error = Forbidden(code, "the thing is 3", fix="make it 2")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is Forbidden
    assert (copy.code, copy.title, copy.cause, copy.fix) == (error.code, error.title, error.cause, error.fix)
    assert str(copy) == str(error)


def test_registered_codes_are_well_formed() -> None:
    import re

    assert CODES
    for name, registered in CODES.items():
        assert registered.code == name
        assert re.fullmatch(r"E-[A-Z0-9]+-\d{3}", name)
        assert registered.title
        assert registered.fix
