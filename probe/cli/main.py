"""The command line: parse → load → study.run → render → exit code. No logic of its own."""

from __future__ import annotations

import errno
import io
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import pairwise
from types import FrameType
from typing import Any

import click

from probe import __version__
from probe.cli.completion import VARIABLE, with_completion
from probe.cli.console import Console, drop_stdout
from probe.core.errors import EXIT_INTERRUPTED, ProbeError, UsageError

COMMANDS = (
    "filters",
    "adversarial",
    "ablate",
    "dossier",
    "sweep",
    "compare",
    "anatomy",
    "doctor",
    "train",
    "corrupt",
    "models",
    "attacks",
    "structures",
    "schema",
    "completion",
)
"""The commands in the order of the help; each is a module in ``probe.cli.commands``."""

_PARTS = {
    "Studies": ("filters", "adversarial", "ablate", "dossier", "anatomy", "doctor"),
    "Training": ("train",),
    "Images": ("corrupt",),
    "Reports": ("compare", "sweep", "schema"),
    "Lists": ("models", "attacks", "structures"),
}
"""The headings of the help; commands without one are listed under ``Other``."""

_EPILOG = """\b
Getting started (none of these needs an internet connection):
  probe filters                                  what an ImageNet network has learned, on real photographs
  probe adversarial --eps 0.03                   attack it, and check whether the result can be trusted
  probe ablate --remove shortcut                 remove parts of a network and measure their effect
  probe dossier                                  these three on one network, and how their results relate
  probe anatomy --model resnet18                 its layers: sizes, parameters, MACs, receptive fields
  probe doctor -m zoo:resnet20 -d digits         find out why a network does not train
  probe train zoo:resnet20 --data digits         train a network and save its weights
  probe corrupt my_folder --out my_folder-C      write the corruptions of ImageNet-C

\b
With your own network and images:
  probe filters -m my_net.py:net --weights my.pth -d my_folder --mean 0.5 --std 0.25
  probe adversarial -m my_net.py:net --weights my.pth -d my_folder --fail-under robust_accuracy=0.4

\b
Reference, and for programs:
  probe models resnet                            list the networks that can be loaded
  probe attacks L1                               list the attacks
  probe structures -m zoo:resnet20               list the parts that can be removed
  probe compare reports/adversarial-*            compare runs side by side
  probe sweep sweep.yaml                         many networks, data sets and options from one file
  probe schema                                   the JSON Schema of results.json
  probe completion bash >> ~/.bashrc             complete commands, options, models, …

Each study ends by printing the path of its report: one HTML page, with results.json and samples.jsonl next to it.
`probe COMMAND --help` describes each command.

\b
Exit codes:
  0    done
  1    a gate failed (--fail-under)
  2    invalid usage
  3    could not run: one line says what was wrong and how to fix it (--debug shows the traceback)
  4    done, but some inputs were skipped or a part failed; the report lists them (a failed gate takes precedence)
  130  interrupted (143: by SIGTERM)
"""


EXIT_BROKEN_PIPE = 141
"""The exit code of a program that is ended by SIGPIPE."""

EXIT_TERMINATED = 143
"""The exit code of a program that is ended by SIGTERM."""


_OF_THE_MACHINE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.EMFILE,
    errno.ENAMETOOLONG,
)
"""Errors of the file system that say something about the machine, not about probe."""


class _OutputClosedError(Exception):
    """Whoever read the output has closed it."""


class _Commands(click.Group):
    """A command group that imports each command when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, or None if there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"probe.cli.commands.{cmd_name}").command
        # Only shell completion needs the values of the options.
        return with_completion(command) if ctx.resilient_parsing else command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; whoever reads the output may close it early, as ``head`` does."""
        from probe.core.allocator import kept_pages

        try:
            with kept_pages():
                return super().invoke(ctx)
        except BrokenPipeError as error:
            # Click would exit with 1, which means a failed gate here.
            raise _OutputClosedError from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands under their headings."""
        headed = {name for names in _PARTS.values() for name in names}
        rest = tuple(name for name in COMMANDS if name not in headed)
        width = formatter.width - 6 - max(map(len, COMMANDS))
        for heading, names in {**_PARTS, "Other": rest}.items():
            commands = [self.get_command(ctx, name) for name in names if name in COMMANDS]
            rows = [
                (item.name or "", item.get_short_help_str(width)) for item in commands if item is not None
            ]
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
    """Study a convolutional network: what has it learned, how fragile is it, and which parts do the work?

    A study loads a network (--model) and images (--data) and writes a report. Without options it uses a network and
    images that are installed with probe.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and exit with the documented code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _mend_streams()
    with _terminable() as was_terminated:
        code = run(words)
    sys.exit(EXIT_TERMINATED if was_terminated() else code)


@contextmanager
def _terminable() -> Iterator[Callable[[], bool]]:
    """Let SIGTERM end the program as Ctrl-C does: files are closed and workers ended; yields whether it came."""
    came = False

    def end(_signal: int, _frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut off the cleaning up
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGTERM, before)


def _mend_streams() -> None:
    """Let the program write what it says, whatever stdout and stderr are: closed, or of a narrow character set."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def run(words: list[str]) -> int:
    """Run one command and return its exit code; every error is one line on stderr."""
    console = Console()
    if "--debug" in words:
        logging.basicConfig()
        logging.getLogger("probe").setLevel(logging.DEBUG)
    try:
        if VARIABLE not in os.environ:  # a shell that completes words passes empty ones
            _refuse_empty(words)
        code = cli.main(words, prog_name="probe", complete_var=VARIABLE, standalone_mode=False)
    except click.ClickException as error:
        console.error(error.format_message())
        return error.exit_code
    except ProbeError as error:
        _show_traceback(words)
        console.error(str(error))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        console.error("interrupted; nothing was written.")
        return EXIT_INTERRUPTED
    except _OutputClosedError:
        # Python would flush the buffers on exit, and fail again.
        drop_stdout()
        return EXIT_BROKEN_PIPE
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and VARIABLE in os.environ:
            raise  # completion ends the program when it has answered
        _show_traceback(words)
        console.error(_unexpected(error))
        return ProbeError.exit_code
    return int(code or 0)


def _refuse_empty(words: list[str]) -> None:
    """Raise UsageError for an option with an empty value, which is seldom what was meant."""
    for before, word in pairwise(["", *words]):
        name = before if word == "" else word.removesuffix("=")
        if name.startswith("-") and (
            word == "" or (word.endswith("=") and word.startswith("--") and word.count("=") == 1)
        ):
            raise UsageError(f"{name} has an empty value: give one, or leave the option out.")


def _show_traceback(words: list[str]) -> None:
    if "--debug" in words:
        traceback.print_exc()


def _unexpected(error: BaseException) -> str:
    """Return the line for an exception that nothing expected: from the user's own code, or a bug."""
    from probe.core.memory import is_out_of_memory
    from probe.core.usercode import place_of

    place, message = place_of(error), f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{where}: make room, or choose another place with --out or PROBE_CACHE"
    if is_out_of_memory(error):
        return f"there is not enough memory ({message}): use fewer (-n) or smaller images (--img-size), or a smaller --batch-size"
    if place:
        return f"{place}: {message} (raised by your own code; --debug shows the traceback)"
    if isinstance(error, SystemExit):
        return f"a library ended the program ({message}); --debug shows the traceback"
    return f"{message} (a bug in probe; --debug shows the traceback)"
