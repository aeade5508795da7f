"""Views over the marts in a schema of a catalog."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Engine
from marts_data import night, shipped_calibration, write

from faceattr_udf.errors import ConfigError, SchemaError, TableNotFoundError
from faceattr_udf.spark.descriptions import COLUMNS
from faceattr_udf.spark.marts.build import MartsReport, build_marts
from faceattr_udf.spark.marts.layout import MARTS

SCHEMA = "marts_views"


@pytest.fixture
def schema(spark_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    spark_engine.select(monkeypatch)
    spark_engine.session.sql(f"CREATE SCHEMA `{SCHEMA}`")
    yield SCHEMA
    spark_engine.session.sql(f"DROP SCHEMA `{SCHEMA}` CASCADE")


def build(engine: Engine, folder: Path, views: str) -> MartsReport:
    config = engine.config(f'marts.views="{views}"')
    return build_marts(engine.session, config, str(folder), shipped_calibration())


def test_views_are_refused_on_the_embedded_engine(engine: Engine, tmp_path: Path) -> None:
    write(engine, tmp_path, night())
    with pytest.raises(ConfigError, match=r"marts\.views = 'lake', but engine sail .* set engine\.name=spark"):
        build(engine, tmp_path, "lake")
    assert not (tmp_path / "marts").exists()


@pytest.mark.spark
def test_views_show_tables_and_comments(spark_engine: Engine, schema: str, tmp_path: Path) -> None:
    folder = tmp_path / "odd 'name"
    write(spark_engine, folder, night())
    for wrong, error in (("a.b.c", ConfigError), ("s3://x", ConfigError), ("nowhere", TableNotFoundError)):
        with pytest.raises(error, match=r"marts\.views"):
            build(spark_engine, folder, wrong)
    assert not (folder / "marts").exists()

    assert build(spark_engine, folder, schema).views == ("faces", "image_results", *MARTS)
    spark = spark_engine.session
    for name in ("faces", "shares", "marts_state"):
        view, table = spark.table(f"`{schema}`.{name}"), folder / ("" if name == "faces" else "marts") / name
        assert view.count() == spark.read.format("delta").load(str(table)).count() > 0
    comments = {row["col_name"]: row["comment"] for row in spark.sql(f"DESCRIBE `{schema}`.audience").collect()}
    assert {name: comments[name] for name in MARTS["audience"].comments} == MARTS["audience"].comments
    comments = {row["col_name"]: row["comment"] for row in spark.sql(f"DESCRIBE `{schema}`.faces").collect()}
    assert comments["age"] == COLUMNS["faces"]["age"]
    told = spark.sql(f"DESCRIBE EXTENDED `{schema}`.audience").where("col_name = 'Comment'").collect()
    assert [row["data_type"] for row in told] == [MARTS["audience"].comment]

    assert build(spark_engine, folder, schema).views == ()  # grants on them stay
    spark.sql(f"DROP VIEW `{schema}`.shares")
    assert build(spark_engine, folder, schema).views == ("shares",)
    spark.sql(f"CREATE OR REPLACE VIEW `{schema}`.coverage AS SELECT 1 AS mine")
    with pytest.raises(SchemaError, match=r"coverage exists and is not a view of .* DROP VIEW"):
        build(spark_engine, folder, schema)
    assert spark.table(f"`{schema}`.coverage").columns == ["mine"]
