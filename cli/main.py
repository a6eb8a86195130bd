"""The `troth` command: its sub-commands, and how every failure is shown.

Rules kept here:
- a command's module is imported when it is run or its own help is asked for; `troth --help` imports click only;
- a failure is one line on stderr, `CODE cause; fix`, and never a traceback unless `-v` asks for one. With `--json` it
  is one JSON object on stderr (stdout carries data only): {"schema": "troth/error/1", "code", "title", "cause", "fix"};
- exit codes: 0 ok, 1 failure, 2 usage, 3 verification failed or diverged, 4 refused (permission), 5 not found,
  6 unreachable or timed out, 130 interrupted.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import click

from cli.groups import TrothGroup, prepare
from cli.options import apply_given
from cli.session import Session
from ledger.errors import CODES, Fault, TrothError, define

USAGE = define("E-CLI-004", "the command line is wrong", "see --help")
UNEXPECTED = define(
    "E-CLI-005", "an unexpected failure: a defect of troth", "run it again with -v and report what it prints"
)
SYSTEM_REFUSED = define("E-CLI-006", "the operating system refused", "check the path, its permissions and the disk")
INTERRUPTED = define("E-CLI-007", "interrupted", "run it again when ready")

EXIT_OK, EXIT_FAILURE, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


class Entry(NamedTuple):
    """Where a command is, and its line in `troth --help`."""

    module: str
    attribute: str
    help: str


COMMANDS: dict[str, Entry] = {
    "dev": Entry("cli.commands.dev", "dev", "A running chain with funded example accounts, for development."),
    "demo": Entry("cli.commands.demo", "demo", "A scenario on real input, from start to audit."),
    "init": Entry("cli.commands.init", "init", "Create a home: keys, settings and a genesis document."),
    "genesis": Entry("cli.commands.genesis", "genesis", "Found a network: members' files, the genesis document."),
    "join": Entry("cli.commands.join", "join", "Take the network's genesis document into this home."),
    "node": Entry("cli.commands.node", "node", "Start a node, or ask how it does."),
    "signer": Entry("cli.commands.signer", "signer", "Hold a validator's key in a process of its own."),
    "keys": Entry("cli.commands.keys", "keys", "Make, import, export and list keys."),
    "points": Entry("cli.commands.points", "points", "Programmes of points: create, mint, transfer, redeem."),
    "certificate": Entry("cli.commands.certificate", "certificate", "Certificates of products."),
    "consent": Entry("cli.commands.consent", "consent", "Consent to the use of personal data."),
    "tx": Entry("cli.commands.tx", "tx", "Show, explain, sign and send transactions."),
    "query": Entry("cli.commands.query", "query", "Ask for state, and check the proof of the answer."),
    "audit": Entry("cli.commands.audit", "audit", "Re-execute and check a chain."),
    "bench": Entry("cli.commands.bench", "bench", "Measure throughput, latency and limits of this machine."),
    "doctor": Entry("cli.commands.doctor", "doctor", "Check this machine and home, with a fix for each fault."),
    "config": Entry("cli.commands.config", "config", "Show and check the settings."),
    "completion": Entry("cli.commands.completion", "completion", "Completion for a shell."),
}


class Root(TrothGroup):
    """The command itself. Its sub-commands are named by `entries` and imported when needed."""

    def __init__(self, *, entries: Mapping[str, Entry], **attributes: Any) -> None:
        super().__init__(**attributes)
        self.entries = entries
        prepare(self, show=True)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, entry in self.entries.items() if importlib.util.find_spec(entry.module) is not None]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.entries.get(cmd_name)
        if entry is None or importlib.util.find_spec(entry.module) is None:
            return None
        command: click.Command = getattr(importlib.import_module(entry.module), entry.attribute)
        return prepare(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        lines = [(name, self.entries[name].help) for name in self.list_commands(ctx)]
        if lines:
            with formatter.section("Commands"):
                formatter.write_dl(lines)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs the command and exits with its code, having shown what went wrong."""
        arguments = list(sys.argv[1:] if args is None else args)
        code = self._run(arguments, prog_name, complete_var, extra)
        if standalone_mode:
            sys.exit(code)
        return code

    def _run(self, arguments: list[str], prog_name: str | None, complete_var: str | None, extra: dict[str, Any]) -> int:
        asked = _Asked(arguments)
        try:
            code = super().main(list(arguments), prog_name, complete_var, standalone_mode=False, **extra)
            return code if isinstance(code, int) else EXIT_OK
        except TrothError as error:
            return _fail(asked, error.code, error.title, error.cause, error.fix, error.exit_code)
        except click.UsageError as error:
            return _usage(asked, error)
        except click.ClickException as error:
            registered = CODES[SYSTEM_REFUSED]
            return _fail(asked, registered.code, registered.title, error.format_message(), registered.fix, 1)
        except (click.Abort, KeyboardInterrupt):
            registered = CODES[INTERRUPTED]
            return _fail(asked, registered.code, registered.title, "interrupted", registered.fix, EXIT_INTERRUPTED)
        except OSError as error:
            if asked.verbose:
                _traceback()
            registered = CODES[SYSTEM_REFUSED]
            where = f"{error.filename}: " if error.filename else ""
            cause = f"{where}{error.strerror or error}"
            return _fail(asked, registered.code, registered.title, cause, registered.fix, Fault.exit_code)
        except Exception as error:  # noqa: BLE001  the last place: a defect must not print a traceback at a person
            if asked.verbose:
                _traceback()
            registered = CODES[UNEXPECTED]
            cause = f"unexpected {type(error).__name__}: {error}"
            return _fail(asked, registered.code, registered.title, cause, registered.fix, EXIT_FAILURE)


class _Asked:
    """How failures are to be shown. Read from the arguments themselves: they may fail before they are parsed."""

    def __init__(self, arguments: list[str]) -> None:
        options = arguments[: arguments.index("--")] if "--" in arguments else arguments
        self.json = "--json" in options
        self.verbose = any(option == "--verbose" or re.fullmatch("-[a-z]*v[a-z]*", option) for option in options)
        self.no_color = "--no-color" in options or bool(os.environ.get("NO_COLOR"))


def _usage(asked: _Asked, error: click.UsageError) -> int:
    registered = CODES[USAGE]
    path = error.ctx.command_path if error.ctx is not None else "troth"
    cause = error.format_message().rstrip(".")
    return _fail(asked, registered.code, registered.title, cause, f"see `{path} --help`", EXIT_USAGE)


def _fail(asked: _Asked, code: str, title: str, cause: str, fix: str, exit_code: int) -> int:
    if asked.json:
        import json

        document = {"schema": "troth/error/1", "code": code, "title": title, "cause": cause, "fix": fix}
        click.echo(json.dumps(document, ensure_ascii=False), err=True)
    else:
        marked = click.style(code, fg="red", bold=True)
        click.echo(f"{marked} {cause}; {fix}", err=True, color=False if asked.no_color else None)
    return exit_code


def _traceback() -> None:
    import traceback

    click.echo(traceback.format_exc(), err=True)


def _version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib import metadata

        try:
            version = metadata.version("troth")
        except metadata.PackageNotFoundError:  # run from a checkout that was never installed
            version = "(not installed)"
        click.echo(f"troth {version}")
        ctx.exit()


@click.group(
    cls=Root, entries=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120}
)
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version.")
@click.pass_context
def troth(ctx: click.Context) -> None:
    """Troth: a consortium ledger for loyalty points, certificates and consent."""
    from node.home import default_home, home_of_environment

    environment = os.environ.get("TROTH_INSTANCE", "")
    if environment and not (environment.isdecimal() and int(environment) <= 99):
        raise click.UsageError(f"TROTH_INSTANCE={environment!r} is not a number from 0 to 99", ctx)
    instance = int(environment or 0)
    named = home_of_environment()
    session = Session(named or default_home(instance), instance, home_given=named is not None)
    apply_given(session, ctx.meta.get("troth.given", {}))
    ctx.obj = session


def main() -> NoReturn:
    """The entry point `troth`."""
    troth.main(prog_name="troth")
    raise AssertionError("unreachable: the command exits")


if __name__ == "__main__":  # as a script, this module would exist twice, and register its codes twice
    sys.exit("run: python -m cli")
