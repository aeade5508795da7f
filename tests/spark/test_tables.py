"""Every table operation on every engine."""

import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
from conftest import Engine
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention
from pyspark.sql.types import IntegerType, LongType, StringType, StructField, StructType

from faceattr_udf.config import Config
from faceattr_udf.errors import BusyError, EngineError, SchemaError, TableNotFoundError
from faceattr_udf.spark.delta_features import DeltaFeatures
from faceattr_udf.spark.locations import TableRef, absolute, input_ref, output_ref
from faceattr_udf.spark.tables import Tables

KEY = StructField("key", StringType())
KEY_VALUE = StructType([KEY, StructField("value", LongType())])
INJECTION = "x') OR (1=1) -- ${env:HOME}"


@pytest.fixture
def tables(engine: Engine) -> Tables:
    return Tables(engine.session, engine.name)


@pytest.fixture
def ref(tmp_path: Path) -> TableRef:
    return TableRef(str(tmp_path / "t"), "delta")


@pytest.fixture
def schema(engine: Engine) -> StructType:
    """With a name that needs quotes where the engine allows one; Delta on Spark refuses spaces."""
    return KEY_VALUE if engine.name != "sail" else StructType([KEY, StructField("odd`na me", LongType())])


@pytest.mark.on_connect
def test_missing_table_is_not_found(tables: Tables, ref: TableRef) -> None:
    assert tables.find(ref) is None
    with pytest.raises(TableNotFoundError, match=r"does not exist"):
        tables.read(ref)


@pytest.mark.on_spark
def test_folder_without_a_table_is_not_found(tables: Tables, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "notes.txt").write_text("nothing")
    assert tables.find(TableRef(str(tmp_path / "t"), "delta")) is None


@pytest.mark.on_connect
def test_ensure_makes_an_empty_table_once(tables: Tables, ref: TableRef, schema: StructType) -> None:
    assert not tables.check(ref, schema)
    tables.ensure(ref, schema)
    tables.ensure(ref, schema)
    assert tables.check(ref, schema)
    assert tables.read(ref).collect() == []


@pytest.mark.on_connect
def test_merge_updates_inserts_and_deletes_in_one_commit(tables: Tables, ref: TableRef, schema: StructType) -> None:
    spark, value = tables.spark, schema.fieldNames()[1]
    tables.ensure(ref, schema)
    tables.append(ref, spark.createDataFrame([("a", 1), ("b", 2), ("d", 5), (INJECTION, 3)], schema))
    commits = len(list(Path(ref.location, "_delta_log").glob("*.json")))
    flagged = StructType([*schema, StructField("gone", StringType())])
    rows = [("a", 10, None), ("b", None, "x"), ("bb", None, "x"), ("c", 4, None), ("d", 50, None)]
    source = spark.createDataFrame(rows, flagged)
    source = source.selectExpr("key", f"`{value.replace('`', '``')}`", "gone IS NOT NULL AS gone")
    tables.merge(ref, source, ["key"], "gone", ("key", "a", "d"))
    assert sorted(tuple(row) for row in tables.read(ref).collect()) == [
        *(("a", 10), ("c", 4), ("d", 50), (INJECTION, 3))
    ]
    assert len(list(Path(ref.location, "_delta_log").glob("*.json"))) == commits + 1


@pytest.mark.on_spark
def test_hostile_text_stays_text(tables: Tables, ref: TableRef, schema: StructType) -> None:
    spark = tables.spark
    tables.ensure(ref, schema)
    keys = [INJECTION, "it's \\ ünïcode", "a`b", "%s {x} ${y}"]
    tables.append(ref, spark.createDataFrame([(key, 1) for key in [*keys, "other"]], schema))
    source = spark.createDataFrame([(key, 2) for key in keys], schema)
    tables.merge(ref, source, ["key"], None, ("key", min(keys), max(keys)))
    assert {row[0]: row[1] for row in tables.read(ref).collect()} == {**dict.fromkeys(keys, 2), "other": 1}
    tables.delete(ref, spark.createDataFrame([(INJECTION,), (INJECTION,)], "key string"), "key")
    assert {row[0] for row in tables.read(ref).collect()} == {*keys[1:], "other"}


@pytest.mark.on_connect
@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (StructType([KEY]), "value bigint is not expected|value is not expected"),
        (StructType([KEY, StructField("value", IntegerType())]), "value is bigint instead of int"),
        (StructType([*KEY_VALUE, StructField("x", LongType())]), "x bigint is missing"),
    ],
)
def test_table_with_other_columns_is_refused(tables: Tables, ref: TableRef, changed: StructType, named: str) -> None:
    tables.ensure(ref, KEY_VALUE)
    with pytest.raises(SchemaError, match=named):
        tables.ensure(ref, changed)
    with pytest.raises(SchemaError, match=r"table .*t does not have the columns"):
        tables.append(ref, tables.spark.createDataFrame([], changed))


@pytest.mark.on_connect
def test_catalog_table(engine: Engine, tables: Tables) -> None:
    spark = tables.spark
    spark.sql("CREATE DATABASE IF NOT EXISTS shop")
    ref = output_ref(f"shop.people_{engine.name}", "ignored")
    assert ref.format == "table"
    try:
        assert tables.find(ref) is None
        tables.ensure(ref, KEY_VALUE)
        tables.append(ref, spark.createDataFrame([("a", 1)], KEY_VALUE))
        tables.merge(ref, spark.createDataFrame([("a", 2), ("b", 3)], KEY_VALUE), ["key"])
        tables.delete(ref, spark.createDataFrame([("b",)], "key string"), "key")
        assert [tuple(row) for row in tables.read(ref).collect()] == [("a", 2)]
    finally:
        spark.sql(f"DROP TABLE IF EXISTS {ref.sql}")


@pytest.mark.on_connect
def test_features_of_a_catalog_table(engine: Engine, tables: Tables) -> None:
    spark = tables.spark
    spark.sql("CREATE DATABASE IF NOT EXISTS shop")
    ref = output_ref(f"shop.closed_{engine.name}", "ignored")
    assert tables.features(ref) == DeltaFeatures()
    if engine.name == "sail":  # keeps no properties of catalog tables
        return
    try:
        spark.sql(f"CREATE TABLE {ref.sql} (key string) USING delta TBLPROPERTIES ('delta.appendOnly' = 'true')")
        with pytest.raises(SchemaError, match=r"closed_.* is append-only; turn it off with ALTER TABLE"):
            tables.features(ref).refuse(ref, engine.name)
    finally:
        spark.sql(f"DROP TABLE IF EXISTS {ref.sql}")


@pytest.mark.on_spark
def test_path_with_a_space(engine: Engine, tables: Tables, tmp_path: Path) -> None:
    ref = TableRef(str(tmp_path / "my photos"), "delta")
    if engine.name == "sail":
        with pytest.raises(EngineError, match="space"):
            tables.check(ref, KEY_VALUE)
        assert not Path(ref.location).exists()
        assert not Path(quote(ref.location)).exists()
    else:
        tables.ensure(ref, KEY_VALUE)
        tables.merge(ref, tables.spark.createDataFrame([("a", 2)], KEY_VALUE), ["key"])
        assert tables.read(ref).count() == 1


def test_table_references(tmp_path: Path) -> None:
    config = Config()
    with pytest.raises(TableNotFoundError, match=r"no/such does not exist"):
        input_ref("no/such", config)
    assert input_ref("shop.photos", config) == TableRef("shop.photos", "table")
    assert input_ref("s3://bucket/photos", config) == TableRef("s3://bucket/photos", "delta")
    assert input_ref("s3://bucket/photos.parquet", config) == TableRef("s3://bucket/photos.parquet", "parquet")
    assert input_ref(str(tmp_path), config) == TableRef(str(tmp_path), "parquet")
    (tmp_path / "_delta_log").mkdir()
    assert input_ref(str(tmp_path), config) == TableRef(str(tmp_path), "delta")
    asked = Config.load(None, ["input.format=table"])
    assert input_ref("photos", asked) == TableRef("photos", "table")
    assert output_ref("faces", "s3://bucket/out/") == TableRef("s3://bucket/out/faces", "delta")
    assert output_ref("faces", "out") == TableRef(absolute("out/faces"), "delta")
    assert output_ref("shop.faces", "out") == TableRef("shop.faces", "table")


@pytest.mark.on_spark
def test_replace_changes_only_given_keys_in_one_commit(tables: Tables, ref: TableRef) -> None:
    spark = tables.spark
    tables.ensure(ref, KEY_VALUE)
    tables.append(ref, spark.createDataFrame([("a", 1), ("it's \\ b", 2), (INJECTION, 3), (None, 4)], KEY_VALUE))
    commits = len(list(Path(ref.location, "_delta_log").glob("*.json")))
    keys = ["it's \\ b", INJECTION, *(f"none {index}" for index in range(500))]
    tables.replace(ref, spark.createDataFrame([("it's \\ b", 20)], KEY_VALUE), "key", keys)
    assert {tuple(row) for row in tables.read(ref).collect()} == {("a", 1), ("it's \\ b", 20), (None, 4)}
    assert len(list(Path(ref.location, "_delta_log").glob("*.json"))) == commits + 1


@pytest.mark.on_spark
def test_rewrite_replaces_rows_and_columns_in_one_commit(tables: Tables, ref: TableRef) -> None:
    tables.ensure(ref, KEY_VALUE)
    tables.append(ref, tables.spark.createDataFrame([("a", 1), ("b", 2)], KEY_VALUE))
    commits = len(list(Path(ref.location, "_delta_log").glob("*.json")))
    tables.rewrite(ref, tables.read(ref).where("key = 'b'").selectExpr("key", "value AS amount", "'x' AS more"))
    assert [row.asDict() for row in tables.read(ref).collect()] == [{"key": "b", "amount": 2, "more": "x"}]
    assert len(list(Path(ref.location, "_delta_log").glob("*.json"))) == commits + 1


@pytest.mark.on_spark
def test_replace_in_catalog_table_keeps_other_rows(engine: Engine, tables: Tables) -> None:
    spark = tables.spark
    spark.sql("CREATE DATABASE IF NOT EXISTS market")
    ref = TableRef(f"market.stalls_{engine.name}", "table")
    try:
        tables.ensure(ref, KEY_VALUE)
        tables.append(ref, spark.createDataFrame([("a", 1), ("b", 2), ("c", 3)], KEY_VALUE))
        tables.replace(ref, spark.createDataFrame([("b", 20)], KEY_VALUE), "key", ["b", "c"])
        assert sorted(map(tuple, tables.read(ref).collect())) == [("a", 1), ("b", 20)]
    finally:
        spark.sql(f"DROP TABLE IF EXISTS {ref.sql}")


@pytest.mark.on_spark(slow=True)
def test_concurrent_merges_lose_and_duplicate_no_row(tables: Tables, ref: TableRef) -> None:
    tables.ensure(ref, KEY_VALUE)
    together = threading.Barrier(2, timeout=60)

    def merge(writer: int) -> None:
        for index in range(4):
            rows = [("shared", index), (f"{writer} {index}", index)]
            together.wait()
            tables.merge(ref, tables.spark.createDataFrame(rows, KEY_VALUE), ["key"])

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(merge, writer) for writer in range(2)]:
            done.result()
    keys = sorted(row.key for row in tables.read(ref).collect())
    assert keys == sorted(["shared", *(f"{writer} {index}" for writer in range(2) for index in range(4))])


def test_commit_that_always_conflicts_raises_busy(ref: TableRef, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("faceattr_udf.spark.retries.sleep", waited.append)

    def second(_: str) -> None:
        raise RuntimeError("[DELTA_CONCURRENT_APPEND] files were added")

    session = types.SimpleNamespace(sql=second, catalog=types.SimpleNamespace(dropTempView=lambda _: None))
    frame = types.SimpleNamespace(columns=["key"], createOrReplaceTempView=lambda _: None)
    with pytest.raises(
        BusyError, match=r"t is being changed by other writers, and 10 commits failed \(\[DELTA_CONC.*\); "
    ):
        Tables(session, "sail").merge(ref, frame, ["key"])  # type: ignore[arg-type]
    assert len(waited) == 9
    assert max(waited) <= 10


@pytest.mark.spark
@pytest.mark.parametrize("kind", ["delta", "table"])
def test_append_is_made_once(kind: str, spark_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spark_engine.select(monkeypatch)
    tables, schema = Tables(spark_engine.session, "spark"), StructType().add("key", "string").add("n", "integer")
    ref = TableRef(str(tmp_path / "t") if kind == "delta" else "appended_once", kind)  # type: ignore[arg-type]
    tables.ensure(ref, schema)
    number = tables.next_append(ref)
    for _ in range(2):  # the first attempt may have ended with an error although its commit was made
        tables.append_once(ref, spark_engine.frame([("a", 1)], "key string, n int"), number)
    assert [row["key"] for row in tables.read(ref).collect()] == ["a"]
    late = tables.next_append(ref)
    tables.delete(ref, spark_engine.frame([("x",)], "key string"), "key")
    assert tables.next_append(ref) >= late > number
    tables.append_once(ref, spark_engine.frame([("b", 2)], "key string, n int"), tables.next_append(ref))
    # A writer that was suspended before its append, and whose images another run has taken over meanwhile.
    tables.append_once(ref, spark_engine.frame([("b", 3)], "key string, n int"), late)
    assert sorted((row["key"], row["n"]) for row in tables.read(ref).collect()) == [("a", 1), ("b", 2)]
    assert tables.appends_once
    assert not Tables(spark_engine.session, "sail").appends_once
    spark_engine.session.sql("DROP TABLE IF EXISTS appended_once")


@pytest.mark.spark
def test_append_at_the_same_time_is_a_conflict(
    spark_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spark_engine.select(monkeypatch)
    ref, schema = TableRef(str(tmp_path / "t"), "delta"), StructType().add("key", "string").add("n", "integer")
    first = Tables(spark_engine.session, "spark")
    first.ensure(ref, schema)
    number = first.next_append(ref)
    checks: list[None] = []

    def check_lease() -> None:
        checks.append(None)
        if len(checks) > 1:
            msg = "another run holds the lease"
            raise BusyError(msg)

    second = Tables(spark_engine.session, "spark", before_commit=check_lease)
    wait_for_append = F.udf(lambda key: time.sleep(20) or key, "string")
    slow = spark_engine.frame([("a", 2)], "key string, n int").select(wait_for_append("key").alias("key"), "n")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(second.append_once, ref, slow, number)
        while not list(Path(ref.location).glob("_temporary/*")) and not waiting.done() and not checks:
            time.sleep(0.1)
        time.sleep(5)  # its transaction has begun, and its task waits
        first.append_once(ref, spark_engine.frame([("a", 1)], "key string, n int"), number)
        with pytest.raises(BusyError, match="another run holds the lease"):
            waiting.result()
    assert [row["n"] for row in first.read(ref).collect()] == [1]
