"""One small tree of errors, and one register of stable codes.

Each error says what was found (`cause`), where, and what to do about it (`fix`). A code is stable: programs and
people may rely on it, and it is never given a second meaning. Each package registers its own codes in its own
`errors.py`; `docs/errors.md` is generated from the register.

The class of an error decides the exit code of a command and the HTTP status of an answer:

    class           meaning                                       exit  HTTP
    Invalid         the input itself is wrong                     1     400
    Refused         well-formed, but the rules refuse it          1     409
    Forbidden       the signer may not do this                    4     403
    NotFound        nothing of that name                          5     404
    VerifyFailed    a proof, signature, root or rule is broken    3     422
    Unavailable     cannot answer now; try again later            6     503
    Fault           the machine failed us: disk, database, file   1     500
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple


class ErrorCode(NamedTuple):
    """A registered code: its title (one phrase) and the fix that is offered where the raiser knows no better."""

    code: str
    title: str
    fix: str


CODES: dict[str, ErrorCode] = {}


def define(code: str, title: str, fix: str) -> str:
    """Registers a code and returns it. A second registration of one code is a programming error (ValueError)."""
    if code in CODES:
        raise ValueError(f"error code {code} is already taken by: {CODES[code].title}")
    CODES[code] = ErrorCode(code, title, fix)
    return code


class TrothError(Exception):
    """Base of every error that Troth raises on purpose."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, code: str, cause: str, *, fix: str | None = None) -> None:
        registered = CODES[code]
        self.code = code
        self.title = registered.title
        self.cause = cause
        self.fix = registered.fix if fix is None else fix
        super().__init__(f"{code} {cause}; {self.fix}")

    def __reduce__(self) -> tuple[object, ...]:  # errors cross process boundaries
        return (_rebuild, (type(self), self.code, self.cause, self.fix))


def _rebuild(cls: type[TrothError], code: str, cause: str, fix: str) -> TrothError:
    return cls(code, cause, fix=fix)


class Invalid(TrothError):
    """The input itself is wrong: malformed, out of range, of the wrong type."""

    http_status = 400


class Refused(TrothError):
    """The input is well-formed, but the rules or the present state refuse it."""

    http_status = 409


class Forbidden(TrothError):
    """The signer may not do this."""

    exit_code = 4
    http_status = 403


class NotFound(TrothError):
    """Nothing of that name, id or height."""

    exit_code = 5
    http_status = 404


class VerifyFailed(TrothError):
    """A proof, signature, root or rule does not hold."""

    exit_code = 3
    http_status = 422


class Unavailable(TrothError):
    """Cannot answer now: unreachable, overloaded, timed out, not ready."""

    exit_code = 6
    http_status = 503


class Fault(TrothError):
    """The machine failed: disk, database, file."""

    http_status = 500
