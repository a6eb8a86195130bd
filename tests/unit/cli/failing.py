"""Commands that end in every way that a command can."""

from __future__ import annotations

import click

from cli.session import Session, pass_session
from ledger.address import BAD_ADDRESS
from ledger.errors import Fault, Forbidden, Invalid, NotFound, Refused, Unavailable, VerifyFailed

CLASSES = {cls.__name__: cls for cls in (Fault, Forbidden, Invalid, NotFound, Refused, Unavailable, VerifyFailed)}


@click.command()
@click.argument("how")
@pass_session
def end(session: Session, how: str) -> None:
    """End as told."""
    if how in CLASSES:
        raise CLASSES[how](BAD_ADDRESS, "the cause", fix="the fix")
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "defect":
        raise ZeroDivisionError("a defect")
    if how == "system":
        raise PermissionError(13, "Permission denied", "/some/file")
    if how == "code":
        click.get_current_context().exit(3)
    data = {"home": str(session.home), "instance": session.instance, "verbose": session.verbose, "yes": session.yes}
    session.result("end", {**data, "quiet": session.quiet, "settings": session.settings}, "It ended.", next="nothing")
