"""The command line: parse → load → study.run → render → exit code. No logic of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from probe import __version__
from probe.cli.completion import VARIABLE, with_words
from probe.cli.console import Console
from probe.core.errors import EXIT_INTERRUPTED, ProbeError

COMMANDS = (
    "filters",
    "adversarial",
    "ablate",
    "dossier",
    "compare",
    "anatomy",
    "doctor",
    "train",
    "models",
    "attacks",
    "structures",
    "schema",
    "completion",
)
"""The commands in the order of the help, each a module in ``probe.cli.commands``."""

_PARTS = {
    "Studies": ("filters", "adversarial", "ablate", "dossier", "anatomy", "doctor"),
    "Training": ("train",),
    "Reports": ("compare", "schema"),
    "What there is": ("models", "attacks", "structures"),
}
"""The headings of the help; commands that have none stand under the last."""

_EPILOG = """\b
To begin with, each needing no network connection:
  probe filters                                  what an ImageNet network has learned, on real photographs
  probe adversarial --eps 0.03                   attack it, and know whether to believe the answer
  probe ablate --remove shortcut                 take structure away, and measure what it was worth
  probe dossier                                  these three on one network, and what they say of each other
  probe anatomy --model resnet18                 its layers: sizes, parameters, MACs, receptive fields
  probe doctor                                   what is wrong with a training
  probe train zoo:resnet20 --data digits         train a network and keep its weights

\b
With a network and images of your own:
  probe filters -m my_net.py:net --weights my.pth -d my_folder --mean 0.5 --std 0.25
  probe adversarial -m my_net.py:net --weights my.pth -d my_folder --fail-under robust_accuracy=0.4

\b
To look things up, and for programs:
  probe models resnet                            what can be loaded
  probe attacks L1                               what can be attacked with
  probe structures -m zoo:resnet20               what can be taken away
  probe compare reports/adversarial-*            runs side by side
  probe schema                                   the JSON Schema of results.json
  probe completion bash >> ~/.bashrc             complete commands, options, models, …

Each study ends with the path of a report: one HTML page, with results.json and samples.jsonl beside it.
`probe COMMAND --help` says more.

\b
Exit codes:
  0    done
  1    a gate failed (--fail-under)
  2    the words cannot be understood or do not fit together
  3    it could not be run: one line says what was wrong and the way out (--debug shows the traceback)
  4    done, but some inputs were skipped: each is named (a failed gate goes before)
  130  interrupted
"""


EXIT_BROKEN_PIPE = 141
"""As of a program that is ended by SIGPIPE."""


class _NobodyReadsError(Exception):
    """The output is closed."""


class _Commands(click.Group):
    """A group that imports a command when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, or None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"probe.cli.commands.{cmd_name}").command
        # A shell that asks what may follow is told more than the help needs.
        return with_words(command) if ctx.resilient_parsing else command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; whoever reads the output may have enough of it, as ``head`` does."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # Click would end with 1, which is a failed gate here.
            raise _NobodyReadsError from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under their headings."""
        headed = {name for names in _PARTS.values() for name in names}
        rest = tuple(name for name in COMMANDS if name not in headed)
        width = formatter.width - 6 - max(map(len, COMMANDS))
        for heading, names in {**_PARTS, "Further": rest}.items():
            commands = [self.get_command(ctx, name) for name in names if name in COMMANDS]
            rows = [(one.name or "", one.get_short_help_str(width)) for one in commands if one is not None]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows, col_spacing=4)


@click.group(
    cls=_Commands,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="probe")
def cli() -> None:
    """Ask of a convolutional network: what did it learn, how fragile is it, which parts do the work?

    A study loads a network (--model) and images (--data), looks at them in its way, and writes a report. Without
    any option it takes networks and images that are installed with probe.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and end it with the documented exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(words))


def run(words: list[str]) -> int:
    """Run one command and return its exit code; every error is one line on stderr."""
    console = Console()
    try:
        code = cli.main(words, prog_name="probe", complete_var=VARIABLE, standalone_mode=False)
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
    except _NobodyReadsError:
        # What is left in the buffers would be written at the end, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except Exception as error:
        if "--debug" in words:
            raise
        console.error(f"{type(error).__name__}: {error} (a defect of probe; --debug shows where)")
        return ProbeError.exit_code
    return int(code or 0)
