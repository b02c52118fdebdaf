"""``probe sweep``: many runs from one file."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from probe.cli.console import Console, line
from probe.cli.options import option
from probe.core.errors import EXIT_INTERRUPTED, EXIT_SKIPPED, CannotRunError

if TYPE_CHECKING:
    from probe.core.journal import Arrays

_EXAMPLES = """\b
Examples:
  probe sweep sweep.yaml
  probe sweep sweep.yaml --out sweep --jobs 4

\b
sweep.yaml: every study with every network, every data set, and every value of an option that has a list:
  studies:
    adversarial: {eps: [0.05, 0.1], no-checks: true}
    ablate: {remove: shortcut, mode: lesion}
  models: [zoo:resnet20, {model: "my_net.py:net", weights: my.pth}]
  data: [digits]
  options: {seed: 0}
"""

_LEDGER = "sweep.json"
_DONE = (0, 1, EXIT_SKIPPED)
"""Exit codes of runs that have written a report."""

_MOST_COMPARED = 26
"""Runs that ``probe compare`` takes at most."""


@dataclass
class _Ledger:
    """The runs that are done: a journal of exit codes and last lines, kept in the sweep's folder."""

    folder: Path
    words: Mapping[str, Sequence[str]]
    console: Console
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)

    def read(self) -> None:
        """Read what an earlier call has left."""
        try:
            found = json.loads((self.folder / _LEDGER).read_text(encoding="utf-8"))["runs"]
        except (OSError, ValueError, KeyError, TypeError):
            return
        self.entries = {name: entry for name, entry in found.items() if isinstance(entry, dict)}

    def load(self, key: str) -> Arrays | None:
        """Return what a run has returned if it is done, with the same command line."""
        entry = self.entries.get(key, {})
        done = (
            entry.get("words") == list(self.words[key])
            and entry.get("code") in _DONE
            and (self.folder / key / "results.json").is_file()
        )
        return _to_arrays((int(entry["code"]), str(entry.get("said", "")))) if done else None

    def save(self, key: str, arrays: Arrays) -> None:
        """Note what a run has returned, and say it."""
        from probe.report.files import write_together

        code, said = _from_arrays(arrays)
        self.entries[key] = {"words": list(self.words[key]), "code": code, "said": said}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_together(self.folder, {_LEDGER: json.dumps({"runs": self.entries}, indent=1)})
        self.console.say(f"{key}: {'done' if code in _DONE else said}")


@click.command("sweep", epilog=_EXAMPLES)
@click.argument("file", type=click.Path(path_type=Path))
@option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder of all reports [default: reports/NAME of the file].",
)
@option("--jobs", type=click.IntRange(min=1), default=1, help="Runs at a time, each with one thread.")
@option("--cluster", metavar="ADDRESS", help="Run on a dask cluster that sees the same files.")
@option("--fresh", is_flag=True, help="Make runs again that are done.")
@option("-q", "--quiet", is_flag=True, help="Print the index's path only.")
@option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def command(ctx: click.Context, /, file: Path, **options: Any) -> None:
    """Make many runs: studies × networks × data × options, as FILE says, with an index and comparisons at the end.

    A sweep that was interrupted, or in which runs failed, goes on where it is called again: what is done is not made
    again. Each run is a report in a folder of its own.
    """
    from probe.cli.main import cli
    from probe.cli.sweep_plan import STUDIES, read_plan
    from probe.report.index import update_index

    console = Console(options["quiet"])
    commands = {name: known for name in STUDIES if (known := cli.get_command(ctx, name)) is not None}
    runs = read_plan(file, commands)
    folder = options["out"] or Path("reports") / file.stem
    parallel = options["jobs"] > 1 or options["cluster"] is not None
    words = {
        run.name: (*run.words, *_one_process(run.words, parallel), "--out", str(folder / run.name))
        for run in runs
    }
    ledger = _Ledger(folder, words, console)
    if not options["fresh"]:
        ledger.read()
    with console.task(f"{len(runs)} runs", len(runs)) as advance:
        found = _all(words, ledger, options["jobs"], options["cluster"], advance)
    done = [run for run in runs if found[run.name][0] in _DONE]
    for study in dict.fromkeys(run.study for run in done):
        _compare([str(folder / run.name) for run in done if run.study == study], folder, study, console)
    if not done:
        raise CannotRunError(
            f"None of the {len(runs)} runs could be made; the first: {found[runs[0].name][1]}"
        )
    index = update_index(folder)
    failed = [f"{run.name} ({found[run.name][1]})" for run in runs if run not in done]
    if failed:
        console.say(f"{len(failed)} of {len(runs)} runs failed: {'; '.join(failed)}")
    line(str(index))
    codes = {found[run.name][0] for run in done}
    ctx.exit(1 if 1 in codes else EXIT_SKIPPED if failed or EXIT_SKIPPED in codes else 0)


def _one_process(words: Sequence[str], parallel: bool) -> tuple[str, ...]:
    """Return the words that keep a run in its own process where several run at a time."""
    return (
        ("--jobs", "1")
        if parallel and words[0] in ("ablate", "adversarial") and "--jobs" not in words
        else ()
    )


def _all(
    words: Mapping[str, Sequence[str]], ledger: _Ledger, jobs: int, cluster: str | None, advance: Any
) -> dict[str, tuple[int, str]]:
    from probe.core.jobs import run_jobs

    if jobs > 1 or cluster is not None:
        here = str(Path.cwd())
        return run_jobs(
            _make_run_in,
            {key: (here, run_words) for key, run_words in words.items()},
            workers=jobs,
            cluster=cluster,
            journal=ledger,
            to_arrays=_to_arrays,
            from_arrays=_from_arrays,
            advance=advance,
        )
    found = {}
    for key, run_words in words.items():
        arrays = ledger.load(key)
        if arrays is None:
            arrays = _to_arrays(make_run(run_words))
            ledger.save(key, arrays)
        found[key] = _from_arrays(arrays)
        advance(1)
    return found


def _make_run_in(job: tuple[str, Sequence[str]]) -> tuple[int, str]:
    """Make a run in a worker, which may have been started in another folder."""
    folder, words = job
    with chdir(folder):
        return make_run(words)


def make_run(words: Sequence[str]) -> tuple[int, str]:
    """Run one command of the program, and return its exit code and the last line that it said."""
    from probe.cli.main import run

    said = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(said):
        code = run([*words, "--quiet"])
    if code == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    lines = said.getvalue().strip().splitlines()
    return code, lines[-1].removeprefix("probe: ") if lines else f"exit code {code}"


def _compare(folders: Sequence[str], folder: Path, study: str, console: Console) -> None:
    if len(folders) < 2:
        return
    first = folders[:_MOST_COMPARED]
    code, said = make_run(["compare", *first, "--out", str(folder / f"compare-{study}")])
    if code not in _DONE:
        console.say(f"The runs of {study} were not compared: {said}")
    elif len(folders) > len(first):
        console.say(f"The first {len(first)} of {len(folders)} runs of {study} were compared.")


def _to_arrays(outcome: tuple[int, str]) -> Arrays:
    import numpy as np

    return {"code": np.array(outcome[0]), "said": np.array(outcome[1])}


def _from_arrays(arrays: Arrays) -> tuple[int, str]:
    return int(arrays["code"]), str(arrays["said"])
