"""Hints, which are written for the command line, in the words of Python."""

import ast

import pytest

from convoscope.python_words import in_python


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        ("go on with: convoscope train --resume runs/a", 'go on with: convoscope.resume("runs/a")'),
        ("go on with it: convoscope train --resume runs/a, or wait", 'go on with it: convoscope.resume("runs/a"), or wait'),
        ("test it with: convoscope test 'my runs/a'", 'test it with: convoscope.test("my runs/a")'),
        ("convoscope compare RUN RUN", "convoscope.compare([run, run])"),
        ("name the run: convoscope relearn RUN SOURCE --add", "name the run: convoscope.relearn(run, source, add=True)"),
        ("convoscope train ... --size 48x64", "convoscope.train(..., size=(48, 64))"),
        ("convoscope train photos --epochs 3 --set flip=true", 'convoscope.train("photos", epochs=3, flip=True)'),
        ("see convoscope data --help", "see help(convoscope.load)"),
        ("try --set batch_size=16", "try batch_size=16"),
        ("use --set sampling=all", 'use sampling="all"'),
        ("in the same way: --set precision=float32 --set threads=1", 'in the same way: precision="float32", threads=1'),
        ("recipe: muon; --set key=value changes any of it", "recipe: muon; key=value changes any of it"),
        ("use --device auto", 'use device="auto"'),
        ("name it: --path-column 'the file'; or the folder: --root FOLDER", 'name it: path_column="the file"; or the folder: root=folder'),
        ("leave --feature-layer or --add out", "leave feature_layer or add out"),
        ("a run goes on with --resume", "a run goes on with convoscope.resume"),
        ("train again: convoscope train --config runs/a/run.toml", "train again: convoscope train --config runs/a/run.toml"),
        ("skipped; the list is in runs/a1/skipped.csv", "skipped; the list is in runs/a1/skipped.csv"),
    ],
)  # fmt: skip
def test_a_hint_in_python(hint: str, said: str | None) -> None:
    found = in_python(hint)
    if said is not None:
        assert found == said
    for piece in found.split(": ")[1:]:
        if piece.startswith("convoscope."):
            ast.parse(piece.partition(", or")[0])
