"""Runs over images that the caller gives as a DataFrame: views, other formats, batches of a stream."""

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import Engine
from fakes import content, inferred, provider
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention
from workspaces import IMAGES, SCHEMA, Workspace, image, statuses

from faceattr_udf import Config
from faceattr_udf.errors import ArgumentError
from faceattr_udf.spark import enrich
from faceattr_udf.spark.runs import Run

ROOT = Path(__file__).parents[3]
MERGED = "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"


def _enrich(workspace: Workspace, images: DataFrame, *overrides: str) -> Run:
    engine, output = workspace.engine, str(workspace.folder / "out")
    return enrich(engine.session, engine.config(*overrides), images, output, provider=provider(workspace.seen))


def _stored(workspace: Workspace) -> DataFrame:
    return workspace.engine.read(workspace.folder / "images")


@pytest.mark.on_spark(slow=True)
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
@pytest.mark.parametrize("table_format", ["delta", pytest.param("parquet", marks=pytest.mark.slow)])
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


@pytest.mark.spark
def test_stream_of_changes_as_the_docs_show_it(
    spark_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spark_engine.select(monkeypatch)
    session, images = spark_engine.session, tmp_path / "lake" / "images"
    docs = (ROOT / "docs" / "python.md").read_text()
    (example,) = [block for block in re.findall(r"```python\n(.*?)```", docs, re.DOTALL) if "foreachBatch" in block]
    for name in ("lake/images", "lake", "checkpoints/faces"):
        example = example.replace(f'"{name}"', repr(str(tmp_path / name)))
    called: list[DataFrame] = []

    def enrich_with_fakes(spark: SparkSession, config: Config, batch: DataFrame, output: str) -> Run:
        called.append(batch)
        return enrich(spark, config, batch, output, provider=provider(tmp_path / "seen"))

    monkeypatch.setattr("faceattr_udf.spark.enrich", enrich_with_fakes, raising=False)

    def night(rows: list[tuple[Any, ...]]) -> dict[str, int]:
        spark_engine.frame(rows, SCHEMA).createOrReplaceTempView("new_images")
        session.sql(f"MERGE INTO delta.`{images}` t USING new_images s ON t.image_id = s.image_id {MERGED}")
        exec(example, {"spark": session})  # noqa: S102 - the documentation's own code
        faces = spark_engine.read(tmp_path / "lake" / "faces").groupBy("image_id").count()
        return {row.image_id: row["count"] for row in faces.collect()}

    spark_engine.frame([], SCHEMA).write.format("delta").option("delta.enableChangeDataFeed", "true").save(str(images))
    assert night([image("a", content(1)), image("b", content(2))]) == {"a": 1, "b": 2}
    assert night([image("b", content(3)), image("c", content(1, "c"))]) == {"a": 1, "b": 3, "c": 1}
    assert len(called) == 2
    seen = inferred(tmp_path / "seen")
    assert len(seen) == len(set(seen)) == 4
