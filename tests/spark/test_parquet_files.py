"""Folders of Parquet files, without an engine."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceattr_udf.errors import SchemaError
from faceattr_udf.spark.parquet_files import ParquetFolder, plain_type

IDS = pa.table({"image_id": ["a"]})


def write(path: Path, table: pa.Table = IDS, **options: bool) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)  # type: ignore[arg-type]
    return path


def test_empty_folder_has_no_columns(tmp_path: Path) -> None:
    folder = ParquetFolder.open(str(tmp_path))
    assert (folder.files, dict(folder.columns), folder.stray) == ((), {}, False)


def test_single_file(tmp_path: Path) -> None:
    folder = ParquetFolder.open(str(write(tmp_path / "a.parquet")))
    assert [file.path for file in folder.files] == [str(tmp_path / "a.parquet")]
    assert dict(folder.columns) == {"image_id": pa.string()}


def test_hidden_files_do_not_belong_to_the_table(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    write(tmp_path / "_tmp" / "b.parquet")
    for name in ("_SUCCESS", ".a.parquet.crc"):
        (tmp_path / name).touch()
    folder = ParquetFolder.open(str(tmp_path))
    assert [Path(file.path).name for file in folder.files] == ["a.parquet"]
    assert not folder.stray


def test_partitions_get_the_types_that_spark_detects(tmp_path: Path) -> None:
    for day, shop in (("2024-01-02", "7"), ("__HIVE_DEFAULT_PARTITION__", "8")):
        write(tmp_path / f"day={day}" / f"shop={shop}" / "kind=x%20y" / "a.parquet")
    folder = ParquetFolder.open(str(tmp_path))
    assert dict(folder.partitions) == {"day": pa.date32(), "shop": pa.int32(), "kind": pa.string()}
    assert [dict(file.partition) for file in folder.files] == [
        {"day": "2024-01-02", "shop": "7", "kind": "x y"},
        {"day": None, "shop": "8", "kind": "x y"},
    ]


def test_subfolders_that_are_no_partitions_do_not_belong_to_the_table(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    write(tmp_path / "out" / "b.parquet")
    folder = ParquetFolder.open(str(tmp_path))
    assert (len(folder.files), folder.stray) == (1, True)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut, "b.parquet is cut off or still being written; move it"),
        (lambda path: path.write_bytes(b""), "b.parquet is no Parquet file; move it"),
        (lambda path: path.write_text("image_id,content\na,b\n"), "b.parquet is no Parquet file"),
        (lambda path: path.write_bytes(b"PAR1" + bytes(100) + b"PAR1"), "b.parquet is damaged"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, spoil: Callable[[Path], object], said: str) -> None:
    write(tmp_path / "a.parquet")
    spoil(write(tmp_path / "b.parquet"))
    with pytest.raises(SchemaError, match=said):
        ParquetFolder.open(str(tmp_path))


def test_columns_of_all_files_together(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", pa.table({"x": pa.nulls(1), "n": pa.array([1], pa.int32())}))
    write(tmp_path / "b.parquet", pa.table({"x": ["v"], "n": pa.array([1], pa.int64()), "more": [True]}))
    write(tmp_path / "c.parquet", pa.table({"x": pa.array(["v"]).dictionary_encode()}))
    columns = ParquetFolder.open(str(tmp_path)).columns
    assert dict(columns) == {"x": pa.string(), "n": pa.int64(), "more": pa.bool_()}


def test_types_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", pa.table({"x": ["v"]}))
    write(tmp_path / "b.parquet", pa.table({"x": [1]}))
    with pytest.raises(SchemaError, match=r"column 'x' of table .* is string in some files and int64 in .*b\.parquet"):
        ParquetFolder.open(str(tmp_path))


def test_old_timestamps_are_recognized(tmp_path: Path) -> None:
    times = pa.table({"t": pa.array([0], pa.timestamp("ns")), "u": pa.array([0], pa.timestamp("us"))})
    write(tmp_path / "a.parquet", times, use_deprecated_int96_timestamps=True)
    assert ParquetFolder.open(str(tmp_path)).int96 == {"t", "u"}


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (pa.dictionary(pa.int32(), pa.large_string()), pa.string()),
        (pa.timestamp("ns"), pa.timestamp("us")),
        (pa.duration("ns"), pa.int64()),
        (pa.float16(), pa.float32()),
        (pa.uint64(), pa.decimal128(20, 0)),
        (pa.date64(), pa.date32()),
        (pa.decimal256(40, 2), None),
        (pa.time64("us"), None),
        (pa.large_list(pa.uint8()), pa.list_(pa.int16())),
        (pa.list_(pa.time32("ms")), None),
        (pa.struct([("a", pa.date64())]), pa.struct([("a", pa.date32())])),
        (pa.map_(pa.string(), pa.float16()), pa.map_(pa.string(), pa.float32())),
        (pa.null(), pa.null()),
    ],
)
def test_plain_types(given: pa.DataType, plain: pa.DataType | None) -> None:
    assert plain_type(given) == plain
