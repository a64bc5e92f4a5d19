"""`--module FILE.py:NAME`: a file of the user's own is executed when it is named, and never otherwise."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from convoscope.cli import app
from convoscope.cli.module_file import read_module
from convoscope.errors import ConvoscopeError, UsageError
from convoscope.training import Run

NET = """
from pathlib import Path

from torch import nn

from layers_beside_it import block

(Path(__file__).parent / "executed").touch()


class Net(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.body = block(channels)
        self.head = nn.Linear(4, classes)

    def forward(self, images):
        return self.head(self.body(images).mean((2, 3)))


def wide(channels, classes):
    return Net(channels, classes + 3)


def plain():
    return Net(1, 2)


ready = Net(1, 2)
"""
BESIDE = "from torch import nn\n\n\ndef block(channels):\n    return nn.Conv2d(channels, 4, 3, padding=1)\n"


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET, "utf-8")
    (tmp_path / "layers_beside_it.py").write_text(BESIDE, "utf-8")
    return tmp_path / "net.py"


def command(*arguments: object) -> None:
    app(list(map(str, arguments)), exit_on_error=False, print_error=False, result_action="return_value")


def test_every_command_takes_it_and_none_executes_it_by_itself(
    net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ("--module", "net.py:Net")
    command("model", *own, "--input", "5x5x1", "--classes", 2)
    assert "50 parameters" in capsys.readouterr().out
    quick = ("--epochs", 1, "--set", "precision=float32", "--no-test")
    command("train", "builtin:lines", *own, *quick, "--output", "run")
    (tmp_path / "executed").unlink()
    Image.new("L", (5, 5), 40).save("picture.png")
    commands = [
        ("test", "run"),
        ("predict", "run", "picture.png"),
        ("look", "run", "picture.png", "--why", "body:1,2,2"),
        ("train", "--resume", "run", "--epochs", 2, "--no-test"),
    ]
    for words in commands:
        with pytest.raises(ConvoscopeError) as caught:
            command(*words)
        assert caught.value.code == "run-needs-module"
        assert caught.value.hint.endswith(f"the same command with --module {net}:Net")
    assert not (tmp_path / "executed").exists()
    for words in commands:
        command(*words, *own)
    assert (tmp_path / "executed").exists() and not (tmp_path / "__pycache__").exists()
    out = capsys.readouterr().out
    assert "right on" in out and "what came in" in out
    with pytest.raises(ConvoscopeError) as caught:
        command("train", "--config", "run/run.toml", *quick)
    assert caught.value.code == "model-own-code"
    command("train", "--config", "run/run.toml", *own, *quick)


def test_a_changed_file_is_warned_of(net: Path, tmp_path: Path) -> None:
    command("train", "builtin:lines", "--module", f"{net}:Net", "--epochs", 1, "--no-test", "--output", "run")
    net.write_text(NET + "\n# another\n", "utf-8")
    with pytest.warns(UserWarning, match="its source has changed"):
        Run.open(tmp_path / "run", model=read_module(f"{net}:Net"))


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("net.py", "module-malformed", "expected a file and the name"),
        ("net:Net", "module-malformed", "expected a file and the name"),
        ("net.py:Net()", "module-malformed", "expected a file and the name"),
        ("nat.py:Net", "module-missing", "no such file"),
        ("net.py:Nat", "module-unknown", "Nat is not in it"),
        ("net.py:ready", "module-unknown", "is a network already"),
        ("broken.py:Net", "module-failed", "line 2: it fails: ZeroDivisionError"),
        ("typo.py:Net", "module-failed", "line 1: it fails: SyntaxError"),
        ("leaves.py:Net", "module-failed", "line 1: it fails: SystemExit"),
    ],
)
def test_what_cannot_be_read(net: Path, text: str, code: str, words: str) -> None:
    (net.parent / "broken.py").write_text("x = 1\ny = x / 0\n", "utf-8")
    (net.parent / "typo.py").write_text("def (:\n", "utf-8")
    (net.parent / "leaves.py").write_text("raise SystemExit(3)\n", "utf-8")
    path = list(sys.path)
    with pytest.raises(UsageError) as caught:
        read_module(text)
    assert caught.value.code == code
    assert words in str(caught.value) and caught.value.hint
    assert sys.path == path


def test_shapes_are_checked(net: Path) -> None:
    command("model", "--module", "net.py:plain", "--input", "5x5x1", "--classes", 2)
    for name, words in (("wide", r"expected raw scores of shape \(1, 10\)"), ("plain", r"got shape \(1, 2\)")):
        with pytest.raises(UsageError, match=words) as caught:
            command("model", "--module", f"net.py:{name}", "--input", "5x5x1")
        assert caught.value.code == "model-module"
    with pytest.raises(UsageError, match="it fails: TypeError") as caught:
        command("model", "--module", "layers_beside_it.py:block", "--input", "5x5x1")
    assert caught.value.code == "model-module"


def test_a_text_and_a_module_exclude_each_other(net: Path) -> None:
    for words, code in (
        (("model",), "model-missing"),
        (("model", "tiny", "--module", "net.py:Net"), "model-missing"),
        (("train", "builtin:lines", "--model", "tiny", "--module", "net.py:Net"), "option-twice"),
    ):
        with pytest.raises(ConvoscopeError) as caught:
            command(*words)
        assert caught.value.code == code
