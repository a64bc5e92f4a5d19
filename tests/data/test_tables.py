"""Tables as other programs write them: which column is what, what it means, where the pictures are, what is left out."""

import csv
import io
import json
import os
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convoscope.data import Dataset, InputFormat, TableOptions, load
from convoscope.errors import ConvoscopeError, DataError, UsageError
from tests.support.pictures import encoded

COUNT = 24
KINDS = [encoded(np.full((5, 5, 3), 9 * row, np.uint8)) for row in range(COUNT)]
NAMES = [f"{row}.png" for row in range(COUNT)]


def export(folder: Path, text: str | bytes, *, name: str = "t.csv", files: Sequence[str] = NAMES) -> Path:
    """A table with pictures beside it."""
    for row, file in enumerate(files):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(KINDS[row % COUNT])
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def rows(header: str, row: Callable[[int], str], count: int = COUNT) -> str:
    """The text of a table: a header, if there is one, and a line for each picture."""
    return "".join(f"{line}\n" for line in ([header] if header else []) + [row(number) for number in range(count)])


def below(start: str, count: int = COUNT, kinds: str = "ab") -> str:
    """The text of a table whose paths begin like this."""
    return rows("path,label", lambda r: f"{start}{r}.png,{kinds[r % len(kinds)]}", count)


def refused(path: Path, code: str, **options: Any) -> ConvoscopeError:
    with pytest.raises(ConvoscopeError) as caught:
        load(path, **options)
    assert caught.value.code == code
    return caught.value


def accounted(dataset: Dataset) -> None:
    """Every row is an image, a further row of one, or named as left out."""
    assert dataset.rows is not None
    assert dataset.rows.images == len(dataset)
    assert dataset.rows.total == dataset.rows.images + dataset.rows.repeated + len(dataset.rows.left_out)


def noted(dataset: Dataset, words: str) -> bool:
    return any(words in note for note in dataset.notes)


# --- which column, and what it means ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "task", "classes", "words"),
    [
        # several columns of 0 and 1 are labels; one is two classes
        (rows("filename, disc, red", lambda r: f"{r}.png,{r % 2},{int(r % 3 > 0)}"), "multi-label", ("disc", "red"), "the columns disc, red are labels, 1 where an image has one (--label-column, --task)"),
        (rows("path,has_cat,has_dog", lambda r: f"{r}.png,{r % 2 == 0},{r % 3 == 0}"), "multi-label", ("has_cat", "has_dog"), "are labels"),
        (rows("image_id,Bald,Smiling", lambda r: f"{r}.png,{1 if r % 2 else -1},{1 if r % 3 else -1}"), "multi-label", ("Bald", "Smiling"), "are labels"),
        (rows("image,A,B,C", lambda r: f"{r}.png," + ",".join(f"{float(r % 3 == k)}" for k in range(3))), "multi-label", ("A", "B", "C"), "each row has exactly one: --task classification reads them as classes"),
        (rows("path,is_cat", lambda r: f"{r}.png,{r % 2}"), "classification", ("0", "1"), "only 0 and 1 occur"),
        # text before numbers, whatever the columns are called
        (rows("annotation_id,annotator,choice,created_at,id,image,lead_time", lambda r: f"{100 + 3 * r},1,{'ab'[r % 2]},2025-01-01T10:00:00Z,{r * r},{r}.png,{1.5 + r / 7}"), "classification", ("a", "b"), "ignored: annotation_id, annotator, created_at, id, lead_time"),
        (rows("path,score,animal", lambda r: f"{r}.png,{r / 7:.2f},{'ab'[r % 2]}"), "classification", ("a", "b"), "the column animal is read as classes: each cell holds one name (--label-column, --task)"),
        (rows("filename,width,class,xmin", lambda r: f"{r}.png,64,{'ab'[r % 2]},{r}"), "classification", ("a", "b"), "ignored: width, xmin"),
        (rows("image,mask,label", lambda r: f"{r}.png,{(r + 1) % COUNT}.png,{'ab'[r % 2]}"), "classification", ("a", "b"), "ignored: mask"),
        # whole numbers
        (rows("path,label", lambda r: f"{r}.png,{r % 12}"), "classification", tuple(map(str, range(12))), "whole numbers with only 12 different values"),
        (rows("path,label", lambda r: f"{r}.png,{r:05d}"), "classification", tuple(f"{r:05d}" for r in range(COUNT)), "whole numbers that begin with zeros are names"),
        (rows("path,label", lambda r: f"{r}.png,{r % 4}.0"), "classification", ("0", "1", "2", "3"), "whole numbers with only 4"),
        (rows("path,label", lambda r: f'{r}.png,"=""000{r % 3}"""'), "classification", ("0000", "0001", "0002"), "begin with zeros"),
        (rows("Filename;Width;Roi.X1;ClassId", lambda r: f"{r}.png;{30 + r % 5};{r % 7};{r % 3}"), "classification", ("0", "1", "2"), "ignored: Width, Roi.X1"),
        (rows("path,place,rest", lambda r: f"{r}.png,{r % 3},{10 - r % 3}"), "regression", ("place", "rest"), "the columns place, rest are numbers to be predicted (--label-column, --task)"),
        # columns that only count or identify are not predicted
        (rows(",path,price", lambda r: f"{r},{r}.png,{r / 7:.3f}"), "regression", ("price",), "ignored: column 1"),
        (rows("Unnamed: 0,path,price", lambda r: f"{3 * r},{r}.png,{r / 7:.3f}"), "regression", ("price",), "ignored: Unnamed: 0"),
        (rows("path,label,label", lambda r: f"{r}.png,{'ab'[r % 2]},{'ab'[r % 2]}"), "classification", ("a", "b"), "ignored: label (2)"),
        # several labels in a cell
        (rows("image,tags", lambda r: f"{r}.png,{('disc', 'disc red', 'square', 'square red dark', 'cross dark')[r % 5]}"), "multi-label", ("cross", "dark", "disc", "red", "square"), "divided by a blank"),
        (rows("image,x", lambda r: f'{r}.png,"{("disc", "disc,red", "square", "square, red")[r % 4]}"'), "multi-label", ("disc", "red", "square"), "divided by ,"),
        (rows("image,x", lambda r: f"{r}.png,{('disc', 'disc|red')[r % 2]}"), "multi-label", ("disc", "red"), "divided by |"),
        (rows("image,x", lambda r: f"{r}.png,\"['a'{', ' + chr(39) + 'b' + chr(39) if r % 2 else ''}]\""), "multi-label", ("a", "b"), "its cells are lists"),
        (rows("image,choice", lambda r: f'{r}.png,"{{""choices"": [""a"", ""b""]}}"' if r % 3 else f"{r}.png,{'ab'[r % 2]}"), "multi-label", ("a", "b"), "its cells are lists"),
        (rows("path,city", lambda r: f"{r}.png,{('New York', 'Los Angeles', 'New Orleans', 'San Diego', 'San Jose', 'Boston')[r % 6]}"), "classification", ("Boston", "Los Angeles", "New Orleans", "New York", "San Diego", "San Jose"), "each cell holds one name"),
        (rows("path,city", lambda r: f'{r}.png,"{("Paris, France", "Lyon, France", "Berlin, Germany", "Rome, Italy")[r % 4]}"'), "classification", ("Berlin, Germany", "Lyon, France", "Paris, France", "Rome, Italy"), "each cell holds one name"),
        (rows("path,label_1,label_2", lambda r: f"{r}.png,{'ab'[r % 2]},{'c' if r % 3 else ''}"), "multi-label", ("a", "b", "c"), "the columns label_1, label_2 hold labels"),
        # numbers as Excel writes them in German
        ("sep=;\r\n" + rows("Bild;Größe;Notiz;", lambda r: f"{r}.png;{r},5;schön {r};") + ";;;\r\n" * 3, "regression", ("Größe",), "the cells are divided by semicolons (--separator)"),
        # no header
        (rows("", lambda r: f"{('TRAIN', 'VALIDATION', 'TEST')[r % 3]},gs://bucket/pictures/{r}.png,{'ab'[r % 2]}"), "classification", ("a", "b"), "the parts are in column 1"),
        (rows("", lambda r: f"UNASSIGNED,gs://bucket/{r}.png,{'ab'[r % 2]}" + (",small" if r % 3 else "")), "multi-label", ("a", "b", "small"), "column 3, column 4 hold labels"),
        (rows("", lambda r: f"{r}.png {r % 4}"), "classification", ("0", "1", "2", "3"), "divided by blanks"),
    ],
)  # fmt: skip
def test_what_exports_mean(tmp_path: Path, text: str, task: str, classes: tuple[str, ...], words: str) -> None:
    # Some classes have one image only: the classes that are known here let that pass.
    path = export(tmp_path, text, name="t.txt" if text.startswith("0.png ") else "t.csv")
    if classes[0] == "00000":
        assert noted_in_error(path) == "class-too-small"
        return
    dataset = load(path)
    assert (dataset.task, dataset.classes, len(dataset)) == (task, classes, COUNT)
    assert noted(dataset, words), dataset.notes
    accounted(dataset)


def noted_in_error(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        load(path)
    return caught.value.code


@pytest.mark.parametrize(
    ("header", "row", "columns"),
    [
        ("path,is_cat,weight", lambda r: f"{r}.png,{r % 2},{r / 3:.2f}", ("is_cat", "weight")),
        ("path,class_id,type_id", lambda r: f"{r}.png,{r % 5},{r % 7}", ("class_id", "type_id")),
        ("path,target,animal", lambda r: f"{r}.png,{r / 7:.2f},{'ab'[r % 2]}", ("target", "animal")),
        ("path,animal,site,age", lambda r: f"{r}.png,{'ab'[r % 2]},{'xy'[r % 3 % 2]},{7 * r}", ("animal", "site", "age")),
        ("path,score,found", lambda r: f"{r}.png,{r / 7:.2f},place {max(r, 1)}", ("score", "found")),
        ("path,label,class", lambda r: f"{r}.png,{'ab'[r % 2]},{'xy'[r % 3 % 2]}", ("label", "class")),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_asked(
    tmp_path: Path, header: str, row: Callable[[int], str], columns: tuple[str, ...]
) -> None:
    path = export(tmp_path, rows(header, row))
    error = refused(path, "table-question")
    for name in columns:
        assert f"--label-column {name}" in error.hint
        assert name == "found" or len(load(path, label_column=name)) == COUNT
    if "_id" in header:
        assert "--task regression" in error.hint
        assert load(path, task="regression").classes == columns


def test_whole_numbers_written_with_decimals_are_asked_for(tmp_path: Path) -> None:
    path = export(tmp_path, rows("path,stars", lambda r: f"{r}.png,{r % 4}.0"))
    error = refused(path, "table-question")
    assert error.hint == "say which: --task classification or --task regression"
    assert load(path, task="classification").classes == ("0", "1", "2", "3")
    assert load(path, task="regression").targets[3].tolist() == [3.0]


def test_classes_that_may_be_numbers_say_how_to_read_them_so(tmp_path: Path) -> None:
    path = export(tmp_path, rows("path,age", lambda r: f"{r}.png,{7 if r == 3 else 20 + r % 6}"))
    assert "if these are numbers to be predicted: --task regression" in refused(path, "class-too-small").hint


def test_every_choice_can_be_overruled(tmp_path: Path) -> None:
    text = rows("a,b,c,d", lambda r: f"{r}.png;{(r + 1) % COUNT}.png;{r % 3}|{r % 2};{r / 7:.2f}".replace(";", ","))
    path = export(tmp_path, text)
    assert load(path, path_column="b", label_column="c", task="classification").names[0] == "1.png"
    labels = load(path, path_column="a", label_column=["c"], label_separator="|")
    assert (labels.task, labels.classes) == ("multi-label", ("0", "1", "2"))
    assert load(path, label_column="d").task == "regression"
    one_hot = export(tmp_path, rows("path,A,B", lambda r: f"{r}.png,{r % 2},{1 - r % 2}"), name="one.csv")
    assert load(one_hot, task="classification").classes == ("A", "B")
    assert load(one_hot, task="classification").targets[:2].tolist() == [1, 0]
    assert load(one_hot, task="regression").targets[1].tolist() == [1.0, 0.0]
    assert load(one_hot, layout="csv:labels").targets[1].tolist() == [1, 0]
    assert load(one_hot, label_column="A").task == "classification"
    ages = export(tmp_path, rows("path,age", lambda r: f"{r}.png,{20 + r % 6}"), name="ages.csv")
    assert (load(ages).task, load(ages, task="regression").task) == ("classification", "regression")
    odd = export(tmp_path, rows("path^label", lambda r: f"{r}.png^{'ab'[r % 2]}"), name="odd.csv")
    assert load(odd, separator="^").classes == ("a", "b")
    tabs = export(tmp_path, rows("path\tlabel", lambda r: f"{r}.png\t{'ab'[r % 2]}"), name="tabs.csv")
    assert load(tabs, separator="tab").classes == load(tabs).classes == ("a", "b")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"path_column": "pth"}, "table-column-missing", "has no column 'pth'; it has path, label"),
        ({"label_column": "x"}, "table-column-missing", "has no column 'x'"),
        ({"label_column": 3}, "table-option-invalid", "expected text; received 3"),
        ({"task": "classes"}, "table-option-invalid", "expected classification, multi-label, regression"),
        ({"separator": ";;"}, "table-option-invalid", "expected one character, or tab"),
        ({"separator": '"'}, "table-option-invalid", "expected one character"),
        ({"label_separator": ""}, "table-option-invalid", "received nothing"),
        ({"encoding": "utf-9"}, "table-option-invalid", "received 'utf-9'"),
        ({"encoding": "rot13"}, "table-option-invalid", "received 'rot13'"),
        ({"root": "nowhere"}, "table-root", "is not a folder"),
        ({"layout": "csv:labels", "task": "regression"}, "option-twice", "contradicts --layout csv:labels"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_followed(tmp_path: Path, options: dict[str, Any], code: str, words: str) -> None:
    path = export(tmp_path, rows("path,label", lambda r: f"{r}.png,{'ab'[r % 2]}"))
    error = refused(path, code, **options)
    assert isinstance(error, UsageError) and words in str(error) and error.hint


def test_options_of_tables_are_refused_for_anything_else(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        export(tmp_path / name, b"", files=NAMES[:3], name="note")
    for source in (tmp_path, "builtin:lines", load(tmp_path)):
        with pytest.raises(UsageError, match="is for tables") as caught:
            load(source, task="regression")
        assert (caught.value.code, caught.value.path) == ("table-option-elsewhere", "--task")


# --- encodings and lines -------------------------------------------------------------------------------------------------

GERMAN = rows("Bild;Tier", lambda r: f"{r}.png;{('Bär', 'Füchse', 'Käfer')[r % 3]}")


@pytest.mark.parametrize(
    ("text", "encoding", "said"),
    [
        (GERMAN, "utf-8", None),
        (GERMAN, "utf-8-sig", None),
        (GERMAN, "utf-16", "utf-16"),
        (GERMAN, "utf-16-le", "utf-16-le"),
        (GERMAN, "cp1252", "cp1252"),
        (rows("plik;zwierzę", lambda r: f"{r}.png;{('łoś', 'źrebię', 'żółw')[r % 3]}"), "cp1250", "cp1250"),
        (rows("файл;животное", lambda r: f"{r}.png;{('заяц', 'лиса', 'медведь')[r % 3]}"), "cp1251", "cp1251"),
        (rows("file;label", lambda r: f"{r}.png;{('ぶどう', 'みかん', 'りんご')[r % 3]}"), "shift_jis", "cp932"),
    ],
)
def test_encodings_are_told_and_said(tmp_path: Path, text: str, encoding: str, said: str | None) -> None:
    path = export(tmp_path, text.encode(encoding))
    dataset = load(path)
    assert set(dataset.classes) == {line.split(";")[1] for line in text.split("\n")[1:4]}
    assert noted(dataset, f"the text is read as {said} (--encoding)") == (said is not None)
    assert load(path, encoding=encoding).classes == dataset.classes
    assert dataset.table is not None and dataset.table.encoding == (said or "utf-8")


def test_text_that_is_not_in_the_named_encoding(tmp_path: Path) -> None:
    path = export(tmp_path, GERMAN.encode("cp1252"))
    assert "line 2 is not text in utf-8" in str(refused(path, "table-encoding", encoding="utf-8"))


def test_file_names_in_the_tables_encoding(tmp_path: Path) -> None:
    names = [os.fsdecode(f"Käfer{row}.png".encode("latin-1")) for row in range(COUNT)]
    text = rows("Bild;Tier", lambda r: f"Käfer{r}.png;{'ab'[r % 2]}").encode("cp1252")
    assert load(export(tmp_path, text, files=names)).names == names


def test_rows_that_are_left_out_are_named_with_their_lines(tmp_path: Path) -> None:
    text = (
        'path,label,\n0.png,"a\nb",\n1.png,b\n2.png,b,,,\n3.png,"a\nb"\n'
        + ",,\n\n"
        + "gone.png,b\n4.png,b,c,d\n5.png,\n"
    )
    text += "".join(f"{row}.png,b\n" for row in range(6, 20)) + "20.png\n, b\n"
    dataset = load(export(tmp_path, text))
    assert dataset.rows is not None
    assert list(dataset.rows.left_out) == [
        (8, "is empty"),
        (9, "is empty"),
        (10, "is not there"),
        (11, "has 4 cells, the first line 3"),
        (12, "has no label"),
        (27, "has 1 cell, the first line 3"),
        (28, "is not a path"),
    ]
    accounted(dataset)
    assert noted(dataset, "the table has 25 rows: 18 images, 7 left out")
    assert noted(dataset, "left out: lines 8 to 9, 2 rows, each is empty")
    assert noted(dataset, "left out: line 12, which has no label")
    assert [one.path for one in dataset.skipped] == ["gone.png", "line 11", "line 27", "line 28"]


def test_an_open_quote_swallows_no_rows(tmp_path: Path) -> None:
    text = rows("path,label", lambda r: f"{r}.png,{chr(34) if r == 5 else ''}a")
    error = refused(export(tmp_path, text), "csv-line")
    assert "line 7 cannot be read" in str(error) and "quotes" in error.hint


@pytest.mark.parametrize(
    ("line", "words"),
    [("{", "line 25 is not JSON"), ("[1]", "line 25 is not a JSON object"), ("[" * 100_000, "line 25 is not JSON")],
)
def test_json_lines(tmp_path: Path, line: str, words: str) -> None:
    def row(number: int) -> dict[str, Any]:
        labels = ["cat"] * (number % 2) + ["dog"] * (number % 3 == 0)
        return {"image": {"path": f"{number}.png", "width": 5}, "labels": labels, "score": number / 3, "ok": None}

    lines = rows("", lambda r: json.dumps(row(r)))
    dataset = load(export(tmp_path, lines, name="metadata.jsonl"))
    assert (dataset.task, dataset.classes, dataset.names[3]) == ("multi-label", ("cat", "dog"), "3.png")
    assert dataset.targets[:4].tolist() == [[0, 1], [1, 0], [0, 0], [1, 1]]
    accounted(dataset)
    assert words in str(refused(export(tmp_path, lines + line, name="metadata.jsonl"), "csv-line"))


# --- where the pictures are ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "file"),
    [
        (lambda r: f"img\\{r}.png", lambda r: f"img/{r}.png"),
        (lambda r: f"IMG/{r}.PNG", lambda r: f"img/{r}.png"),
        (lambda r: unicodedata.normalize("NFC", f"Käfer{r}.png"), lambda r: unicodedata.normalize("NFD", f"Käfer{r}.png")),
        (lambda r: f"img/{r}", lambda r: f"img/{r}.jpeg"),
        (lambda r: f"{r:03d}", lambda r: f"train/{r:03d}.png"),
        (lambda r: f"  {r}.png ", lambda r: f"{r}.png"),
        (lambda r: f"./img/../img/{r}.png", lambda r: f"img/{r}.png"),
        (lambda r: f"/data/upload/7/{r}-a.png", lambda r: f"upload/{r}-a.png"),
        (lambda r: f"/data/local-files/?d=set/{r}.png", lambda r: f"set/{r}.png"),
        (lambda r: f"gs://bucket/x/{r}.png", lambda r: f"{r}.png"),
        (lambda r: f"https://example.org/x/{r}%20a.png?size=1", lambda r: f"x/{r} a.png"),
        (lambda r: f"C:\\Users\\me\\set\\{r}.png", lambda r: f"set/{r}.png"),
        (lambda r: f"/home/somebody/set/{'ab'[r % 2]}/{r // 2}.png", lambda r: f"{'ab'[r % 2]}/{r // 2}.png"),
    ],
)  # fmt: skip
def test_paths_as_other_systems_write_them(
    tmp_path: Path, cell: Callable[[int], str], file: Callable[[int], str]
) -> None:
    files = [file(row) for row in range(COUNT)]
    dataset = load(export(tmp_path, rows("image,label", lambda r: f"{cell(r)},{'ab'[r % 2]}"), files=files))
    assert dataset.names == files
    accounted(dataset)
    if cell(1).strip() not in files and ".." not in cell(1):
        assert noted(
            dataset, f"{COUNT} paths are written otherwise than their files, such as {cell(0).strip()} for {file(0)}"
        )


def test_absolute_paths_and_links_inside_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    link = tmp_path / "link"
    path = export(folder, "", files=[f"img/{name}" for name in NAMES])
    link.symlink_to(folder)
    for start in (folder, link):
        path.write_text(below(f"{start}/img/"))
        assert load(path).names == [f"img/{name}" for name in NAMES]


def test_pictures_outside_need_a_root_that_the_hint_names(tmp_path: Path) -> None:
    export(tmp_path, "", files=[f"images/{name}" for name in NAMES])
    for text in ("../images/", f"{tmp_path}/images/"):
        path = export(tmp_path / "labels", below(text), files=[])
        error = refused(path, "csv-paths")
        assert "../images/0.png is outside of the table's root folder" in str(error) or text != "../images/"
        assert f"--root {tmp_path}" in error.hint
        dataset = load(path, root=tmp_path)
        assert dataset.names[0] == "images/0.png"
        assert dataset.table is not None and dataset.table.root == str(tmp_path)
    bare = export(tmp_path / "labels", rows("path,label", lambda r: f"{r}.png,{'ab'[r % 2]}"), files=[])
    assert load(bare, root=tmp_path / "images").names == NAMES


def test_what_is_not_there_is_told_with_the_nearest(tmp_path: Path) -> None:
    text = rows("path,label", lambda r: f"{'cats/Tom' if r == 3 else r}.png,{'ab'[r % 2]}")
    dataset = load(export(tmp_path, text, files=[*NAMES, "cats/Tim.png"]))
    assert [(one.path, one.reason) for one in dataset.skipped] == [
        ("cats/Tom.png", "is not there; the nearest is cats/Tim.png (line 5)")
    ]


def test_a_picture_that_is_not_the_only_one_is_not_taken(tmp_path: Path) -> None:
    text = rows("Id,Category", lambda r: f"{r},{'ab'[r % 2]}")
    dataset = load(export(tmp_path, text, files=[*(f"train/{name}" for name in NAMES), "test/3.png"]))
    assert [(one.path, one.reason) for one in dataset.skipped] == [("3", "can be test/3.png or train/3.png (line 5)")]
    # A folder in the path is part of what it says.
    text = rows("path,label", lambda r: f"cats/{r}.png,{'ab'[r % 2]}")
    assert "the nearest is dogs/0.png" in str(
        refused(export(tmp_path / "b", text, files=[f"dogs/{n}" for n in NAMES]), "csv-paths")
    )
    # Two paths of another machine end alike: neither is sure.
    text = rows("path,label", lambda r: f"/x/{'cats' if r % 2 else 'dogs'}/{r // 2}.png,{'ab'[r % 2]}")
    error = refused(export(tmp_path / "c", text, files=NAMES), "csv-paths")
    assert "can be 0.png, but so can another path" in str(error)


# --- several rows of a picture -------------------------------------------------------------------------------------------


def test_rows_of_one_picture(tmp_path: Path) -> None:
    boxes = "filename,class,xmin\n" + "".join(
        f"{r}.png,{kind},{box}\n" for r in range(COUNT) for kind in "abc"[: 1 + r % 3] for box in (1, 2)
    )
    dataset = load(export(tmp_path, boxes))
    assert (dataset.task, dataset.classes, len(dataset)) == ("multi-label", ("a", "b", "c"), COUNT)
    assert dataset.targets[:3].tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert noted(
        dataset, "the column class is read as labels: 16 images have rows with different ones (--label-column, --task)"
    )
    assert noted(dataset, "72 rows name an image that has a row already")
    accounted(dataset)
    error = refused(tmp_path / "t.csv", "table-contradiction", task="classification")
    assert "1.png is a in line 4 and b in line 6" in str(error)
    twice = rows("path,label", lambda r: f"{r % COUNT}.png,{'ab'[r % 2]}", 2 * COUNT)
    dataset = load(export(tmp_path, twice))
    assert (dataset.task, len(dataset)) == ("classification", COUNT)
    accounted(dataset)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (rows("path,score", lambda r: f"{r}.png,{r / 7:.2f}") + "3.png,99.5\n", "3.png is 0.43 in line 5 and 99.5 in line 26"),
        (rows("path,label,split", lambda r: f"{r}.png,{'ab'[r % 2]},train") + "3.png,b,test\n", "3.png is in the train part in line 5 and in the test part in line 26"),
        (rows("path,A,B", lambda r: f"{r}.png,{r % 2},{r % 3 % 2}"), "has 0 classes; expected a single 1"),
    ],
)  # fmt: skip
def test_contradictions_are_named(tmp_path: Path, text: str, words: str) -> None:
    options = {"task": "classification"} if "A,B" in text else {}
    assert words in str(refused(export(tmp_path, text), "table-contradiction", **options))


def test_parts_with_a_table_each(tmp_path: Path) -> None:
    for part, kinds in (("train", "abc"), ("valid", "ab"), ("test", "bc")):
        text = below("", 12, kinds)
        export(tmp_path / part, text + "gone.png,a\n", name="_annotations.csv", files=NAMES[:12])
    dataset = load(tmp_path)
    assert (dataset.task, dataset.classes, len(dataset)) == ("classification", ("a", "b", "c"), 36)
    assert np.bincount(dataset.splits).tolist() == [12, 12, 12]
    assert [dataset.names[row] for row in (0, 12, 24)] == ["train/0.png", "valid/0.png", "test/0.png"]
    assert [dataset.classes[dataset.targets[row]] for row in (0, 12, 24)] == ["a", "a", "b"]
    assert [one.path for one in dataset.skipped] == ["train/gone.png", "valid/gone.png", "test/gone.png"]
    assert np.asarray(dataset.images.decode(30, InputFormat(height=5, width=5, channels=1))).max() == 9 * 6
    accounted(dataset)
    export(
        tmp_path / "test",
        rows("filename,score", lambda r: f"{r}.png,{r / 7:.2f}", 12),
        name="_annotations.csv",
        files=[],
    )
    refused(tmp_path, "table-parts-differ")


# --- a further table of the same kind ------------------------------------------------------------------------------------


def test_a_table_is_read_like_another(tmp_path: Path) -> None:
    first = load(export(tmp_path, rows("path;labels;note", lambda r: f"{r}.png;{'a|b' if r % 2 else 'a'};x")))
    assert first.table == TableOptions(
        path_column="path", label_columns=("labels",), task="multi-label", separator=";", label_separator="|", encoding="utf-8"
    )  # fmt: skip
    other = export(
        tmp_path, rows("note,labels,path", lambda r: f"{'xy'[r % 2]},{'ab'[r % 2]},{r}.png"), name="other.csv"
    )
    assert load(other).task == "classification"
    alike = load(other, like=first.table)
    assert (alike.task, alike.classes) == ("multi-label", ("a", "b"))
    assert load(other, like=first.table, task="classification").task == "classification"
    assert TableOptions.of(first.table.keywords()) == first.table


def test_labels_in_rows_of_their_own_are_read_so_again(tmp_path: Path) -> None:
    text = rows(
        "path,label", lambda r: f"{r % COUNT}.png,{'' if r == 5 else 'abc'[r % 3 + (r >= COUNT) - 1]}", COUNT + 2
    )
    dataset = load(export(tmp_path, text))
    again = load(tmp_path / "t.csv", like=dataset.table)
    assert (again.task, again.classes, again.names) == (dataset.task, dataset.classes, dataset.names)
    assert dataset.task == "multi-label" and len(again) == COUNT - 1
    accounted(again)


def test_the_root_of_another_table(tmp_path: Path) -> None:
    export(tmp_path, "", files=[f"images/{name}" for name in NAMES])
    text = rows("path,label", lambda r: f"images/{r}.png,{'ab'[r % 2]}")
    first = load(export(tmp_path / "labels", text, files=[]), root=tmp_path)
    other = export(tmp_path / "later", text, files=[])
    again = load(other, like=first.table)
    assert again.names == first.names and not noted(again, "written otherwise")
    refused(other, "csv-paths")


# --- any table -----------------------------------------------------------------------------------------------------------

TEXTS = st.sampled_from(["cat", "dog", "New York", "a;b", "a|b", "red round", "Bär", "=1+1", 'quo"te', "line\nend", "x,y", "", " ", "nan", "None", "\0", "0", "1", "00007", "3,5", "1e5", "TRUE", "[1, 2]", "{}", "🍎", "ｶ"])  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-3, 12).map(str), st.floats(-5, 5).map(lambda x: f"{x:.2f}"), st.floats(-5, 5).map(lambda x: f"{x:.2f}".replace(".", ","))
)  # fmt: skip
COLUMNS = st.one_of(
    st.tuples(st.sampled_from(["label", "labels", "class", "choice", "animal", "x", ""]), st.just(TEXTS)),
    st.tuples(st.sampled_from(["label", "score", "target", "id", "Unnamed: 0", "", "y"]), st.just(NUMBERS)),
    st.tuples(st.sampled_from(["disc", "red", "label"]), st.just(st.sampled_from(["0", "1"]))),
    st.tuples(
        st.sampled_from(["split", "part", "set"]), st.just(st.sampled_from(["train", "val", "test", "Train", ""]))
    ),
    st.tuples(st.sampled_from(["label", "tags"]), st.just(st.lists(st.sampled_from("abcd"), max_size=3).map(" ".join))),
    st.tuples(st.sampled_from(["label", "kind"]), st.just(st.sampled_from(["cat", "dog", "hen"]))),
)
PATHS = st.one_of(
    st.integers(0, COUNT - 1).map(lambda r: f"{r}.png"),
    st.sampled_from(
        [
            "0",
            "3.PNG",
            ".\\4.png",
            "/x/5.png",
            "gs://b/6.png",
            "gone.png",
            "../out.png",
            " 7.png",
            "",
            "\0",
            "img/8.png",
        ]
    ),
)


@st.composite
def generated(draw: st.DrawFn) -> tuple[bytes, list[str] | None, list[list[str]]]:
    """A table as bytes, its header, if it has one, and its rows."""
    kinds = draw(st.lists(COLUMNS, min_size=0, max_size=4))
    place = draw(st.integers(0, len(kinds)))
    header = [name for name, _ in kinds]
    header.insert(place, draw(st.sampled_from(["path", "image", "file_name", "id", "column", ""])))
    count = draw(st.integers(0, 30))
    plain = draw(st.booleans())
    separator = draw(st.sampled_from([",", ";", "\t", "|"]))
    table: list[list[str]] = []
    for row in range(count):
        if draw(st.integers(0, 19)) == 0:
            table.append([""] * len(header) if len(header) > 1 else [])
            continue
        cells = [draw(cell) for _, cell in kinds]
        cells.insert(place, f"{row % COUNT}.png" if plain else draw(PATHS))
        length = draw(st.sampled_from([0] * 20 + [1, -1]))
        table.append(cells + ["more"] * length if length >= 0 else cells[:length])
    if draw(st.booleans()) and table:
        table.append(table[0])
    with_header = draw(st.integers(0, 4)) > 0
    text = io.StringIO()
    writer = csv.writer(
        text,
        delimiter=separator,
        quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
        lineterminator=draw(st.sampled_from(["\n", "\r\n"])),
    )
    writer.writerows([header] * with_header + table)
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]))
    return text.getvalue().encode(encoding, "replace"), header if with_header else None, table


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    export(folder, "")
    (folder / "t.csv").unlink()
    return folder


TASKS: Mapping[str, str] = {"classification": "classes", "multi-label": "labels", "regression": "numbers"}


@settings(max_examples=int(os.environ.get("CONVOSCOPE_FUZZ_TABLES", "150")))
@given(generated())
def test_any_table_is_read_or_refused_and_no_row_is_lost(
    pictures: Path, table: tuple[bytes, list[str] | None, list[list[str]]]
) -> None:
    content, header, rows_written = table
    path = pictures / "fuzzed.csv"
    path.write_bytes(content)
    try:
        dataset = load(path)
    except ConvoscopeError as error:
        assert error.reason and error.code
        return
    accounted(dataset)
    count = len(rows_written)
    assert dataset.rows is not None and dataset.rows.total in ((count,) if header else (count, count - 1))
    assert len({line for line, _ in dataset.rows.left_out}) == len(dataset.rows.left_out)
    assert noted(dataset, TASKS[dataset.task]), dataset.notes
    assert dataset.table is not None
    if dataset.task == "regression" and header is not None and not dataset.rows.left_out:
        for place, name in enumerate(header):
            cells = [row[place].strip() for row in rows_written]
            if set(cells) <= {"cat", "dog", "hen"} and len(cells) >= 2 * len(set(cells)) > 2:
                pytest.fail(f"{name} was passed over: {dataset.notes}")
    again = load(path, like=dataset.table)
    assert (again.task, again.classes, again.names) == (dataset.task, dataset.classes, dataset.names)
