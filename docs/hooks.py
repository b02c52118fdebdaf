"""Pages of the site that are made from the code: the command line, the Python functions, every registry, the schemas."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

COLUMNS = 80
"""Width of the helps: what fits beside the site's two lists of contents."""

LISTS = {
    "Attacks": ("attack", "probe.attacks.families"),
    "Remedies of --adapt": ("remedy", "studies.adversarial.remedies"),
    "Threat models": ("threat model", "probe.attacks.threats"),
    "Validity checks": ("check", "studies.adversarial.checks"),
    "Views of probe adversarial": ("view", "studies.adversarial.views"),
    "Views of probe filters": ("view", "studies.filters.views"),
    "Structures that can be removed": ("structure", "probe.graph.structures"),
    "Swaps": ("swap", "probe.graph.swaps"),
    "Causes that probe doctor looks for": ("cause", "probe.tools.doctor.causes"),
    "Corruptions": ("corruption", "probe.data.corruptions"),
    "Networks of the zoo": ("zoo network", "probe.models.zoo"),
    "Sources of models": ("model source", "probe.models.sources"),
    "Sources of data": ("data source", "probe.data.sources"),
}
"""Heading → what its entries are called, and the package that registers them."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, the pictures of README, and the examples as notebooks."""
    pages = {
        "reference/cli.md": _cli(),
        "reference/python.md": _python(),
        "reference/lists.md": _lists(),
        "reference/results.md": _results(),
    }
    for name, lines in pages.items():
        files.append(File.generated(config, name, content="\n".join(lines) + "\n"))
    for picture in (ROOT / "reports").glob("*.webp"):
        files.append(File.generated(config, f"assets/{picture.name}", abs_src_path=str(picture)))
    for script in (ROOT / "examples").glob("*.py"):
        files.append(File.generated(config, f"notebooks/{script.stem}.ipynb", content=_notebook(script)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put a link to its notebook below every example that a page shows."""
    up = "../" * page.file.src_uri.count("/")
    return re.sub(
        r'^```python\n--8<-- "examples/(\w+)\.py"\n```$',
        rf"\g<0>\n\n[As a notebook]({up}notebooks/\1.ipynb){{: download='' }}",
        markdown,
        flags=re.MULTILINE,
    )


def _notebook(script: Path) -> str:
    """Return a notebook with the script's first line as text and the rest as a cell."""
    text = script.read_text(encoding="utf-8")
    _, title, code = text.split('"""', 2)
    cells: list[dict[str, Any]] = [
        {"cell_type": "markdown", "id": "what", "metadata": {}, "source": title},
        {
            "cell_type": "code",
            "id": "how",
            "metadata": {},
            "source": code.strip(),
            "execution_count": None,
            "outputs": [],
        },
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return json.dumps(
        {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}, indent=1, ensure_ascii=False
    )


def _cli() -> Iterator[str]:
    from probe.cli.main import COMMANDS, cli

    yield "# Command line\n"
    yield "What `probe --help` and `probe COMMAND --help` print.\n"
    context = click.Context(cli, info_name="probe", terminal_width=COLUMNS, max_content_width=COLUMNS)
    yield f"```text\n{cli.get_help(context)}\n```\n"
    for name in COMMANDS:
        command = cli.get_command(context, name)
        if command is None:
            raise RuntimeError(f"there is no command {name}")
        own = click.Context(command, info_name=name, parent=context, max_content_width=COLUMNS)
        own.terminal_width = COLUMNS
        yield f"## probe {name}\n"
        yield f"```text\n{command.get_help(own)}\n```\n"


def _python() -> Iterator[str]:
    import probe

    yield "# Python\n"
    yield "Everything that `import probe` offers. Modules are imported when they are first used.\n"
    for name in sorted(probe._PLACES, key=str.lower):
        if name == "Report":
            yield "::: probe.core.document.Report\n    options:\n      members: true\n"
        else:
            yield f"::: {probe._PLACES[name]}.{name}\n"
    yield "## probe.stats\n"
    yield "::: probe.core.stats\n    options:\n      members: true\n      show_root_heading: false\n"
    yield "## probe.attacks\n"
    yield "::: probe.attacks.base.Attack\n    options:\n      members: [__call__, run]\n"
    yield "::: probe.attacks.base.AttackResult\n"


def _lists() -> Iterator[str]:
    from probe.core.registry import Registry

    yield "# Lists\n"
    yield "Every name that can be typed, from the place where it is registered.\n"
    for heading, (kind, package) in LISTS.items():
        registry: Registry[Any] = Registry(kind, package)
        yield f"## {heading}\n"
        yield f"In the package `{package}`.\n"
        yield f"| {kind} | what it is | module |\n|---|---|---|"
        for entry in registry.entries.values():
            module = entry.module.removeprefix(f"{package}.")
            yield f"| `{entry.name}` | {entry.summary.replace('|', '&#124;')} | `{module}` |"
        yield ""


def _results() -> Iterator[str]:
    yield "# Results\n"
    yield "`results.json` holds every number of a report, `samples.jsonl` the outcome for each image. `probe schema` and"
    yield "`probe schema samples` print these schemas.\n"
    for title, name in (("results.json", "schema.json"), ("samples.jsonl", "samples.schema.json")):
        schema = json.loads((ROOT / "probe" / "report" / name).read_text(encoding="utf-8"))
        yield f"## {title}\n"
        yield schema.get("description", "") + "\n"
        yield from _properties(schema)
        for part, definition in schema.get("$defs", {}).items():
            yield f"### {part}\n"
            yield definition.get("description", "") + "\n"
            yield from _properties(definition)
    yield "## Exit codes\n"
    yield "| code | meaning |\n|---|---|"
    yield "| 0 | done |\n| 1 | a gate failed (`--fail-under`) |\n| 2 | usage: an option is wrong, or several do not fit together |"
    yield "| 3 | could not run; one line says what was wrong and how to fix it |"
    yield "| 4 | finished, but some inputs were skipped or a part failed; the report names them |"
    yield "| 130 | interrupted (143 by SIGTERM) |\n| 141 | broken pipe |"


def _properties(schema: dict[str, Any]) -> Iterator[str]:
    if "properties" not in schema:
        return
    required = set(schema.get("required", ()))
    yield "| field | type | what it is |\n|---|---|---|"
    for name, what in schema["properties"].items():
        always = "" if name in required else " (optional)"
        yield f"| `{name}`{always} | {_kind(what)} | {what.get('description', '').replace('|', '&#124;')} |"
    yield ""


def _kind(what: dict[str, Any]) -> str:
    if "$ref" in what:
        return str(what["$ref"].rsplit("/", 1)[-1])
    if "enum" in what:
        return ", ".join(f"`{value}`" for value in what["enum"])
    if "const" in what:
        return f"`{what['const']}`"
    kinds = what.get("type", [_kind(option) for option in what.get("anyOf", what.get("oneOf", []))])
    text = kinds if isinstance(kinds, str) else " or ".join(kinds)
    return (
        f"list of {_kind(what['items'])}" if text == "array" and isinstance(what.get("items"), dict) else text
    )
