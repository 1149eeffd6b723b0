"""`gnomon completion SHELL`: the script that makes the shell complete our commands, flags and job ids."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    \b
    bash:  eval "$(gnomon completion bash)"    in ~/.bashrc
    zsh:   eval "$(gnomon completion zsh)"     in ~/.zshrc
    fish:  gnomon completion fish > ~/.config/fish/completions/gnomon.fish
    """
    from gnomon.cli import cli

    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"click has no completion for {shell}")
    click.echo(made(cli, {}, "gnomon", "_GNOMON_COMPLETE").source())
