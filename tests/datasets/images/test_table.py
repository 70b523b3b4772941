"""Images with their labels in a table: how rows name them, and what is refused."""

import json
import shutil

import numpy as np
import pytest

from comhe.datasets import DataError

from .test_folder import load


@pytest.fixture
def flat(small):
    """The same images without folders for their classes: FOLDER/images/TRAIN_0000.png."""
    for split in ("train", "test"):
        for name in "ab":
            for path in (small / split / name).iterdir():
                (small / "images").mkdir(exist_ok=True)
                path.rename(small / "images" / f"{split}_{path.name}")
        shutil.rmtree(small / split)
    return small


def rows_of(folder, path="images/{}"):
    names = sorted(path.name for path in (folder / "images").iterdir())
    return [(path.format(name), "ab"[int(name[-5]) % 2], name.partition("_")[0]) for name in names]


def write(folder, rows, header="file,label,split", name="labels.csv"):
    (folder / name).write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("path", "header", "name"),
    [
        ("images/{}", "file,label,split", "labels.csv"),
        ("{}", "file_name,class,split", "metadata.csv"),
        ("./images\\{}", "Path,Target,Split", "annotations.csv"),
    ],
)
def test_rows_name_images_by_path_or_name(flat, path, header, name):
    write(flat, rows_of(flat, path), header, name)
    images = load(flat)
    assert images.classes == ("a", "b")
    assert (len(images.train), len(images.val), len(images.test)) == (18, 2, 4)
    assert images.test.labels.tolist() == [0, 0, 1, 1]
    assert f"labels of {name}" in images.source


def test_a_competition_has_names_without_endings_and_images_without_labels(flat):
    (flat / "images").rename(flat / "train")
    (flat / "test").mkdir()
    labels = np.arange(24) % 2 + 9
    names = sorted(path.stem for path in (flat / "train").iterdir())
    (flat / "train" / f"{names[-1]}.png").rename(flat / "test" / "unknown.png")
    write(flat, [*zip(names[:-1], labels[:-1], strict=True)], "id,label", "train.csv")
    with pytest.warns(UserWarning, match=r"train.csv: gives no label to 1 of 24 images, .*: test/unknown.png"):
        images = load(flat)
    assert images.classes == ("9", "10")  # numbers are in their order
    assert len(images.train) + len(images.val) + len(images.test) == 23


def test_another_split_in_the_table_is_another_set(flat):
    rows = rows_of(flat)
    write(flat, rows)
    assert len(load(flat).test) == 4
    write(flat, [(file, label, {"test": "train", "train": "test"}[split]) for file, label, split in rows])
    assert len(load(flat).test) == 20


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("text", ["id,class\n0,cat\n", "", "a,b\nc", "file,label\nx.png,1,2\n"])
def test_classes_in_folders_stay_what_they_are_next_to_another_table(small, text):
    (small / "train" / "labels.csv").write_text(text)
    assert load(small / "train").classes == ("a", "b")


def test_a_table_of_images_in_folders_of_classes_is_told(small):
    write(small / "train", [(f"a/{i:04}.png", "cd"[i % 4 == 0]) for i in range(0, 20, 2)], "file,label")
    with pytest.warns(UserWarning, match="labels.csv: not used, as a, b are classes; put the images into one folder"):
        assert load(small / "train").classes == ("a", "b")


@pytest.mark.filterwarnings("ignore:.*gives no label")
def test_rows_as_other_programs_write_them(flat):
    rows = rows_of(flat, str(flat / "images" / "{}"))
    lines = [
        f'{i}, "{file}" , {number}'
        for i, (file, number) in enumerate((row[0], 1.0 + 9 * i) for i, row in enumerate(rows[:2]))
    ]
    lines += [f"{i}, images//{row[0].rpartition('/')[2]}, {(1, 10)[i % 2]}" for i, row in enumerate(rows[2:])]
    (flat / "labels.csv").write_text("\n".join(["id, image_path, label", *lines, "9, x.png, nan", " , , ", ""]))
    assert load(flat).classes == ("1", "10")


@pytest.mark.parametrize(("encoding", "mark"), [("utf-8-sig", ";"), ("utf-16", "\t"), ("cp1252", ";")])
def test_tables_of_spreadsheets_in_another_case(flat, encoding, mark):
    rows = [f'"File Name"{mark}LABEL']
    for i, path in enumerate((flat / "images").iterdir()):
        path.rename(flat / "images" / f"Bär {i}.png")
        rows.append(f"Bär {i}.PNG{mark}{('Käse', 'Küse, alt')[i % 2]}")
    (flat / "labels.csv").write_bytes("\r\n".join([*rows, "", ""]).encode(encoding))
    assert load(flat).classes == ("Käse", "Küse, alt")
    shutil.copy(flat / "images" / "Bär 3.png", flat / "images" / "BÄR 3.png")
    with pytest.raises(DataError, match=r"'Bär 3.PNG' may be any of images/BÄR 3.png, images/Bär 3.png"):
        load(flat)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("inside", ["", "images/"])
@pytest.mark.parametrize("has_two", [True, False])
def test_splits_have_a_table_each_or_are_folders_in_one(flat, inside, has_two):
    rows = []
    for split in ("train", "test"):
        (flat / split / inside).mkdir(parents=True)
        found = [path.rename(flat / split / inside / path.name) for path in flat.glob(f"images/{split}_*")]
        below = flat / split if has_two else flat
        rows = [(path.relative_to(below), int(path.stem[-1]) % 2) for path in found] + ([] if has_two else rows)
        write(below, rows, "file_name,label", "metadata.csv")
    images = load(flat)
    assert (images.classes, len(images.train), len(images.val), len(images.test)) == (("0", "1"), 18, 2, 4)
    if has_two:
        write(flat / "train", [("test_0000.png", 0)], "file_name,label", "metadata.csv")
        with pytest.raises(DataError, match=r"train/metadata.csv: row 2: 'train/test_0000.png' is none of the images"):
            load(flat)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["metadata.jsonl", "Metadata.JSONL"])
def test_tables_of_json_lines(flat, name):
    rows = [
        {"file_name": file, "label": label, "split": split, "boxes": [[1, 2], {}]}
        for file, label, split in rows_of(flat)
    ]
    for row in rows:
        row["label"] = {"a": 3, "b": 20.0}[row["label"]]
    rows.append({"file_name": "x.png", "label": None})
    (flat / name).write_text("\r\n".join(map(json.dumps, [*rows[1:], rows[0]])) + "\n\n")
    images = load(flat)
    assert (images.classes, len(images.train), len(images.test)) == (("3", "20"), 18, 4)
    for line, message in (
        ('{"file_name": ', r"row 27 is not JSON \(Expecting value"),
        ("[" * 100_000, "row 27 is not JSON"),
        ('["x.png", 1]', r"row 27 is '\[\"x.png\", 1\]', not an object with file_name"),
        ('{"file_name": "x.png", "label": [1, 2]}', r"row 27: a file, .* is a word or a number, not \[1, 2\]"),
    ):
        (flat / name).write_text("\n".join([*map(json.dumps, rows), "", line]))
        with pytest.raises(DataError, match=message):
            load(flat)


@pytest.mark.filterwarnings("error")
def test_lines_of_json_are_those_of_their_first_keys(flat):
    rows = [
        json.dumps({"file_name": file, "label": label, f"k{i}": i}) for i, (file, label, _) in enumerate(rows_of(flat))
    ]
    (flat / "metadata.jsonl").write_text("\n".join(rows))
    assert load(flat).classes == ("a", "b")
    (flat / "metadata.jsonl").write_text("\n".join(rows).replace('"a"', r'"\ud83d"'))
    with pytest.raises(DataError, match=r"row 1: .* has half a letter \(a surrogate\); write it in UTF-8"):
        load(flat)
    write(flat, [row[:2] for row in rows_of(flat)], "file,label")
    (flat / "metadata.jsonl").write_text('{"text": "a"}\n{')  # no table, as its first line tells
    assert load(flat).classes == ("a", "b")


@pytest.mark.filterwarnings("error")
def test_csv_and_small_letters_come_first(flat):
    write(flat, [row[:2] for row in rows_of(flat)], "file,label", "train.csv")
    for name in ("labels.tsv", "labels.jsonl", "Labels.csv", "metadata.jsonl"):
        (flat / name).write_text("id,class\n0,train\n")
        assert load(flat).classes == ("a", "b")


@pytest.mark.parametrize("name", ["labels.csv", "Labels.tsv"])
def test_a_list_of_classes_is_no_table_where_one_is_called_train(flat, name):
    for of in ("train", "plane"):
        shutil.copytree(flat / "images", flat / of)
    shutil.rmtree(flat / "images")
    write(flat, [(0, "train"), (1, "plane")], "id,class", name)
    assert load(flat).classes == ("plane", "train")


def test_folders_of_classes_in_splits_are_told_next_to_a_table(small):
    images = sorted(path.relative_to(small) for path in small.glob("*/*/*.png"))
    write(small, [(path, i % 3) for i, path in enumerate(images)], "file,label")
    with pytest.warns(UserWarning, match="labels.csv: not used, as a, b are classes"):
        assert load(small).classes == ("a", "b")


def test_tables_with_tabs_and_names_in_another_case(flat):
    write(flat, [["\t".join(row)] for row in rows_of(flat)], "File Name\tLabel\tSplit", "Labels.TSV")
    (flat / "train.csv").write_text("a,b\n")
    images = load(flat)
    assert (images.classes, len(images.train)) == (("a", "b"), 18)
    assert "labels of Labels.TSV" in images.source


def test_images_of_train_come_first_in_its_table(flat):
    (flat / "images").rename(flat / "train")
    shutil.copytree(flat / "train", flat / "test")
    names = sorted(path.stem for path in (flat / "train").iterdir())
    write(flat, [(name, i % 2) for i, name in enumerate(names)], "id,label", "train.csv")
    with pytest.warns(UserWarning, match="gives no label to 24 of 48 images, which are not used: test/"):
        assert load(flat).classes == ("0", "1")


WRONG = {
    "no such image": (lambda rows: [("images/x.png", "a", "train"), *rows], "row 2: 'images/x.png' is none of the"),
    "no such split": (lambda rows: [(*rows[0][:2], "holdout"), *rows[1:]], "a split is train, val or test, not 'hold"),
    "two classes": (lambda rows: [*rows, (rows[0][0], "c", rows[0][2])], "row 26: .* has two rows, with 'a' and 'c'"),
    "one class": (lambda rows: [(file, "a", split) for file, _, split in rows], "has one class only, 'a'"),
    "a short row": (lambda rows: [*rows, ("x",)], "row 26 has 1 cells, the header has 3"),
    "only a test split": (lambda rows: [(*row[:2], "test") for row in rows], "labels.csv: no image of train has"),
    "a class not in test": (lambda rows: [row for row in rows if row[1:] != ("b", "test")], "test has no image of cla"),
}


@pytest.mark.filterwarnings("ignore:.*gives no label")
@pytest.mark.parametrize("what", WRONG)
def test_wrong_tables(flat, what):
    change, message = WRONG[what]
    write(flat, change(rows_of(flat)))
    with pytest.raises(DataError, match=message):
        load(flat)


def test_a_name_of_several_images(flat):
    rows = rows_of(flat, "{}")
    (flat / "images" / "more").mkdir()
    shutil.copy(flat / "images" / "train_0000.png", flat / "images" / "more")
    write(flat, rows)
    with pytest.raises(DataError, match=r"may be any of images/more/train_0000.png, images/train_0000.png; give"):
        load(flat)
