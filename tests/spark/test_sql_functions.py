"""The table functions of SQL, on every engine that has them."""

from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Engine
from fakes import content, inferred, provider

from faceattr_udf.errors import EngineError, SchemaError
from faceattr_udf.spark.enrichment import enrich
from faceattr_udf.spark.schemas import face_columns, face_struct
from faceattr_udf.spark.sql_functions import FaceBatches, register_sql_functions
from faceattr_udf.spark.transforms import analyze_images, explode_faces

SCHEMA = "image_id string, content binary"
ROWS = [("a", content(2)), ("b", content(0)), ("c", None), ("d", b"garbage"), ("e", b""), ("a", content(1, "again"))]

Query = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def query(engine: Engine, tmp_path: Path) -> Query:
    """Returns a function that registers the functions for a configuration, and runs SQL over a view of images."""

    def run(sql: str, *overrides: str, rows: list[Any] = ROWS, schema: str = SCHEMA) -> list[dict[str, Any]]:
        register_sql_functions(engine.session, engine.config(*overrides), provider(tmp_path / "seen"))
        engine.frame(rows, schema).createOrReplaceTempView("sql_images")
        found = [row.asDict(recursive=True) for row in engine.session.sql(sql).collect()]
        return sorted(found, key=lambda row: (str(row.get("image_id")), row["face_index"] or 0))

    return run


LATERAL = "SELECT image_id, f.* FROM sql_images, LATERAL detect_faces(content{}) f"
OF_TABLE = "SELECT * FROM detect_faces_of(TABLE(SELECT * FROM sql_images){})"


@pytest.mark.on_spark
@pytest.mark.parametrize("sql", [LATERAL, OF_TABLE])
def test_rows_are_those_of_the_transforms(engine: Engine, query: Query, tmp_path: Path, sql: str) -> None:
    rows = [(image_id, data) for image_id, data in ROWS if data != content(1, "again")]
    options = ("output.landmarks=true", "output.crops=true")
    config = engine.config(*options)
    images = engine.frame(rows, SCHEMA).transform(analyze_images(config, provider(tmp_path / "seen")))
    faces = [row.asDict(recursive=True) for row in images.transform(explode_faces(config)).collect()]
    found = query(sql.format(""), *options, rows=rows)
    own = ["image_id", *face_struct(config.output).fieldNames()]
    assert list(found[0]) == [*own, "status", "error"]
    wanted = sorted(faces, key=lambda row: row["face_index"])
    assert [{name: row[name] for name in own} for row in found] == [{name: row[name] for name in own} for row in wanted]
    assert {row["status"] for row in found} == {"ok"}


@pytest.mark.on_spark
@pytest.mark.parametrize("sql", [LATERAL, OF_TABLE])
@pytest.mark.parametrize("argument", [", true", ", all_images => true"])
def test_images_without_faces_have_a_row_on_request(query: Query, sql: str, argument: str) -> None:
    found = query(sql.format(argument))
    assert [(row["image_id"], row["face_index"], row["status"], row["error"]) for row in found] == [
        ("a", 0, "ok", None),
        ("a", 0, "ok", None),
        ("a", 1, "ok", None),
        ("b", None, "no_face", None),
        ("c", None, "missing", "no content"),
        ("d", None, "corrupt", "not an image"),
        ("e", None, "corrupt", "not an image"),
    ]
    assert {value for name, value in found[3].items() if name not in {"image_id", "status"}} == {None}


@pytest.mark.on_spark
@pytest.mark.parametrize("sql", [LATERAL, OF_TABLE])
def test_no_images_give_no_rows(query: Query, sql: str) -> None:
    assert query(sql.format(", true"), rows=[]) == []


@pytest.mark.on_spark
def test_faces_can_be_grouped_and_joined_in_sql(query: Query) -> None:
    sql = """
        SELECT first(i.image_id) AS image_id, count(*) AS n, 0 AS face_index, max(f.gender_probs['female']) AS p
        FROM sql_images i JOIN detect_faces_of(TABLE(SELECT image_id, content FROM sql_images)) f
            ON i.image_id = f.image_id
        WHERE f.bbox.x_max > 0 GROUP BY i.image_id
    """
    (row,) = query(sql, rows=ROWS[:5])
    assert row["n"] == 2
    assert 0 < row["p"] < 1


@pytest.mark.on_spark
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT image_id, f.* FROM sql_images, LATERAL detect_faces(content, true, consent) f",
        "SELECT image_id, f.* FROM sql_images, LATERAL detect_faces(content, consent => consent, all_images => true) f",
        OF_TABLE.format(", true"),
    ],
)
def test_images_without_consent_are_not_analyzed(query: Query, tmp_path: Path, sql: str) -> None:
    rows = [("a", content(1), True), ("b", content(1, "b"), False), ("c", content(1, "c"), None)]
    found = query(sql, "input.require_consent=true", rows=rows, schema=f"{SCHEMA}, consent boolean")
    assert [(row["image_id"], row["status"]) for row in found] == [
        ("a", "ok"),
        ("b", "not_consented"),
        ("c", "not_consented"),
    ]
    assert len(inferred(tmp_path / "seen")) == 1


def test_forgotten_consent_counts_as_none(query: Query, tmp_path: Path) -> None:
    assert [row["status"] for row in query(LATERAL.format(", true"), "input.require_consent=true", rows=ROWS[:1])] == [
        "not_consented"
    ]
    assert inferred(tmp_path / "seen") == []


@pytest.mark.on_spark
def test_base64_text_is_read_on_request(query: Query) -> None:
    rows = [("a", b64encode(content(1)).decode()), ("b", "https://host/b.jpg"), ("c", None)]
    found = query(
        OF_TABLE.format(", true"), "input.content_encoding=base64", rows=rows, schema="image_id string, content string"
    )
    assert [(row["image_id"], row["status"]) for row in found] == [("a", "ok"), ("b", "unsupported"), ("c", "missing")]


def test_left_join_lateral_still_loses_images_on_the_embedded_engine(query: Query, engine: Engine) -> None:
    """Documented; where this fails, Sail has learned it, and the documentation may say so."""
    assert engine.name == "sail"
    found = query("SELECT image_id, f.* FROM sql_images LEFT JOIN LATERAL detect_faces(content) f")
    assert {row["image_id"] for row in found} == {"a"}


@pytest.mark.on_spark(slow=True)
@pytest.mark.parametrize("sql", [LATERAL, OF_TABLE])
def test_demo_photographs_have_the_rows_of_a_run(engine: Engine, demo_photos: Path, tmp_path: Path, sql: str) -> None:
    photographs = [path for path in sorted(demo_photos.rglob("*")) if path.is_file()]
    rows = [(path.name, path.read_bytes()) for path in photographs] + [("null", None), ("cut", b"\xff\xd8\xff\xe0")]
    engine.frame(rows, SCHEMA).write.format("delta").save(str(tmp_path / "images"))
    config = engine.config()
    enrich(engine.session, config, str(tmp_path / "images"), str(tmp_path / "out"))
    register_sql_functions(engine.session, config)
    engine.read(tmp_path / "images").createOrReplaceTempView("sql_images")
    found = [row.asDict(recursive=True) for row in engine.session.sql(sql.format(", true")).collect()]

    own = ["image_id", *face_struct(config.output).fieldNames()]
    faces = [row.asDict(recursive=True) for row in engine.read(tmp_path / "out" / "faces").select(*own).collect()]
    in_order = {(row["image_id"], row["face_index"]): {name: row[name] for name in own} for row in found}
    assert len(faces) > 5
    assert [in_order[row["image_id"], row["face_index"]] for row in faces] == faces
    results = engine.read(tmp_path / "out" / "image_results").select("image_id", "status", "error").collect()
    told = {(row["image_id"], row["status"], row["error"]) for row in found}
    assert told == {tuple(row) for row in results}
    assert {row["status"] for row in results} == {"ok", "no_face", "missing", "corrupt"}
    assert len(found) == len(faces) + sum(row["status"] != "ok" for row in results)


def test_older_spark_is_refused() -> None:
    session: Any = SimpleNamespace(version="3.5.6")
    with pytest.raises(EngineError, match=r"Spark 3\.5\.6 cannot register .* use faceattr enrich, or analyze_images"):
        register_sql_functions(session)


class Row(dict[str, Any]):
    """A row as engines pass it."""

    @property
    def __fields__(self) -> list[str]:
        return list(self)


@pytest.fixture
def batches(tmp_path: Path) -> Callable[..., FaceBatches]:
    from faceattr_udf.config import Config

    return lambda *overrides: FaceBatches(
        Config.load(None, list(overrides)).model_dump_json(), provider(tmp_path / "seen")
    )


def test_batches_are_bounded_by_rows_and_bytes(batches: Callable[..., FaceBatches]) -> None:
    def sizes(maker: FaceBatches, contents: list[bytes | None]) -> list[int]:
        full = [maker.add(Row(image_id="a", content=data)) for data in contents]
        return [len(batch) for batch in [*full, maker.rest()] if batch]

    assert sizes(batches(), [b"x"] * 130) == [64, 64, 2]
    assert sizes(batches("enrich.max_batch_rows=3"), [b"x"] * 7) == [3, 3, 1]
    assert sizes(batches("enrich.max_batch_bytes=10"), [b"x" * 6, None, b"x" * 4, b"x" * 99, b"x"]) == [3, 1, 1]
    assert sizes(batches(), []) == []


def test_images_of_a_batch_are_analyzed_together(batches: Callable[..., FaceBatches]) -> None:
    rows = list(batches().faces([(i, content(1, str(i)), None) for i in "abc"], all_images=False))
    assert [image_id for image_id, _ in rows] == ["a", "b", "c"]
    assert {len(values) for _, values in rows} == {len(face_columns(batches()._config.output)) + 2}


def test_whole_numbers_are_ids(batches: Callable[..., FaceBatches]) -> None:
    maker = batches()
    maker.add(Row(image_id=7, content=content(1)))
    maker.add(Row(image_id=None, content=content(1)))
    assert [image[0] for image in maker.rest()] == ["7", None]


def test_wrong_arguments_are_told(batches: Callable[..., FaceBatches]) -> None:
    with pytest.raises(SchemaError, match="has no column image_id and no content; give its columns these names"):
        batches().add(Row(id="a", jpeg=b""))
    with pytest.raises(SchemaError, match="has no column consent"):
        batches("input.require_consent=true").add(Row(image_id="a", content=b""))
    with pytest.raises(SchemaError, match="content is str instead of binary"):
        list(batches().faces([("a", "text", None)], all_images=False))
