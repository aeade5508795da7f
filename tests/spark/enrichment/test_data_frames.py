"""Runs over images that the caller gives as a DataFrame: views, other formats, batches of a stream."""

from pathlib import Path
from typing import Any

import pytest
from conftest import Engine
from fakes import content, inferred, provider
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention
from workspaces import IMAGES, SCHEMA, Workspace, image, statuses

from faceattr_udf.errors import ArgumentError
from faceattr_udf.spark import enrich
from faceattr_udf.spark.runs import Run


def _enrich(workspace: Workspace, images: DataFrame, *overrides: str) -> Run:
    engine, output = workspace.engine, str(workspace.folder / "out")
    return enrich(engine.session, engine.config(*overrides), images, output, provider=provider(workspace.seen))


def _stored(workspace: Workspace) -> DataFrame:
    return workspace.engine.read(workspace.folder / "images")


@pytest.mark.on_spark
@pytest.mark.on_connect
def test_data_frame_gives_the_tables_of_its_table(workspace: Workspace, tmp_path: Path) -> None:
    workspace.write(IMAGES)
    run = _enrich(workspace, _stored(workspace))
    again = _enrich(workspace, _stored(workspace))
    other = Workspace(workspace.engine, tmp_path / "other")
    other.write(IMAGES)
    other.run()
    assert workspace.tables() == other.tables()
    assert (run.n_images, again.n_images) == (len(IMAGES), 0)
    (name,) = {row.images for row in workspace.engine.read(workspace.folder / "out" / "runs").collect()}
    assert name == "(DataFrame)"


@pytest.mark.on_spark
@pytest.mark.parametrize("table_format", ["delta", "parquet"])
def test_only_the_rows_of_a_data_frame_are_read_as_it_computes_them(workspace: Workspace, table_format: str) -> None:
    rows = [image(f"{n:02d}", content(1 + n % 3, str(n))) for n in range(12)]
    for part in (rows[:6], rows[6:]):
        frame = workspace.engine.frame(part, SCHEMA).coalesce(1)
        frame.write.format(table_format).mode("append").save(str(workspace.folder / "images"))
    stored = workspace.engine.session.read.format(table_format).load(str(workspace.folder / "images"))
    # The files hold other rows and other contents than the DataFrame has.
    kept = stored.where("image_id >= '03'").withColumn("content", F.concat(F.lit(b"1"), "content"))
    _enrich(workspace, kept.drop("content_sha256"), "enrich.wave_images=4")
    assert statuses(workspace) == {row[0]: "ok" for row in rows[3:]}
    assert len(workspace.table("faces")) == len(rows[3:])
    seen = inferred(workspace.seen)
    assert len(seen) == len(set(seen)) == len(rows[3:])


@pytest.mark.parametrize("rows", [[], IMAGES[:1]])
def test_data_frame_without_files(workspace: Workspace, rows: list[tuple[Any, ...]]) -> None:
    assert _enrich(workspace, workspace.engine.frame(rows, SCHEMA)).n_images == len(rows)


def test_later_batches_leave_earlier_images_as_they_are(workspace: Workspace) -> None:
    first = image("a", content(2)), image("b", content(1))
    _enrich(workspace, workspace.engine.frame(list(first), SCHEMA))
    _enrich(workspace, workspace.engine.frame([image("b", content(3)), image("c", content(2))], SCHEMA))
    faces = [row["image_id"] for row in workspace.table("faces")]
    assert faces == ["a", "a", "b", "b", "b", "c", "c"]


@pytest.mark.spark
def test_stream_is_refused_with_the_way_out(
    spark_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spark_engine.select(monkeypatch)
    stream = spark_engine.session.readStream.format("rate").load()
    with pytest.raises(ArgumentError, match="foreachBatch"):
        enrich(spark_engine.session, spark_engine.config(), stream, str(tmp_path / "out"))
