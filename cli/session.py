"""What every command gets: where its home is, its configuration, and the one way to speak.

Rules kept here:
- data goes to stdout, everything else (notes, warnings, `Next:`, progress, prompts) to stderr;
- with `--json` a success is one JSON object on stdout whose first key is `schema`, "troth/<kind>/<version>";
- nothing is asked where standard input is no terminal: what would be asked is an error that names the option instead;
- a passphrase comes from a hidden prompt or a file, never from an argument or the environment, which others can read;
- progress bars and colours appear on a terminal only, and colours never with NO_COLOR or `--no-color`.

Source: the conventions of https://clig.dev and https://no-color.org.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from ledger.errors import Fault, Invalid, define

if TYPE_CHECKING:
    from node.config import Config
    from node.home import Home

NO_TERMINAL = define("E-CLI-001", "no terminal to ask on", "give the answer as an option")
NOT_CONFIRMED = define("E-CLI-002", "not confirmed", "nothing was changed; run it again and answer yes, or give --yes")
BAD_PASSPHRASE_FILE = define(
    "E-CLI-003", "not a usable passphrase file", "give a file whose first line is the passphrase"
)

SCHEMA_VERSION = 1
PASSPHRASE_BYTES_MAX = 4096


class Progress(Protocol):
    """Work under way: `advance` by finished steps, `describe` what is done now."""

    def advance(self, n: int = 1) -> None:
        """Adds `n` finished steps."""

    def describe(self, text: str) -> None:
        """Replaces the description."""


@dataclass
class Session:
    """One run of `troth`: the options that every command takes, and what follows from them."""

    home: Path
    instance: int = 0
    json: bool = False
    quiet: bool = False
    verbose: int = 0
    yes: bool = False
    no_color: bool = False
    home_given: bool = False
    """Whether `home` was named by `--home` or TROTH_HOME, and is not the default."""
    settings: dict[str, str] = field(default_factory=dict)
    """Settings given by `--set KEY=VALUE`: they come before the environment and the file."""

    @cached_property
    def config(self) -> Config:
        """The configuration of the home: flags, environment, HOME/config.toml, defaults. Needs no home to exist.

        Raises Invalid (E-CONFIG-...).
        """
        from node.config import load_config

        return load_config(self.home, settings=self.settings, instance=self.instance)

    def use_home(self, path: Path) -> None:
        """Makes `path` the home, for a command whose home is another than the default."""
        self.home = path
        self.__dict__.pop("config", None)

    def open_home(self) -> Home:
        """The home, which must exist. Raises NotFound (E-HOME-001)."""
        from node.home import Home

        return Home.open(self.home)

    def command(self, arguments: str) -> str:
        """What to type for another command on this home: for `next` and for fixes."""
        words = ["troth"]
        if self.home_given and os.environ.get("TROTH_HOME") != str(self.home):
            words.append(f"--home {shlex.quote(str(self.home))}")
        if self.instance and os.environ.get("TROTH_INSTANCE") != str(self.instance):
            words.append(f"--instance {self.instance}")
        return " ".join([*words, arguments])

    def result(
        self, kind: str, data: dict[str, Any], text: str | Callable[[], str], *, next: str | None = None
    ) -> None:
        """Says how it ended: `data` as one JSON object under `--json`, else `text` and the step that comes `next`."""
        if self.json:
            import json

            document = {"schema": f"troth/{kind}/{SCHEMA_VERSION}", **data}
            click.echo(json.dumps(document, ensure_ascii=False))
            return
        shown = text() if callable(text) else text
        if shown:
            click.echo(shown, color=self._color())
        if next is not None:
            self.note(f"Next: {next}")

    def note(self, message: str) -> None:
        """A message for the person at the terminal; not with `-q`."""
        if not self.quiet:
            click.echo(message, err=True, color=self._color())

    def warn(self, message: str) -> None:
        """A message that is shown with `-q` too."""
        marked = click.style("Warning:", fg="yellow", bold=True)
        click.echo(f"{marked} {message}", err=True, color=self._color())

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
        """Aligned columns, two spaces apart; whole numbers to the right, headers bold on a terminal."""
        from rich.cells import cell_len

        cells = [[str(value) for value in row] for row in rows]
        count = len(headers)
        right = [
            bool(rows) and all(isinstance(row[i], int) and not isinstance(row[i], bool) for row in rows)
            for i in range(count)
        ]
        widths = [max(cell_len(line[i]) for line in [list(headers), *cells]) for i in range(count)]

        def line(values: Sequence[str]) -> str:
            padded = []
            for value, width, to_right in zip(values, widths, right, strict=True):
                space = " " * (width - cell_len(value))
                padded.append(space + value if to_right else value + space)
            return "  ".join(padded).rstrip()

        return "\n".join([click.style(line(headers), bold=True), *(line(row) for row in cells)])

    @contextmanager
    def progress(self, description: str, total: int | None) -> Iterator[Progress]:
        """A progress bar on stderr where that is a terminal, and nothing otherwise. Without `total`, a spinner."""
        if self.quiet or not sys.stderr.isatty():
            yield _Silent()
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bar

        columns = (
            (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            if total is None
            else (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        )
        console = Console(stderr=True, no_color=self._color() is False or None)
        with Bar(*columns, console=console, transient=True) as bar:
            task = bar.add_task(description, total=total)

            class Shown:
                def advance(self, n: int = 1) -> None:
                    bar.advance(task, n)

                def describe(self, text: str) -> None:
                    bar.update(task, description=text)

            yield Shown()

    def confirm(self, question: str) -> None:
        """Returns where the answer is yes. `--yes` is one.

        Raises Invalid: E-CLI-001 where there is no terminal to ask on, E-CLI-002 where the answer is no.
        """
        if self.yes:
            return
        if not sys.stdin.isatty():
            raise Invalid(NO_TERMINAL, f"cannot ask: {question}", fix="give --yes")
        if not click.confirm(question, err=True):
            raise Invalid(NOT_CONFIRMED, "the answer was no")

    def passphrase(self, option_file: Path | None, *, confirm: bool = False, prompt: str = "Passphrase") -> str:
        """The passphrase: the first line of `--passphrase-file`, else asked for and not shown (twice to `confirm`).

        Raises Invalid: E-CLI-001 where there is neither a file nor a terminal, E-CLI-003 for the file.
        """
        if option_file is not None:
            return _first_line(option_file)
        if not sys.stdin.isatty():
            raise Invalid(NO_TERMINAL, "cannot ask for the passphrase", fix="give --passphrase-file FILE")
        answer: str = click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
        return answer

    def _color(self) -> bool | None:
        """What `click.echo` wants: False to strip colours, None to decide by the terminal."""
        return False if self.no_color or os.environ.get("NO_COLOR") else None


class _Silent:
    def advance(self, n: int = 1) -> None:
        pass

    def describe(self, text: str) -> None:
        pass


def _first_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(PASSPHRASE_BYTES_MAX + 1)
    except OSError as error:
        raise Fault(BAD_PASSPHRASE_FILE, f"{path}: {error.strerror}") from None
    if len(raw) > PASSPHRASE_BYTES_MAX:
        raise Invalid(BAD_PASSPHRASE_FILE, f"{path} is longer than {PASSPHRASE_BYTES_MAX} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Invalid(BAD_PASSPHRASE_FILE, f"{path} is not UTF-8") from None
    lines = text.splitlines()
    if not lines or not lines[0]:
        raise Invalid(BAD_PASSPHRASE_FILE, f"the first line of {path} is empty")
    return lines[0]


pass_session = click.make_pass_decorator(Session)
