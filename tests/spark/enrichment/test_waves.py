"""Nights in many waves over tables whose ids have no order, in several files: equal results, every file read once."""

import shutil
import threading
from collections.abc import Sequence
from hashlib import md5, sha256
from pathlib import Path
from typing import Any

import pytest
import structlog
from conftest import Engine
from fakes import content, inferred
from pyspark.sql import SparkSession
from workspaces import SCHEMA, Killed, Workspace, image, killed_at

from faceattr_udf.spark.enrichment import image_files
from faceattr_udf.spark.enrichment.planning import Planner

FILES, ROWS = 4, 6


def unordered(number: int) -> str:
    return md5(str(number).encode()).hexdigest()[:8]  # noqa: S324 - not for security


def rows_of(file: int) -> list[tuple[Any, ...]]:
    return [image(unordered(n), content(n % 3, str(n))) for n in range(file * ROWS, (file + 1) * ROWS)]


def write_files(workspace: Workspace, table_format: str, files: Sequence[list[tuple[Any, ...]]], by: str = "") -> None:
    """Writes the images table with one file for each list, or for each partition of it."""
    folder = workspace.folder / "images"
    shutil.rmtree(folder, ignore_errors=True)
    for rows in files:
        writer = workspace.engine.frame(rows, SCHEMA).coalesce(1).write.format(table_format).mode("append")
        (writer.partitionBy(by) if by else writer).save(str(folder))


def expected(files: Sequence[list[tuple[Any, ...]]]) -> tuple[dict[str, tuple[str | None, int]], int]:
    """Returns hash and number of faces of every image, and the number of contents: of equal ids the smallest hash."""
    images: dict[str, str | None] = {}
    contents: dict[str | None, bytes] = {}
    for row in (row for rows in files for row in rows):
        digest = sha256(row[1]).hexdigest() if row[1] is not None else None
        contents[digest] = row[1]
        image_id = row[0] if row[0] is not None else f"null-image-id:{digest}"
        images[image_id] = min(images.get(image_id, digest) or "~", digest or "~") if digest else None
    counts = {i: (digest, int(contents[digest][:1]) if digest else 0) for i, digest in images.items()}
    return counts, len(set(images.values()) - {None})


def check_tables(workspace: Workspace, files: Sequence[list[tuple[Any, ...]]], *, at_most_twice: int = 0) -> None:
    """Checks the tables, and that every content was inferred once, or some of a killed run's last wave twice."""
    images, n_contents = expected(files)
    results = {row["image_id"]: (row["content_sha256"], row["n_faces"]) for row in workspace.table("image_results")}
    assert results == images
    faces = sorted((row["image_id"], row["face_index"]) for row in workspace.table("faces"))
    assert faces == sorted((i, index) for i, (_, n_faces) in images.items() for index in range(n_faces))
    seen = inferred(workspace.seen)
    assert len(set(seen)) == n_contents
    assert len(seen) - n_contents <= at_most_twice


@pytest.fixture
def spark_workspace(spark_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    spark_engine.select(monkeypatch)
    return Workspace(spark_engine, tmp_path)


PLAIN = [rows_of(file) for file in range(FILES)]

SHARED = [
    # Contents that lie in several files, and in one file twice.
    [*rows_of(0), image("s0", content(2, "shared")), image("s1", content(2, "shared"))],
    [*rows_of(1), image("aaa", content(2, "shared")), image("zzz", content(1, "other"))],
    # Rows without an id, and an id that other files have as well, with the same content and with another one.
    [
        *rows_of(2),
        image(None, content(1, "no id")),
        image("twice", content(1, "same")),
        image("zz0", content(1, "two")),
    ],
    [
        *rows_of(3),
        image("twice", content(1, "same")),
        image("zz0", content(2, "three")),
        image("b", content(1, "other")),
    ],
    [image(None, content(2, "shared")), image(None, content(1, "no id")), image("hash", content(1, "no id"))],
]


@pytest.mark.on_spark
@pytest.mark.parametrize(("table_format", "by"), [("delta", ""), ("parquet", "path")])
def test_nights_over_unordered_ids(workspace: Workspace, table_format: str, by: str) -> None:
    write_files(workspace, table_format, SHARED, by)
    passed = 'input.columns.pass_through=["captured_at"]'
    workspace.run("enrich.wave_images=7", passed)
    check_tables(workspace, SHARED)
    before = workspace.tables()
    assert workspace.run("enrich.wave_images=7", passed).n_images == 0
    assert workspace.tables() == before


def test_changed_images_of_unordered_ids(workspace: Workspace) -> None:
    write_files(workspace, "delta", SHARED)
    workspace.run("enrich.wave_images=7")
    seen = len(inferred(workspace.seen))
    changed = [
        [
            (*row[:1], *image("", content(1, f"new {row[0]}"))[1:3], *row[3:]) if n == 1 else row
            for n, row in enumerate(rows)
        ]
        for rows in SHARED
    ]
    write_files(workspace, "delta", changed)
    assert workspace.run("enrich.wave_images=2").n_inferred == len(inferred(workspace.seen)) - seen
    fresh = Workspace(workspace.engine, workspace.folder / "fresh")
    write_files(fresh, "delta", changed)
    fresh.run()
    passed = lambda rows: [{k: row[k] for k in row if k != "path"} for row in rows]  # noqa: E731
    assert [passed(rows) for rows in workspace.tables()] == [passed(rows) for rows in fresh.tables()]


@pytest.mark.on_spark
def test_killed_between_waves_infers_only_the_wave_under_way_again(workspace: Workspace) -> None:
    write_files(workspace, "delta", SHARED)
    with pytest.raises(Killed):
        workspace.run("enrich.wave_images=7", on_step=killed_at("results", 2))
    workspace.run("enrich.wave_images=7")
    check_tables(workspace, SHARED, at_most_twice=7)


@pytest.mark.spark
def test_next_wave_is_inferred_during_a_commit(spark_workspace: Workspace) -> None:
    workspace = spark_workspace
    write_files(workspace, "delta", SHARED)
    inferred_next, steps = threading.Event(), list[str]()

    def on_step(step: str) -> None:
        steps.append(step)
        if step == "faces" and steps.count("faces") == 1:
            assert inferred_next.wait(timeout=120)
        elif step == "staged" and steps.count("staged") == 2:
            inferred_next.set()

    workspace.run("enrich.wave_images=7", on_step=on_step)
    commits = [step for step in steps if step in {"faces", "results"}]
    assert commits == ["faces", "results"] * steps.count("staged")
    third_staged = [place for place, step in enumerate(steps) if step == "staged"][2]
    assert steps.index("results") < third_staged  # only one wave waits to be committed
    check_tables(workspace, SHARED)


def files_read_by_inference(spark: SparkSession, after: int) -> tuple[int, int]:
    """Returns how many files the scans of contents of all inferences have read, and the id of the last query."""
    store = spark._jsparkSession.sharedState().statusStore()
    n_files, last = 0, after
    executions = store.executionsList()
    for number in range(executions.size()):
        execution = executions.apply(number).executionId()
        nodes = store.planGraph(execution).allNodes()
        nodes = [nodes.apply(index) for index in range(nodes.size())]
        last = max(last, execution)
        if execution <= after or not any("MapInArrow" in node.name() for node in nodes):
            continue
        metrics = store.executionMetrics(execution)
        for node in nodes:
            if not node.name().startswith("Scan parquet") or "content:" not in node.desc():
                continue
            for index in range(node.metrics().size()):
                metric = node.metrics().apply(index)
                if metric.name() == "number of files read":
                    n_files += int(metrics.apply(metric.accumulatorId()))
    return n_files, last


@pytest.mark.spark
@pytest.mark.parametrize("table_format", ["delta", "parquet"])
def test_every_file_is_read_by_one_wave(spark_workspace: Workspace, table_format: str) -> None:
    write_files(spark_workspace, table_format, PLAIN)
    _, last = files_read_by_inference(spark_workspace.engine.session, -1)
    steps: list[str] = []
    spark_workspace.run(f"enrich.wave_images={ROWS}", on_step=steps.append)
    check_tables(spark_workspace, PLAIN)
    assert steps.count("results") == FILES
    n_files, _ = files_read_by_inference(spark_workspace.engine.session, last)
    assert n_files == FILES


@pytest.mark.spark
def test_files_of_catalog_tables_views_and_frames(spark_workspace: Workspace, tmp_path: Path) -> None:
    engine = spark_workspace.engine
    frame = engine.frame(PLAIN[0], SCHEMA)
    frame.write.format("delta").save(str(tmp_path / "delta"))
    spark = engine.session
    spark.sql("CREATE DATABASE IF NOT EXISTS waves")
    try:
        frame.write.format("delta").saveAsTable("waves.images")
        frame.write.format("parquet").saveAsTable("waves.plain")
        spark.sql("CREATE VIEW waves.seen AS SELECT * FROM waves.images")
        spark.read.table("waves.images").createOrReplaceTempView("seen")
        kinds = {
            name: type(image_files.image_files(spark.read.table(name), "spark", "table")).__name__
            for name in ("waves.images", "waves.plain", "waves.seen", "seen")
        }
    finally:
        spark.sql("DROP DATABASE waves CASCADE")
        spark.catalog.dropTempView("seen")
    assert kinds == {
        "waves.images": "_DeltaFiles",
        "waves.plain": "_ParquetFiles",
        "waves.seen": "NoneType",
        "seen": "NoneType",
    }
    assert image_files.image_files(frame, "spark", "table") is None


@pytest.mark.spark
def test_files_replaced_during_a_run(spark_workspace: Workspace) -> None:
    write_files(spark_workspace, "delta", PLAIN)

    def compact(step: str) -> None:
        if step == "planned":
            folder = str(spark_workspace.folder / "images")
            frame = spark_workspace.engine.session.read.format("delta").load(folder)
            frame.coalesce(1).write.format("delta").mode("overwrite").save(folder)

    with structlog.testing.capture_logs() as logs:
        spark_workspace.run(f"enrich.wave_images={ROWS}", on_step=compact)
    assert "image_files_replaced" in {line["event"] for line in logs}
    check_tables(spark_workspace, PLAIN)


def test_plan_is_made_once(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[Planner] = []
    real = Planner.plan
    monkeypatch.setattr(Planner, "plan", lambda planner, *tables: (plans.append(planner), real(planner, *tables))[1])
    write_files(workspace, "delta", PLAIN)
    steps: list[str] = []
    workspace.run("enrich.wave_images=5", on_step=steps.append)
    assert (len(plans), steps.count("staged")) == (1, 5)


def test_second_night_begins_with_a_wave_of_the_first_ones_rate(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faceattr_udf.spark.enrichment.wave_sizing._FIRST_WAVE_IMAGES", 3)
    monkeypatch.setattr("faceattr_udf.spark.runs._LONG_RUN", 10)
    write_files(workspace, "delta", PLAIN)
    first: list[str] = []
    workspace.run("enrich.wave_images=24", on_step=first.append)
    second: list[str] = []
    workspace.run("enrich.wave_images=24", "detector.min_face_size=40", on_step=second.append)
    assert (first.count("staged"), second.count("staged")) == (2, 1)


@pytest.mark.spark
def test_rows_of_new_images_are_appended(spark_workspace: Workspace) -> None:
    def commits(name: str) -> list[str]:
        table = f"delta.`{spark_workspace.folder / 'out' / name}`"
        history = spark_workspace.engine.session.sql(f"DESCRIBE HISTORY {table}")
        found = [row["operation"] for row in history.orderBy("version").collect()]
        return [operation for operation in found if operation in {"WRITE", "MERGE"}]

    write_files(spark_workspace, "delta", PLAIN[:2])
    with pytest.raises(Killed):
        spark_workspace.run(f"enrich.wave_images={ROWS}", on_step=killed_at("faces", 1))
    assert (commits("faces"), commits("image_results")) == (["WRITE"], [])
    # The faces of the killed wave are there, and its images have no result.
    spark_workspace.run(f"enrich.wave_images={ROWS}")
    assert (commits("faces"), commits("image_results")) == (["WRITE", "MERGE", "WRITE"], ["WRITE", "WRITE"])
    images, _ = expected(PLAIN[:2])
    assert len(spark_workspace.table("faces")) == sum(n_faces for _, n_faces in images.values())
    # Results of another configuration are replaced.
    spark_workspace.run(f"enrich.wave_images={2 * ROWS}", "detector.min_face_size=40")
    assert (commits("faces")[3:], commits("image_results")[2:]) == (["MERGE"], ["MERGE"])
    assert {row["image_id"] for row in spark_workspace.table("image_results")} == set(images)
