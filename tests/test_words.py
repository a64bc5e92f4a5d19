"""One word for one thing: the field's own. Words that were given up stay out of the code, the handbook and the page, German included.

Each pattern goes with the word to use instead. A space in a pattern stands for any white space, so that a line's end hides nothing.
CHANGELOG.md is not read: it names what was renamed.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENDS = {".py", ".md", ".ts", ".svelte", ".css", ".html", ".json", ".toml"}
READ = [
    path
    for path in [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "zensical.toml")),
        *(path for folder in ("src/convoscope", "docs", "web/src", "benchmarks", "tools") for path in (ROOT / folder).rglob("*")),
    ]
    if path.suffix in ENDS and path.is_file() and path.name != "reference.json" and "page" not in path.parts  # the built page
]  # fmt: skip

WORDS = {
    # terms of the field
    r"(?<!\bin\s)\bfronts?\b(?! doors?\b)": "backbone",
    r"\bopen_front\b": "open_backbone",
    r"\bstrangers?\b|\blearn_strangers\b": "out-of-distribution; a person: somebody else",
    r"\bquieted\b|\bVariation\b": "whitening, within-class covariance",
    r"--cut\b|\bcut behind\b|\bbackbones? (?:is |was |not |may be )?cut\b|\bthe cut\b": "feature layer",
    r"--views\b|\blooks at each\b|\blooked at \S+ times\b": "augmented views",
    r"--accept(?![-\w])": "--coverage",
    r"\bpull(?:s|ed)?\b[^.]{0,60}?\btowards zero\b": "L2 penalty",
    r"\bSTRENGTHS\b": "L2_PENALTIES",
    r"\bmeans?(?:,| and) (?:a |the )?spread\b|\b(?:no|their) spread\b|; spread \{|\bspread = .*\.std\(": "standard deviation",
    r"\bkept features\b": "cached features",
    # names
    r"\bclass (?:Front|Way|Row|Part|Keeper|Average|Field|Unfit|Sliding|Inside|Variation|Strangers)\b": "the names of docs/architecture.md",
    r"\b_Wish\b|\b_Lesson\b|\bKeeper\b|\brate_shares?\b": "TransferOptions, HeadFit, CheckpointWriter, lr_factor",
    r"\bdef (?:judge|remember|glance|exciting|grown|quiet|open_front)\(|\.(?:judge|glance|exciting|grown)\(": "what it computes",
    r"\bfeature_vectors\b|\bmoved_scores\b|\bleft_as_found\b": "embeddings, transform_sensitivity, preserve_state",
    # plain English
    r"\bsaid aloud\b": "printed, reported",
    r"\bbug of its own\b": "internal error (a bug in convoscope)",
    r"\bno proper\b": "not valid",
    r"\bis no result\b": "is not a result",
    r"\b(?:up to|only|after|at most|about|of|as|from|adds|first|every|with|between) so many\b": "this many",
    # German
    r"\bFremden?\b": "Unbekannte, außerhalb der Verteilung",
    r"\bVorderteile?s?\b|\bFront\b": "Backbone",
    r"\bStreuung\b": "Standardabweichung",
}

# Nouns, and names of things that the field calls so. Other file names in -ing become nouns.
NOUNS = {
    "drawing",
    "folding",
    "freezing",
    "listing",
    "overfitting",
    "packaging",
    "parsing",
    "pooling",
    "shading",
    "string",
    "testing",
    "training",
    "troubleshooting",
    "tuning",
    "unpacking",
    "whitening",
}


def old_words(text: str) -> list[tuple[int, str, str]]:
    """The words that were given up: the line of each, the word, and what to write instead."""
    found = []
    for pattern, instead in WORDS.items():
        for match in re.finditer(pattern.replace(" ", r"\s+"), text):
            found.append((text.count("\n", 0, match.start()) + 1, " ".join(match[0].split()), instead))
    return found


def test_there_is_something_to_read() -> None:
    assert len(READ) > 200
    assert {path.suffix for path in READ} >= {".py", ".md", ".ts", ".svelte"}


@pytest.mark.parametrize("part", ["src", "docs", "web", "benchmarks", "tools", "."])
def test_old_words_are_gone(part: str) -> None:
    faults = [
        f"{path.relative_to(ROOT)}:{line}: {word!r}: {instead}"
        for path in READ
        if (path.relative_to(ROOT).parts[0] if path.parent != ROOT else ".") == part
        for line, word, instead in old_words(path.read_text("utf-8"))
    ]
    assert not faults, "\n".join(faults)


def test_files_are_named_by_nouns() -> None:
    folders = [ROOT / name for name in ("src/convoscope", "web/src", "tests", "tools", "benchmarks", "docs")]
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in ENDS and path.is_file()]
    last = {path: re.split(r"[_-]", path.name.partition(".")[0])[-1].lower() for path in files}
    assert [
        str(path.relative_to(ROOT)) for path, word in last.items() if word.endswith("ing") and word not in NOUNS
    ] == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("the front learns too", "front"),
        ("Stand in\nfront of the front door, and of both front doors.", None),
        ("how a stranger\nis told", "stranger"),
        ("the weights are pulled a little\ntowards zero", "pulled a little towards zero"),
        ("a mean and\na spread", "mean and a spread"),
        ("probability mass spread\nevenly over all classes", None),
        ("train --accept-data-change", None),
        ("relearn --accept 0.9", "--accept"),
        ("turn by up to so\nmany degrees", "up to so many"),
        ("Die Streuung der Werte", "Streuung"),
        ("eine fremde Seite", None),
    ],
)
def test_an_old_word_is_found(text: str, word: str | None) -> None:
    assert [found for _, found, _ in old_words(text)] == ([] if word is None else [word])
