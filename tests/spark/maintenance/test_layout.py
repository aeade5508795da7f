"""Tables that Spark makes for updates: with deletion vectors, kept sorted, purged, shared with the embedded engine."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import Engine
from fakes import content
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention
from workspaces import Workspace, image

from faceattr_udf.errors import EngineError, SchemaError
from faceattr_udf.spark.locations import TableRef
from faceattr_udf.spark.maintenance import delta_ops, maintain
from faceattr_udf.spark.table_details import STRING_PREFIX
from faceattr_udf.spark.tables import Tables

PREFIX = "s3://bucket/catalogue/2026/autumn/"
"""Longer than the 32 characters of a string that Delta's statistics keep by default."""

AT_ONCE = ("maintain.vacuum_hours=0",)
MARKED = "output.deletion_vectors=true"
CLUSTERED = (
    MARKED,
    'output.cluster_by=["image_id"]',
)

pytestmark = pytest.mark.spark


def files(table: Path) -> dict[str, tuple[str, str, bool]]:
    """Returns the current files of a table: lowest and highest image_id, and whether rows are marked deleted."""
    found: dict[str, tuple[str, str, bool]] = {}
    for log in sorted((table / "_delta_log").glob("*.json")):
        actions = [json.loads(line) for line in log.read_text().splitlines()]
        for action in actions:
            found.pop(action.get("remove", {}).get("path", ""), None)
        for add in (action["add"] for action in actions if "add" in action):
            stats = json.loads(add["stats"])
            ends = (stats[kind].get("image_id", "") for kind in ("minValues", "maxValues"))
            found[add["path"]] = (*ends, bool(add.get("deletionVector")))  # type: ignore[assignment]
    return found


def ids_on_disk(table: Path) -> set[str]:
    return {name for path in table.glob("*.parquet") for name in pq.read_table(path)["image_id"].to_pylist()}


def make(workspace: Workspace, *overrides: str) -> Workspace:
    """Runs over twelve images in two waves, then over one changed and one deleted image."""
    rows = [image(f"{PREFIX}{number:02}", content(1, str(number))) for number in range(12)]
    workspace.write(rows)
    workspace.run("enrich.wave_images=6", *overrides)
    workspace.write([image(f"{PREFIX}00", content(2, "changed")), *rows[2:]])
    run = workspace.run("enrich.delete_missing=true", *overrides)
    assert (run.n_images, run.n_deleted_images) == (1, 1)
    return workspace


@pytest.fixture(scope="module")
def updated(spark_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of tables that Spark has made and updated. Copy it, do not write to it."""
    folder = tmp_path_factory.mktemp("updated")
    with pytest.MonkeyPatch.context() as patch:
        spark_engine.select(patch)
        make(Workspace(spark_engine, folder), MARKED)
    return folder


@pytest.fixture
def on_spark(spark_engine: Engine, updated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    spark_engine.select(monkeypatch)
    return Workspace(spark_engine, updated).copy(tmp_path / "copy")


@pytest.fixture
def on_sail(sail_engine: Engine, updated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    sail_engine.select(monkeypatch)
    return Workspace(sail_engine, updated).copy(tmp_path / "copy")


@pytest.mark.parametrize("name", ["faces", "image_results"])
def test_update_writes_no_other_row_again(on_spark: Workspace, name: str) -> None:
    table = on_spark.folder / "out" / name
    marked = [ends for *ends, is_marked in files(table).values() if is_marked]
    assert marked
    assert all(end.startswith(PREFIX) and len(end) == len(PREFIX) + 2 for ends in marked for end in ends)
    history = on_spark.engine.session.sql(f"DESCRIBE HISTORY delta.`{table}`").where("operation = 'MERGE'").collect()
    assert len(history) == 2  # of the second night; the first one's rows are appended
    assert {row["operationMetrics"]["numTargetRowsCopied"] for row in history} == {"0"}


def test_compaction_sorts_by_id_once(spark_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spark_engine.select(monkeypatch)
    table, session = TableRef(str(tmp_path / "t"), "delta"), spark_engine.session
    for part in range(4):  # each file holds ids of the whole range, as after merges
        text = F.lpad(F.col("id").cast("string"), 9, "0")
        ids = session.range(part, 12_000, 4).select(F.concat(F.lit(PREFIX), text).alias("image_id"))
        rows = ids.withColumn("noise", F.sha2("image_id", 512))
        rows.write.format("delta").mode("append").option(STRING_PREFIX, "256").save(table.location)
    operations = delta_ops.delta_operations(session, "spark")
    target = operations.current_version(table).bytes * 3 // 10
    operations.compact(table, target, "image_id")
    spans = [int(last[-9:]) - int(first[-9:]) for first, last, _ in files(tmp_path / "t").values()]
    assert len(spans) > 2
    assert sum(spans) < 1.1 * 12_000  # neighbours share a few ids, because Delta sorts by samples
    commits = len(list((tmp_path / "t" / "_delta_log").glob("*.json")))
    operations.compact(table, target, "image_id")
    assert len(list((tmp_path / "t" / "_delta_log").glob("*.json"))) == commits
    assert session.read.format("delta").load(table.location).distinct().count() == 12_000


def test_vacuum_removes_deleted_rows(on_spark: Workspace) -> None:
    before, session, config = on_spark.tables(), on_spark.engine.session, on_spark.engine.config(*AT_ONCE)
    out = on_spark.folder / "out"
    maintain(session, config, str(out), ["vacuum"])
    assert on_spark.tables() == before
    assert f"{PREFIX}01" not in ids_on_disk(out / "faces") | ids_on_disk(out / "image_results")
    assert on_spark.run().n_images == 0


def test_embedded_engine_shares_the_tables_but_does_not_vacuum_them(on_sail: Workspace) -> None:
    before, session, config = on_sail.tables(), on_sail.engine.session, on_sail.engine.config(*AT_ONCE)
    output = str(on_sail.folder / "out")
    assert on_sail.run().n_images == 0
    maintain(session, config, output, ["compact"])
    assert on_sail.tables() == before
    with pytest.raises(
        EngineError, match=r"faces has deletion vectors, and the vacuum of engine sail would delete them"
    ):
        maintain(session, config, output, ["vacuum"])
    with pytest.raises(EngineError, match=r"engine sail cannot change the layout of a table; set engine\.name=spark"):
        maintain(session, config, output, ["layout"])
    assert on_sail.tables() == before
    on_sail.write([image(f"{PREFIX}00", content(0))])
    run = on_sail.run("enrich.delete_missing=true")
    assert (run.n_images, run.n_deleted_images) == (1, 10)
    assert on_sail.table("faces") == []


@pytest.fixture
def clustered(spark_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    spark_engine.select(monkeypatch)
    yield make(Workspace(spark_engine, tmp_path / "clustered"), *CLUSTERED)
    shutil.rmtree(tmp_path / "clustered")


def keys(workspace: Workspace, name: str) -> list[str]:
    (detail,) = workspace.engine.session.sql(f"DESCRIBE DETAIL delta.`{workspace.folder / 'out' / name}`").collect()
    return list(detail["clusteringColumns"])


def test_clustered_tables_are_maintained(clustered: Workspace, sail_engine: Engine) -> None:
    before, session, config = clustered.tables(), clustered.engine.session, clustered.engine.config(*AT_ONCE)
    out = clustered.folder / "out"
    with pytest.raises(SchemaError, match=r"the feature clustering, which engine sail cannot write"):
        delta_ops.delta_operations(sail_engine.session, "sail").compact(TableRef(str(out / "faces"), "delta"), 2**20)
    maintain(session, config, str(out), ["vacuum"])
    assert f"{PREFIX}01" not in ids_on_disk(out / "faces") | ids_on_disk(out / "image_results")
    maintain(session, config, str(out), ["compact"])
    assert (keys(clustered, "faces"), keys(clustered, "runs")) == (["image_id"], [])
    results = TableRef(str(out / "image_results"), "delta")
    tables = Tables(session, "spark")
    tables.rewrite(results, tables.read(results))
    assert keys(clustered, "image_results") == ["image_id"]
    assert clustered.tables() == before


def test_older_tables_get_the_layout_only_when_asked(
    spark_engine: Engine, sail_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sail_engine.select(monkeypatch)
    older = make(Workspace(sail_engine, tmp_path / "older"))  # faster, and as plain as tables of earlier releases
    older.write([image("new", content(1, "new"))])
    older.run()
    spark_engine.select(monkeypatch)
    workspace = Workspace(spark_engine, older.folder)
    faces, before = workspace.folder / "out" / "faces", workspace.tables()
    workspace.write([image("new", content(1, "newer"))])
    workspace.run()
    assert not any(is_marked for *_, is_marked in files(faces).values())
    config, out = spark_engine.config(*CLUSTERED), str(workspace.folder / "out")
    maintain(spark_engine.session, config, out, ["layout", "compact"])
    assert keys(workspace, "faces") == ["image_id"]
    workspace.write([image("new", content(1, "newest"))])
    workspace.run()
    assert any(is_marked for *_, is_marked in files(faces).values())
    rows = [[row for row in some if row["image_id"] != "new"] for some in (workspace.table("faces"), before[0])]
    assert rows[0] == rows[1]
