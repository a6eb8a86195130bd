"""`troth doctor`: is this machine and home fit to run a node, and what to do where it is not."""

from __future__ import annotations

import click

from cli.session import Session, pass_session

EXIT_FAILED = 1
_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@pass_session
@click.pass_context
def doctor(ctx: click.Context, session: Session) -> None:
    """Check this machine and home, with a fix for each fault.

    Looks at Python and its libraries, settings, file modes, disk, genesis, keys, open files, database, port and
    clock. Exit code 1 where anything fails; a warning is no failure. Changes nothing, except that a database which
    was not closed is recovered as the node would do it.
    """
    from cli.checkup import FAIL, WARN, examine
    from node.home import Home

    findings = list(examine(session))
    failed = sum(1 for finding in findings if finding.status == FAIL)
    warned = sum(1 for finding in findings if finding.status == WARN)

    def text() -> str:
        lines = []
        for finding in findings:
            status = click.style(f"{finding.status:<4}", fg=_COLOURS[finding.status])
            lines.append(f"{status}  {finding.name:<13}  {finding.found}")
            if finding.fix:
                lines.append(f"{'':<21}fix: {finding.fix}")
        return "\n".join(lines)

    data = {"ok": failed == 0, "checks": [finding._asdict() for finding in findings]}
    if failed:
        next_step = f"mend what failed ({failed}), then: {session.command('doctor')}"
    else:
        next_step = session.command("node start" if Home(session.home).running_pid() is None else "node status")
    session.result("doctor", data, text, next=next_step)
    if not session.json:
        session.note(f"{failed} failed, {warned} warned, {len(findings) - failed - warned} ok.")
    if failed:
        ctx.exit(EXIT_FAILED)
