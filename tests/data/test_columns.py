"""Tables of image files: what is read and what is refused."""

from pathlib import Path

import pytest

from ssl_zoo.data.columns import header, table_columns, usual
from ssl_zoo.errors import UserError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_file_gives_columns_of_text(tmp_path: Path) -> None:
    file = write(tmp_path / "t.csv", 'path,label\na.png, cat\n"b, 2.png",\n')
    assert table_columns(file, ["label", "path"]) == {
        "label": ["cat", ""],
        "path": ["a.png", "b, 2.png"],
    }


def test_a_tsv_file_is_separated_by_tabs(tmp_path: Path) -> None:
    assert table_columns(write(tmp_path / "t.tsv", "path\tx\na,b.png\t1\n"), ["path"]) == {
        "path": ["a,b.png"]
    }


def test_a_byte_order_mark_is_not_part_of_the_first_name(tmp_path: Path) -> None:
    assert header(write(tmp_path / "t.csv", "\ufeffpath\na.png\n")) == ["path"]


def test_a_parquet_file_gives_the_same_columns(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"path": ["a.png", "b.png"], "label": [3, None]})
    parquet.write_table(table, tmp_path / "t.parquet")
    found = table_columns(tmp_path / "t.parquet", ["path", "label"])
    assert found == {"path": ["a.png", "b.png"], "label": ["3", ""]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; its first line should name the columns"),
        ("file,label\na.png,cat\n", "has no column 'path'.* Columns: file, label"),
        ("path,path\na.png,b.png\n", "has column 'path' twice"),
        ("path,label\na.png\n", "row 1 of table .* has 1 values, but there are 2 columns"),
        ('path,label\n"a.png,cat\n', "is not valid CSV"),
    ],
)
def test_a_wrong_table_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        table_columns(write(tmp_path / "t.csv", text), ["path"])


def test_text_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("path\nKüche.png\n".encode("latin-1"))
    with pytest.raises(UserError, match="is not UTF-8 text"):
        table_columns(tmp_path / "t.csv", ["path"])


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(UserError, match="is not a Parquet file"):
        header(write(tmp_path / "t.parquet", "path\n"))


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        header(tmp_path / "t.csv")


def test_usual_names_are_found_in_any_case() -> None:
    names = ["ID", "File_Name", "Species"]
    assert [usual(names, what) for what in ("path", "label", "group")] == [
        "File_Name",
        "Species",
        None,
    ]
