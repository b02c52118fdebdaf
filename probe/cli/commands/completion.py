"""``probe completion``: the script for shell completion."""

from __future__ import annotations

import click

from probe.cli.completion import SHELLS, script
from probe.cli.console import line

_EXAMPLES = """\b
Examples:
  probe completion bash >> ~/.bashrc
  probe completion zsh > ~/.zfunc/_probe                 with fpath+=~/.zfunc before compinit in ~/.zshrc
  probe completion fish > ~/.config/fish/completions/probe.fish
  source <(probe completion bash)                        for this shell only
"""


@click.command(
    "completion", short_help="Print the script for completion in bash, zsh or fish.", epilog=_EXAMPLES
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def command(ctx: click.Context, /, shell: str, debug: bool) -> None:
    """Print the script that completes commands, options, models, data, attacks and structures.

    Nothing is installed: save the output where your shell reads it on startup.
    """
    line(script(ctx.find_root().command, shell))
