"""The words of ``probe compare``: what is refused in one line, and with which exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from probe.cli import main as cli

DOCUMENT = {
    "schema_version": 1,
    "study": "filters",
    "status": "done",
    "command": "",
    "created": "",
    "config": {},
    "model": {"name": "net", "source": "", "weights": "", "parameters": 1, "input_size": [1, 2, 2]},
    "data": {"name": "folder", "n": 4},
    "environment": {},
    "seed": 0,
    "results": [{"name": "near_duplicates", "value": 1, "n": 4, "ci": None, "unit": "filters"}],
    "checks": [],
}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        Path(name).mkdir()
        (Path(name) / "results.json").write_text(json.dumps(DOCUMENT))
    return tmp_path


def test_folders_and_files_end_in_a_report_that_the_index_lists(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["compare", "a", "b/results.json", "-q"]) == 0
    page = Path(capsys.readouterr().out.strip())
    found = json.loads(page.with_name("results.json").read_text(encoding="utf-8"))
    assert found["study"] == "compare"
    assert found["results"][0]["name"] == "difference_B:near_duplicates"
    assert "compare" in Path("reports/index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["a"], 2, "2 to 26 runs"),
        (["a", "a/results.json"], 2, "given twice"),
        (["a", "other"], 2, "same study"),
        (["a", "newer"], 2, "schema version 2"),
        (["a", "b", "broken"], 3, "broken/results.json is not"),
        (["a", "b", "nan"], 3, "NaN is not JSON"),
        (["a", "b", "part"], 3, "'results' is not a list"),
        (["a", "empty"], 3, "There is no results.json in empty"),
        (["a", "nowhere"], 3, "There is no file nowhere"),
    ],
)
def test_bad_runs_end_in_one_line(
    runs: Path, words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {
        "other": json.dumps({**DOCUMENT, "study": "ablation"}),
        "newer": json.dumps({**DOCUMENT, "schema_version": 2}),
        "broken": "{",
        "nan": json.dumps({**DOCUMENT, "seed": float("nan")}),
        "part": json.dumps({**DOCUMENT, "results": {}}),
    }
    for name, text in texts.items():
        Path(name).mkdir()
        (Path(name) / "results.json").write_text(text)
    Path("empty").mkdir()
    assert cli.run(["compare", *words, "--out", "out"]) == code
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not Path("out").exists()


def test_samples_that_cannot_be_read_do_no_harm(runs: Path) -> None:
    (Path("a") / "samples.jsonl").write_text("{]\n")
    (Path("b") / "samples.jsonl").write_text("3\n")
    assert cli.run(["compare", "a", "b", "-q", "--out", "out"]) == 0


def test_help_loads_none_of_the_heavy_packages() -> None:
    code = (
        "import sys; from probe.cli import main as cli; code = cli.run(['compare', '--help']);"
        "print('LOADED', [m for m in ('torch', 'scipy', 'numpy') if m in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "LOADED []", done.stdout + done.stderr
