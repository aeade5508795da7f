"""The DataFrame transforms on every engine."""

import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest
from conftest import Engine
from fakes import content, inferred, provider
from pyspark.sql import DataFrame

import faceattr_udf.spark
from faceattr_udf.errors import SchemaError
from faceattr_udf.spark.schemas import face_struct
from faceattr_udf.spark.transforms import analyze_images, explode_faces

SCHEMA = "photo string, number int, content binary"
ROWS = [("a", 1, content(2)), ("b", None, content(0)), ("c", 3, None), ("d", 4, b"garbage")]


@pytest.fixture
def images(engine: Engine) -> DataFrame:
    return engine.frame(ROWS, SCHEMA)


@pytest.mark.on_spark
def test_no_images_give_all_columns_and_no_rows(engine: Engine, tmp_path: Path) -> None:
    config = engine.config()
    results = engine.frame([], SCHEMA).transform(analyze_images(config, provider(tmp_path / "seen")))
    faces = results.transform(explode_faces(config))
    assert results.collect() == faces.collect() == []
    assert results.columns == [
        *("photo", "number", "status", "error", "width", "height", "n_faces", "faces"),
        *("config_id", "model_version"),
    ]
    assert faces.columns == ["photo", "number", "config_id", "model_version", *face_struct(config.output).fieldNames()]


@pytest.mark.on_connect
def test_one_row_per_image_and_one_per_face(engine: Engine, images: DataFrame, tmp_path: Path) -> None:
    config = engine.config()
    results = images.transform(analyze_images(config, provider(tmp_path / "seen")))
    rows = {row["photo"]: row for row in results.collect()}
    assert {photo: (row["status"], row["n_faces"], row["number"]) for photo, row in rows.items()} == {
        "a": ("ok", 2, 1),
        "b": ("no_face", 0, None),
        "c": ("missing", 0, 3),
        "d": ("corrupt", 0, 4),
    }
    assert {row["config_id"] for row in rows.values()} == {config.config_id()}
    assert {row["model_version"] for row in rows.values()} == {"fake-1"}
    assert len(inferred(tmp_path / "seen")) == 3
    faces = images.transform(analyze_images(config, provider(tmp_path / "seen"))).transform(explode_faces(config))
    found = sorted(faces.collect(), key=lambda row: row["face_index"])
    assert [(row["photo"], row["face_index"]) for row in found] == [("a", 0), ("a", 1)]
    assert found[0].asDict(recursive=True)["bbox"] == {"x_min": 0.0, "y_min": 2.0, "x_max": 30.0, "y_max": 40.5}


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ("photo string", "has no column 'content'"),
        ("content string", 'set input.content_encoding = "base64" if it is base64'),
        ("content int", "is int instead of binary"),
        ("content binary, status string, faces int", "already have the columns faces, status"),
    ],
)
def test_images_with_other_columns_are_refused(engine: Engine, schema: str, named: str) -> None:
    with pytest.raises(SchemaError, match=named):
        engine.frame([], schema).transform(analyze_images(engine.config()))


@pytest.mark.on_spark
def test_base64_text_is_read_on_request(engine: Engine, tmp_path: Path) -> None:
    config = engine.config("input.content_encoding=base64")
    texts = [("a", b64encode(content(2)).decode()), ("b", "https://host/b.jpg"), ("c", None)]
    results = engine.frame(texts, "id string, content string").transform(
        analyze_images(config, provider(tmp_path / "seen"))
    )
    assert {row["id"]: (row["status"], row["n_faces"]) for row in results.collect()} == {
        "a": ("ok", 2),
        "b": ("unsupported", 0),
        "c": ("missing", 0),
    }


def test_configured_columns_are_read(engine: Engine, tmp_path: Path) -> None:
    config = engine.config("input.columns.content=jpeg", "input.columns.consent=agreed", "input.require_consent=true")
    images = engine.frame([("a", content(1), True), ("b", content(1), None)], "id string, jpeg binary, agreed boolean")
    results = images.transform(analyze_images(config, provider(tmp_path / "seen")))
    assert {row["id"]: row["status"] for row in results.collect()} == {"a": "ok", "b": "not_consented"}
    assert "jpeg" not in results.columns


@pytest.mark.spark
def test_engines_agree(
    sail_engine: Engine, spark_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collected = []
    for found in (sail_engine, spark_engine):
        found.select(monkeypatch)
        results = found.frame(ROWS, SCHEMA).transform(analyze_images(None, provider(tmp_path / "seen")))
        faces = results.transform(explode_faces())
        rows = [row.asDict(recursive=True) for row in faces.collect()]
        collected.append(sorted(rows, key=lambda row: (row["photo"], row["face_index"])))
    assert collected[0] == collected[1]


def test_public_names_are_imported_on_first_use() -> None:
    code = """
import sys
import faceattr_udf.spark.udf
loaded = [name for name in sys.modules if name.startswith("faceattr_udf.spark.")]
assert sorted(loaded) == [f"faceattr_udf.spark.{name}" for name in ("devices", "schemas", "udf")], loaded
from faceattr_udf.spark import *
for function in (analyze_images, enrich, explode_faces, ingest, maintain, register_sql_functions, start):
    assert callable(function), function
"""
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603  # above


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'stop'"):
        getattr(faceattr_udf.spark, "stop")  # noqa: B009  # mypy knows that it is missing
