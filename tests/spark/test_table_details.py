"""Comments, properties, cluster keys and tags of new tables; what an engine lacks is skipped and said."""

import json
from pathlib import Path
from typing import Any

import pytest
import structlog
from pyspark.errors import AnalysisException
from workspaces import IMAGES, Workspace

from faceattr_udf import Config
from faceattr_udf.errors import ConfigError
from faceattr_udf.spark.descriptions import COLUMNS
from faceattr_udf.spark.locations import TableRef
from faceattr_udf.spark.schemas import IMAGE_RESULTS, RUNS, faces_table
from faceattr_udf.spark.table_details import DELETION_VECTORS, STRING_PREFIX, TableDetails, check_details
from faceattr_udf.spark.tables import Tables

ALL = (
    "output.comments=true",
    "output.deletion_vectors=true",
    'output.cluster_by=["image_id"]',
    "output.properties.delta.appendOnly=false",
    "output.properties.team=analytics",
    "output.tags.sensitivity=high",
    'output.column_tags={ethnicity = {sensitivity = "high"}}',
)


def metadata(table: Path) -> dict[str, Any]:
    """Returns the newest metadata in a table's log."""
    found = {}
    for log in sorted((table / "_delta_log").glob("*.json")):
        for line in log.read_text().splitlines():
            found |= json.loads(line).get("metaData", {})
    return found


@pytest.mark.on_spark
def test_new_tables_carry_what_their_engine_has(workspace: Workspace) -> None:
    workspace.write(IMAGES)
    with structlog.testing.capture_logs() as logs:
        run = workspace.run(*ALL)
    assert run.counts["ok"]
    made = metadata(workspace.folder / "out" / "faces")
    assert made["configuration"]["delta.appendOnly"] == "false"
    skipped = {
        Path(event["table"]).name: event["skipped"] for event in logs if event["event"] == "table_details_skipped"
    }
    assert made["configuration"].get(DELETION_VECTORS) == (None if workspace.engine.name == "sail" else "true")
    assert made["configuration"].get(STRING_PREFIX) == (None if workspace.engine.name == "sail" else "256")
    if workspace.engine.name == "sail":
        assert skipped["faces"] == ["comments", "properties", "cluster_by", "tags", "column_tags"]
        return
    assert skipped == {"faces": ["tags", "column_tags"], "image_results": ["tags"], "runs": ["tags"]}
    assert made["configuration"]["team"] == "analytics"
    assert "not truths about people" in made["description"]
    (clustered,) = workspace.engine.session.sql(
        f"DESCRIBE DETAIL delta.`{workspace.folder / 'out' / 'faces'}`"
    ).collect()
    assert clustered["clusteringColumns"] == ["image_id"]
    for name in ("faces", "image_results", "runs"):
        fields = json.loads(metadata(workspace.folder / "out" / name)["schemaString"])["fields"]
        comments = {field["name"]: field["metadata"].get("comment") for field in fields}
        assert {column: text for column, text in comments.items() if column in COLUMNS[name]} == {
            column: COLUMNS[name][column] for column in comments if column in COLUMNS[name]
        }
    # Tables that carry all this are read, merged and added to as any other.
    assert workspace.run(*ALL).counts == {}
    workspace.write([*IMAGES[1:], ("new", IMAGES[0][1], IMAGES[0][2], "/x/new", None, 7)])
    assert workspace.run(*ALL).n_images == 1


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ('output.cluster_by=["imageid"]', r"output\.cluster_by names 'imageid', which no output table has; .*image_id"),
        ('output.cluster_by=["bbox"]', r"output\.cluster_by names 'bbox' of type struct.*choose columns of text"),
        ('output.column_tags={race = {a = "b"}}', r"output\.column_tags names 'race', which no output table has"),
    ],
)
def test_wrong_column_is_named_before_any_work(override: str, sentence: str) -> None:
    output = Config.load(None, [override]).output
    with pytest.raises(ConfigError, match=sentence):
        check_details(output, [faces_table(output), IMAGE_RESULTS, RUNS])


def test_five_cluster_keys_are_too_many() -> None:
    with pytest.raises(ConfigError, match=r"output\.cluster_by"):
        Config.load(None, ['output.cluster_by=["a", "b", "c", "d", "e"]'])


def test_details_of_tables_do_not_change_what_is_computed() -> None:
    assert Config.load(None, ALL).config_id() == Config().config_id()


class SessionOfAnOldDelta:
    """Refuses statements with what it does not know, and remembers those that it takes."""

    def __init__(self, *unknown: str) -> None:
        self.unknown = unknown
        self.taken: list[str] = []

    def sql(self, statement: str) -> "SessionOfAnOldDelta":
        if any(word in statement for word in self.unknown):
            raise AnalysisException("[DELTA_UNKNOWN_CONFIGURATION] Unknown configuration was specified")
        self.taken.append(statement)
        return self

    def collect(self) -> list[Any]:
        return []


@pytest.mark.parametrize(
    ("unknown", "has", "left_out"),
    [
        ((), (STRING_PREFIX, "CLUSTER BY (`run_id`)", DELETION_VECTORS), []),
        ((STRING_PREFIX,), ("CLUSTER BY (`run_id`)", DELETION_VECTORS), [STRING_PREFIX]),
        ((STRING_PREFIX, "CLUSTER BY"), (DELETION_VECTORS,), [STRING_PREFIX, "cluster_by"]),
        ((STRING_PREFIX, "CLUSTER BY", DELETION_VECTORS), (), [STRING_PREFIX, DELETION_VECTORS, "cluster_by"]),
    ],
)
def test_older_delta_makes_the_table_without_what_it_does_not_know(
    unknown: tuple[str, ...], has: tuple[str, ...], left_out: list[str], tmp_path: Path
) -> None:
    session: Any = SessionOfAnOldDelta(*unknown)
    output = Config.load(
        None, ['output.cluster_by=["run_id"]', "output.properties.team=x", "output.deletion_vectors=true"]
    ).output
    with structlog.testing.capture_logs() as logs:
        Tables(session, "spark").ensure(
            TableRef(str(tmp_path / "t"), "delta"), RUNS, TableDetails("runs", output, "spark")
        )
    (statement,) = session.taken
    assert "'team' = 'x'" in statement
    features = (STRING_PREFIX, "CLUSTER BY (`run_id`)", DELETION_VECTORS)
    assert [word for word in features if word in statement] == list(has)
    told = {event["event"]: event for event in logs}
    named = [*told.get("table_layout_reduced", {}).get("left_out", ())]
    named += told.get("table_details_skipped", {}).get("skipped", ())
    assert named == left_out


def test_own_properties_and_plain_tables_take_precedence() -> None:
    def layout(*overrides: str, engine: str = "spark") -> dict[str, str]:
        return TableDetails("faces", Config.load(None, overrides).output, engine).layout()

    on = "output.deletion_vectors=true"
    assert layout() == {STRING_PREFIX: "256"}
    assert layout(on) == {STRING_PREFIX: "256", DELETION_VECTORS: "true"}
    assert layout(on, f"output.properties.{DELETION_VECTORS}=false") == {STRING_PREFIX: "256"}
    assert layout(on, engine="sail") == {}
