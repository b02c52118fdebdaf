"""What a shell is offered: asked as the shells ask, in a process of its own, without anything heavy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from probe.attacks.base import ATTACKS
from probe.cli import main as cli
from probe.cli.completion import VARIABLE
from probe.data.source import data_names
from probe.graph.edit.structure import STRUCTURES
from probe.models.source import ZOO

PROBE = [
    sys.executable,
    "-c",
    "import sys; from probe.cli import main as cli; sys.exit(cli.run(sys.argv[1:]))",
]


def offered(*words: str) -> list[str]:
    """What may follow: the last word is the unfinished one."""
    complete = ShellComplete(cli.cli, {}, "probe", VARIABLE)
    return [item.value for item in complete.get_completions(list(words[:-1]), words[-1])]


def test_commands_and_options_are_offered() -> None:
    assert set(offered("")) == set(cli.COMMANDS)
    assert offered("adv") == ["adversarial"]
    assert {"--remove", "--model", "--fail-under", "--format"} <= set(offered("ablate", "--"))
    assert offered("completion", "") == ["bash", "zsh", "fish"]
    assert offered("filters", "--format", "j") == ["json"]


def test_models_are_those_that_can_be_loaded() -> None:
    from torchvision import models

    names = offered("filters", "--model", "zoo:")
    assert names == [f"zoo:{name}" for name in ZOO.names()]
    every = set(offered("filters", "-m", ""))
    classifiers = set(models.list_models(module=models))
    assert {
        name.removeprefix("torchvision:") for name in every if name.startswith("torchvision:")
    } == classifiers
    assert {"efficientnet_lite0", "resnet18", "resnet20"} <= every
    assert "train" in offered("tr")


def test_words_of_the_registries_are_offered() -> None:
    assert set(offered("adversarial", "--attack", "")) == set(ATTACKS.names())
    assert set(offered("ablate", "--remove", "")) == set(STRUCTURES.names())
    assert set(data_names()) <= set(offered("filters", "-d", ""))
    assert "curve" in offered("adversarial", "--views", "c")
    assert offered("filters", "--views", "w") == ["weights"]
    assert offered("adversarial", "--norm", "L") == ["Linf", "L2", "L1", "L0"]


def test_in_a_list_the_last_name_is_completed() -> None:
    assert offered("ablate", "--remove", "shortcut,dro") == ["shortcut,dropout"]
    assert "patches,features" in offered("filters", "--views", "patches,f")


def ask(shell: str, words: str, number: int) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        VARIABLE: f"{shell}_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(number),
    }
    return subprocess.run(PROBE, env=environment, capture_output=True, text=True, check=True)


@pytest.mark.parametrize(
    "words", ["probe filters -m resn", "probe ablate --remove sho", "probe filters -d dig"]
)
def test_nothing_heavy_is_loaded(words: str) -> None:
    code = (
        "import sys, atexit; from probe.cli import main as cli;"
        "atexit.register(lambda: print('LOADED', [m for m in "
        "('torch', 'numpy', 'torchvision', 'timm', 'scipy', 'PIL', 'rich') if m in sys.modules])); cli.run([])"
    )
    environment = {**os.environ, VARIABLE: "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    *found, loaded = done.stdout.splitlines()
    assert loaded == "LOADED []"
    assert any(line.startswith("plain,") for line in found)


def test_bash_hands_names_with_colons_over_in_parts() -> None:
    assert "plain,resnet20" in ask("bash", "probe\nfilters\n-m\nzoo\n:\nres", 5).stdout.splitlines()
    assert "plain,resnet20" in ask("bash", "probe\nfilters\n-m\nzoo\n:", 4).stdout.splitlines()
    assert "plain,zoo:resnet20" in ask("bash", "probe\nfilters\n-m\nzoo", 3).stdout.splitlines()
    # The other shells take no word apart.
    environment = {
        "COMP_WORDS": "probe filters -m zoo:res",
        "COMP_CWORD": "zoo:res",
        VARIABLE: "fish_complete",
    }
    done = subprocess.run(
        PROBE, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    assert any("zoo:resnet20" in line for line in done.stdout.splitlines())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_printed_and_the_shell_can_read_it(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert f"{VARIABLE}={shell}_complete" in text
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=text, text=True, check=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "number", "reply"),
    [
        ("probe adv", 1, "adversarial"),
        ("probe ablate --remove shortcut,dro", 3, "shortcut,dropout"),
        ("probe filters -m zoo : resnet2", 5, "resnet20"),
    ],
)
def test_bash_itself_completes(tmp_path: Path, words: str, number: int, reply: str) -> None:
    program = tmp_path / "probe"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nfrom probe.cli import main as cli\nsys.exit(cli.run(sys.argv[1:]))\n"
    )
    program.chmod(0o755)
    script = subprocess.run([*PROBE, "completion", "bash"], capture_output=True, text=True, check=True).stdout
    asked = f"COMP_WORDS=({words}); COMP_CWORD={number}; _probe_completion probe; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{script}\n{asked}"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [reply], done.stderr


def test_values_of_an_option_are_offered_whatever_its_parameter_is_called() -> None:
    assert "robust_accuracy=" in offered("adversarial", "--fail-under", "r")
    assert offered("ablate", "--optimizer", "s") == ["sgd"]
