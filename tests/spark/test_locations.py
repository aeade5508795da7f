"""Locations of tables, without an engine: names, paths and URIs mean what they say or are refused."""

from pathlib import Path

import pytest

from faceattr_udf.config import Config
from faceattr_udf.errors import ConfigError
from faceattr_udf.spark.catalog_names import quoted_name, split_name
from faceattr_udf.spark.locations import (
    Outputs,
    TableRef,
    absolute,
    file_system,
    ingested_ref,
    input_ref,
    is_inside,
    local_path,
    output_ref,
)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("faces", ("faces",)),
        ("shop.faces", ("shop", "faces")),
        ("prod-eu.db.faces", ("prod-eu", "db", "faces")),
        ("2024.faces_ü", ("2024", "faces_ü")),
        ("`a.b``c`.`x y`", ("a.b`c", "x y")),
        ("", None),
        ("a..b", None),
        (".a", None),
        ("a.", None),
        ("a.b.c.d", None),
        ("a b.c", None),
        ("s3://a.b/c", None),
        ("`a", None),
    ],
)
def test_catalog_names(name: str, parts: tuple[str, ...] | None) -> None:
    assert split_name(name) == parts
    if parts is not None:
        assert split_name(quoted_name(name)) == parts


@pytest.mark.parametrize(
    ("location", "meant"),
    [
        ("s3://bucket/images", "s3://bucket/images"),
        ("abfss://box@host/images", "abfss://box@host/images"),
        ("hdfs:/data", "hdfs:///data"),
        ("hdfs://host:8020/data", "hdfs://host:8020/data"),
        ("dbfs:/Volumes/a/b", "dbfs:///Volumes/a/b"),
        ("/Volumes/a/b/c", "/Volumes/a/b/c"),
        ("file:/x/y", "file:///x/y"),
        ("images", str(Path.cwd() / "images")),
        ("a:b", str(Path.cwd() / "a:b")),
        ("~nobody-of-this-name/x", str(Path.cwd() / "~nobody-of-this-name/x")),
    ],
)
def test_absolute_locations(location: str, meant: str) -> None:
    assert absolute(location) == meant


def test_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert absolute("~/photos") == "/home/ada/photos"
    assert absolute("~") == "/home/ada"


@pytest.mark.parametrize("location", ["", "  ", "s3:/bucket/x", "s3://", "gs:///x", "abfss:/x"])
def test_incomplete_locations_are_refused(location: str) -> None:
    with pytest.raises(ConfigError, match=r"is empty; name|is no complete URI; write \w+://"):
        absolute(location, "the output folder")


def test_one_slash_uri_is_a_path_of_this_machine() -> None:
    assert local_path("file:/a/b%20c") == Path("/a/b c")
    assert local_path("hdfs:/a") is None
    assert file_system("file:/a/b")[1] == "/a/b"


@pytest.mark.parametrize("name", ["", " ", "a/b", "../faces", "faces.v2.x.y", "a b.c", "_staging", "_lease", "`x`"])
def test_names_of_output_tables_that_mean_nothing_are_refused(name: str) -> None:
    config = Config.from_mapping({"output": {"faces": name}})
    with pytest.raises(ConfigError, match=r"output\.faces = .* is no name of a table"):
        Outputs.of(config, "out")


def test_names_of_output_tables() -> None:
    assert output_ref("prod-eu.db.faces", "out") == TableRef("prod-eu.db.faces", "table")
    assert output_ref("prod-eu.db.faces", "out").sql == "`prod-eu`.`db`.`faces`"
    assert output_ref("my-faces", "/out").location == "/out/my-faces"
    assert output_ref("/lake/faces", "out").location == "/lake/faces"
    assert output_ref("s3://bucket/faces", "out").location == "s3://bucket/faces"
    with pytest.raises(ConfigError, match="are the same table; give each a name of its own"):
        Outputs.of(Config.load(None, ["output.faces=runs"]), "out")
    with pytest.raises(ConfigError, match="the output folder is empty"):
        Outputs.of(Config(), "")


def test_variables_in_catalog_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="is no name of a table"):
        output_ref("`${env:HOME}`.faces", "out")


@pytest.mark.parametrize(
    ("images", "output"),
    [
        ("lake/images", "lake/images"),
        ("lake/images", "lake/images/out"),
        ("lake/out/faces", "lake/out"),
        ("lake/out/faces/x", "lake/out"),
        ("lake/out/_staging/x", "lake/out"),
        ("link/images", "lake/images/out"),
    ],
)
def test_tables_in_each_other_are_refused(tmp_path: Path, images: str, output: str) -> None:
    (tmp_path / "lake" / "images").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "lake")
    ref = TableRef(str(tmp_path / images), "parquet")
    with pytest.raises(ConfigError, match=r"set --output to another"):
        Outputs.of(Config(), str(tmp_path / output)).refuse_overlap(ref)


def test_images_beside_the_output_tables_are_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Outputs.of(Config(), str(tmp_path)).refuse_overlap(TableRef(str(tmp_path / "images"), "parquet"))
    Outputs.of(Config(), str(tmp_path / "images-2")).refuse_overlap(TableRef(str(tmp_path / "images"), "parquet"))
    # A bucket that does not exist would be looked for on the network.
    monkeypatch.setattr("faceattr_udf.spark.locations.refuse_inside_delta", lambda *_: None)
    Outputs.of(Config(), "s3://a/out").refuse_overlap(TableRef(str(tmp_path / "images"), "parquet"))


def test_output_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(ConfigError, match=r"is below the file .*/file; set --output"):
            Outputs.of(Config(), str(folder)).refuse_overlap(TableRef("/elsewhere", "parquet"))


def test_s3_and_s3a_are_the_same_store() -> None:
    assert is_inside("s3a://bucket/a/b", "s3://bucket/a")


def test_output_table_that_is_the_images_table_is_refused() -> None:
    outputs = Outputs.of(Config.load(None, ["output.faces=shop.images"]), "/out")
    with pytest.raises(ConfigError, match=r"output table faces is the images table Shop\.Images"):
        outputs.refuse_overlap(TableRef("Shop.Images", "table"))


def test_folders_inside_a_delta_table_are_refused(tmp_path: Path) -> None:
    part = tmp_path / "table" / "day=1"
    part.mkdir(parents=True)
    (tmp_path / "table" / "_delta_log").mkdir()
    (part / "a.parquet").touch()
    assert input_ref(str(tmp_path / "table"), Config()).format == "delta"
    for inside in (part, part / "a.parquet"):
        with pytest.raises(ConfigError, match=rf"is inside the Delta table {tmp_path}/table, .*; name that table"):
            input_ref(str(inside), Config())
    with pytest.raises(ConfigError, match="inside the Delta table"):
        ingested_ref(str(part / "new"), "delta")
    with pytest.raises(ConfigError, match="inside the Delta table"):
        Outputs.of(Config(), str(part)).refuse_overlap(TableRef("/elsewhere", "parquet"))


def test_table_to_ingest_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ingested_ref("images", "delta") == TableRef(str(tmp_path / "images"), "delta")
    assert ingested_ref("images", "parquet") == TableRef(str(tmp_path / "images"), "parquet")
    assert ingested_ref("shop.images", "parquet") == TableRef("shop.images", "table")
    (tmp_path / "shop.images" / "_delta_log").mkdir(parents=True)
    assert ingested_ref("shop.images", "parquet") == TableRef(str(tmp_path / "shop.images"), "delta")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.parquet").touch()
    assert ingested_ref("files", "delta") == TableRef(str(tmp_path / "files"), "parquet")
