"""The command lines that README and the helps show, and a small shell that runs one of them in this process."""

from __future__ import annotations

import glob
import io
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import click
import jsonschema

from probe.cli import main as cli
from probe.report.results import schema

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(probe [^`\n]+)`")
_SYNTAX = re.compile(r"…|\b[A-Z]{3,}\b")
"""``probe compare RUN RUN …`` says how a command is written; it is not one to run."""

_WORD = re.compile(
    r"""\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<append>>>)|(?P<write>>)|(?P<bare>[^\s>]+))"""
)
_MEANING = set("&;|()<$`\"'\\#{}!")
"""What a shell gives a meaning: in a word without quotation marks it would not reach probe."""


def shown_in_readme() -> list[str]:
    """Return the command lines of README and of docs/: those of code blocks, and those with arguments in the text."""
    found = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = path.read_text(encoding="utf-8")
        for block in _FENCE.findall(text):
            found += _in_lines(block)
        inline = _INLINE.findall(_FENCE.sub("", text))
        found += [line for line in inline if len(line.split()) > 2 and not _SYNTAX.search(line)]
    return list(dict.fromkeys(found))


def shown_in_helps() -> list[str]:
    """Return the command lines in ``probe --help`` and in the help of every command."""
    context = click.Context(cli.cli, info_name="probe")
    commands = [cli.cli.get_command(context, name) for name in cli.cli.list_commands(context)]
    found = []
    for command in (cli.cli, *commands):
        assert command is not None
        found += _in_lines(f"{command.help or ''}\n{command.epilog or ''}")
    return list(dict.fromkeys(found))


def _in_lines(text: str) -> Iterator[str]:
    """Yield the lines that begin with ``probe``, without the explanation behind two spaces or a ``#``."""
    for row in re.sub(r"\\\n\s*", " ", text).splitlines():
        line = re.split(r"\s{2,}|\s#\s", row.strip())[0]
        if line.startswith("probe "):
            yield line


@dataclass(frozen=True)
class ShellWords:
    """What a shell makes of a command line: the arguments, and the file for stdout."""

    arguments: tuple[str, ...]
    target: Path | None = None
    append: bool = False


def split(line: str, expand: bool = True) -> ShellWords:
    """Split a command line as bash and zsh both do; it must mean the same to both.

    zsh ends with "no matches found" where bash passes a pattern on that no file matches, so that
    ``kernel?to=stacked`` needs quotation marks. Without ``expand``, patterns stay as they are.
    """
    arguments: list[str] = []
    target, append, redirecting = None, False, False
    end = 0
    while line[end:].strip():
        found = _WORD.match(line, end)
        assert found is not None, f"cannot be split: {line[end:]}"
        end = found.end()
        if found["append"] or found["write"]:
            redirecting, append = True, bool(found["append"])
            continue
        bare = found["bare"]
        words = (
            [found["double"] or found["single"] or ""]
            if bare is None
            else _expand(bare)
            if expand
            else [bare]
        )
        if redirecting:
            (name,) = words
            target, redirecting = Path(name), False
        else:
            arguments += words
    assert arguments[:1] == ["probe"]
    return ShellWords(tuple(arguments[1:]), target, append)


def _expand(word: str) -> list[str]:
    assert not _MEANING & set(word), f"a shell would take {word} apart: it needs quotation marks"
    if word.startswith("~/"):
        return [str(Path(word).expanduser())]
    if not set("*?[") & set(word):
        return [word]
    files = sorted(glob.glob(word))
    assert files, f"zsh finds no match for {word}: it needs quotation marks"
    return files


def distinct(lines: Sequence[str]) -> list[str]:
    """Return the lines without those that mean the same as an earlier one, such as ``-m`` for ``--model``.

    A line that its command does not accept raises click.UsageError.
    """
    found: dict[str, str] = {}
    context = click.Context(cli.cli, info_name="probe")
    for line in lines:
        words = split(line, expand=False)
        command = cli.cli.get_command(context, words.arguments[0])
        assert command is not None, line
        parsed = command.make_context(command.name, list(words.arguments[1:]))
        found.setdefault(
            repr((command.name, sorted(parsed.params.items()), words.target, words.append)), line
        )
    return list(found.values())


@dataclass(frozen=True)
class Ran:
    """What a command line gave."""

    line: str
    code: int
    out: str
    err: str
    new: tuple[Path, ...] = field(default=())
    """The results.json files that it wrote in folders."""


def run(line: str, more: Sequence[str] = ()) -> Ran:
    """Run a command line in the current folder, with ``more`` arguments behind it."""
    words = split(line)
    arguments = [*words.arguments, *more]
    before = _stamps()
    out, err = io.StringIO(), io.StringIO()
    argv, sys.argv = sys.argv, ["probe", *arguments]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = cli.run(arguments)
    finally:
        sys.argv = argv
    if words.target is not None:
        with words.target.open("a" if words.append else "w", encoding="utf-8") as file:
            file.write(out.getvalue())
    new = tuple(path for path, stamp in _stamps().items() if before.get(path) != stamp)
    return Ran(line, code, out.getvalue(), err.getvalue(), new)


def _stamps() -> dict[Path, int]:
    reports = (path for path in Path().rglob("results.json") if path.parent != Path())
    return {path: path.stat().st_mtime_ns for path in reports}


WRITES = ("filters", "adversarial", "ablate", "dossier", "doctor", "compare", "sweep")
"""The commands that always write a report."""

BAD = re.compile(
    r"traceback|a bug in probe|part failed|failed and is missing|could not be made|defect", re.IGNORECASE
)


def check(ran: Ran) -> None:
    """The exit code is as documented, no part is missing, and what should be written was written."""
    gated = "--fail-under" in ran.line
    assert ran.code in ((0, 1) if gated else (0,)), ran.err
    assert not BAD.search(ran.err), ran.err
    words = split(ran.line)
    if words.arguments[0] in WRITES or "--html" in words.arguments:
        assert ran.new, "no report"
    for path in ran.new:
        document = json.loads(path.read_text(encoding="utf-8"))
        jsonschema.validate(document, schema())
        assert document["status"] == "done", document["warnings"]
        assert not BAD.search(json.dumps(document)), BAD.search(json.dumps(document))
        assert (path.parent / "report.html").stat().st_size > 10_000
    if words.arguments[0] == "train":
        assert list(Path().glob("*.safetensors"))
    if words.target is not None:
        assert words.target.stat().st_size > 500
    if "--format json" in ran.line:
        assert json.loads(ran.out)
    elif words.arguments[0] not in WRITES and not words.target:
        assert len(ran.out.splitlines()) > 1
