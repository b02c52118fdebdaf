"""The command line: parse → load → study.run → render → exit code. No logic of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

import click

from probe import __version__
from probe.console import Console
from probe.core.errors import EXIT_INTERRUPTED, ProbeError

COMMANDS = (
    "filters",
    "adversarial",
    "ablate",
    "anatomy",
    "doctor",
    "train",
    "models",
    "attacks",
    "structures",
)
"""The commands in the order of the help, each a module in ``probe.commands``."""

_EXAMPLES = """\b
Examples:
  probe filters                                  the embedded ImageNet network, no network needed
  probe filters --model resnet18
  probe filters -m my_net.py:net --weights my.pth -d my_folder --mean 0.5 --std 0.25
  probe adversarial --eps 0.03                   attack it, and know whether to believe the answer
  probe adversarial -m zoo:resnet20 -d digits --attack standard --norm L2 --eps 0.1
  probe ablate --remove shortcut                 take structure away, and measure what it was worth
  probe models resnet                            what can be loaded
  probe attacks L1                               what can be attacked with
"""


class _Commands(click.Group):
    """A group that imports a command when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, or None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"probe.commands.{cmd_name}").command
        return command


@click.group(
    cls=_Commands,
    epilog=_EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="probe")
def cli() -> None:
    """Ask of a convolutional network: what did it learn, how fragile is it, which parts do the work?"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and end it with the documented exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(words))


def run(words: list[str]) -> int:
    """Run one command and return its exit code; every error is one line on stderr."""
    console = Console()
    try:
        code = cli.main(words, prog_name="probe", standalone_mode=False)
    except click.ClickException as error:
        console.error(error.format_message())
        return error.exit_code
    except ProbeError as error:
        if "--debug" in words:
            raise
        console.error(str(error))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        console.error("interrupted; nothing was written.")
        return EXIT_INTERRUPTED
    except Exception as error:
        if "--debug" in words:
            raise
        console.error(f"{type(error).__name__}: {error} (a defect of probe; --debug shows where)")
        return ProbeError.exit_code
    return int(code or 0)
