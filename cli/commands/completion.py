"""`troth completion`: the script that lets a shell complete commands and options."""

from __future__ import annotations

import click

from cli.session import Session, pass_session

WHERE = {
    "bash": 'eval "$(troth completion bash)"    in ~/.bashrc',
    "zsh": 'eval "$(troth completion zsh)"    in ~/.zshrc',
    "fish": "troth completion fish > ~/.config/fish/completions/troth.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(tuple(WHERE)))
@pass_session
def completion(session: Session, shell: str) -> None:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    maker = get_completion_class(shell)
    if maker is None:
        raise click.UsageError(f"no completion for {shell}")
    # Not `source()`: it asks the installed bash for its version, which whoever prints the script need not have.
    made = maker(click.get_current_context().find_root().command, {}, "troth", "_TROTH_COMPLETE")
    script = made.source_template % made.source_vars()
    session.result("completion", {"shell": shell, "script": script}, script, next=WHERE[shell])
