"""Headless Chromium for the browser tests.

Without Chromium these tests are deselected with a line that says so; where CI is set they fail instead.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser_program import ARGUMENTS, chromium
from browser_sample import sample
from browser_tab import Tab
from playwright.sync_api import Browser, sync_playwright

from probe.core.document import Check, Result
from probe.report.index import update_index
from probe.report.render import write_report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take the browser tests out where there is no browser, unless this is CI."""
    if chromium() is not None or os.environ.get("CI"):
        return
    here = Path(__file__).parent
    gone = [item for item in items if here in item.path.parents]
    if gone:
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in gone]
        config.stash[REASON] = f"{len(gone)} browser tests left out: there is no Chromium here"


REASON: pytest.StashKey[str] = pytest.StashKey()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say at the end what was left out."""
    if REASON in config.stash:
        terminalreporter.write_line(config.stash[REASON], yellow=True)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = chromium()
    if path is None:
        pytest.fail("CI is set, but there is no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def reports_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one realistic report and its index."""
    folder = tmp_path_factory.mktemp("reports")
    write_report(sample(), folder / "filters-efficientnet_lite0-20261123-214224")
    update_index(folder)
    return folder


@pytest.fixture(scope="session")
def many_reports(tmp_path_factory: pytest.TempPathFactory, report_file: Path) -> Path:
    """The index of a folder with three reports: of photographs, of a chart, of nothing to look at."""
    folder, whole = tmp_path_factory.mktemp("many"), sample()
    resnet = replace(whole.model, name="resnet20")
    chart = replace(whole.sections[3], blocks=whole.sections[3].blocks[1:2], checks=())
    shutil.copytree(report_file.parent, folder / "filters")
    ablation = replace(
        whole,
        study="ablation",
        model=resnet,
        created="2026-11-24T08:00:00+00:00",
        sections=(chart,),
        results=(Result.proportion("accuracy", 99, 100),),
        checks=(),
    )
    write_report(ablation, folder / "ablation")
    adversarial = replace(
        ablation,
        study="adversarial",
        created="2026-11-24T09:00:00+00:00",
        sections=(),
        results=(Result.proportion("robust accuracy", 0, 100),),
        checks=(Check("clean accuracy", "pass", None, ""),),
    )
    write_report(adversarial, folder / "adversarial")
    return update_index(folder)


@pytest.fixture(scope="session")
def report_file(reports_folder: Path) -> Path:
    return reports_folder / "filters-efficientnet_lite0-20261123-214224" / "report.html"


@pytest.fixture
def open_tab(browser: Browser) -> Iterator[Callable[..., Tab]]:
    """Open files in tabs; afterwards no tab may have complained or asked for anything."""
    tabs: list[Tab] = []

    def opened(
        file: Path, *, width: int = 1280, dark: bool = False, script: bool = True, **context: Any
    ) -> Tab:
        scheme = "dark" if dark else "light"
        size = {"width": width, "height": 900}
        tabs.append(
            Tab(browser, file, viewport=size, color_scheme=scheme, java_script_enabled=script, **context)
        )
        return tabs[-1]

    yield opened
    for tab in tabs:
        tab.context.close()
        assert tab.complaints == []
        assert tab.network == []
