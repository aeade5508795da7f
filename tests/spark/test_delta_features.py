"""Features of Delta tables, without an engine: which are in the way of a run is said before any work."""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from faceattr_udf.errors import EngineError, SchemaError
from faceattr_udf.spark.delta_features import DeltaFeatures, add_local_times
from faceattr_udf.spark.locations import TableRef
from faceattr_udf.spark.maintenance.delta_ops import delta_operations

ROWS = pa.table({"image_id": ["a"], "n": [1]})


def table(folder: Path, **properties: str) -> TableRef:
    named = {f"delta.{name}": value for name, value in properties.items()}
    write_deltalake(str(folder / "t"), ROWS, configuration=named)  # type: ignore[arg-type]
    return TableRef(str(folder / "t"), "delta")


def test_no_table_has_no_features(tmp_path: Path) -> None:
    ref = TableRef(str(tmp_path / "nothing"), "delta")
    assert DeltaFeatures.read(ref) == DeltaFeatures()
    DeltaFeatures.read(ref).refuse(ref, "sail")
    assert DeltaFeatures.read(TableRef("shop.faces", "table")) == DeltaFeatures()


def test_harmless_features(tmp_path: Path) -> None:
    ref = table(tmp_path, enableDeletionVectors="true", appendOnly="false")
    DeltaTable(ref.location).alter.add_constraint({"positive": "n > 0"})
    features = DeltaFeatures.read(ref)
    assert features.properties["delta.constraints.positive"] == "n > 0"
    for name in ("sail", "spark"):
        features.refuse(ref, name)


@pytest.mark.parametrize("name", ["sail", "spark"])
def test_append_only_table_is_refused(tmp_path: Path, name: str) -> None:
    ref = table(tmp_path, appendOnly="true")
    with pytest.raises(SchemaError, match=r"/t is append-only; turn it off with ALTER TABLE .* = 'false'"):
        DeltaFeatures.read(ref).refuse(ref, name)


def test_change_data_feed_is_refused_on_the_embedded_engine(tmp_path: Path) -> None:
    ref = table(tmp_path, enableChangeDataFeed="true")
    with pytest.raises(SchemaError, match="has a change data feed, which engine sail cannot write; turn it off"):
        DeltaFeatures.read(ref).refuse(ref, "sail")
    DeltaFeatures.read(ref).refuse(ref, "spark")


def test_features_are_read_from_checkpoints(tmp_path: Path) -> None:
    ref = table(tmp_path, appendOnly="true")
    write_deltalake(ref.location, ROWS, mode="append")
    DeltaTable(ref.location).create_checkpoint()
    log = Path(ref.location, "_delta_log")
    (log / "00000000000000000000.json").unlink()
    assert DeltaFeatures.read(ref).properties["delta.appendOnly"] == "true"


def write_log(folder: Path, protocol: str, columns: str) -> TableRef:
    log = folder / "t" / "_delta_log"
    log.mkdir(parents=True)
    metadata = {"schemaString": f'{{"fields":[{columns}]}}', "configuration": {}}
    actions = ({"protocol": json.loads(protocol)}, {"metaData": metadata})
    (log / f"{0:020}.json").write_text("".join(json.dumps(one, separators=(",", ":")) + "\n" for one in actions))
    return TableRef(str(folder / "t"), "delta")


def test_row_tracking_is_refused_on_the_embedded_engine(tmp_path: Path) -> None:
    ref = write_log(tmp_path, '{"minWriterVersion":7,"writerFeatures":["rowTracking","domainMetadata"]}', "")
    with pytest.raises(SchemaError, match="has the feature domainMetadata, which engine sail cannot write; set engine"):
        DeltaFeatures.read(ref).refuse(ref, "sail")
    DeltaFeatures.read(ref).refuse(ref, "spark")


def test_delta_rs_does_not_maintain_what_it_would_damage(tmp_path: Path) -> None:
    operations = delta_operations(None, "sail")  # type: ignore[arg-type]  # it needs no session
    marked = write_log(tmp_path / "marked", '{"minWriterVersion":7,"writerFeatures":["deletionVectors"]}', "")
    with pytest.raises(
        EngineError, match=r"has deletion vectors, and the vacuum of engine sail would delete them; set"
    ):
        operations.vacuum(marked, 168)
    clustered = write_log(tmp_path / "clustered", '{"minWriterVersion":7,"writerFeatures":["clustering"]}', "")
    for maintain in (lambda: operations.vacuum(clustered, 168), lambda: operations.compact(clustered, 2**27)):
        with pytest.raises(SchemaError, match="has the feature clustering, which engine sail cannot write; set engine"):
            maintain()


def test_local_times_are_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = table(tmp_path)
    add_local_times(ref)
    assert "timestampNtz" in DeltaFeatures.read(ref).writer_features
    with pytest.raises(EngineError, match=r"engine sail cannot locate the catalog table shop\.faces"):
        add_local_times(TableRef("shop.faces", "table"))
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(EngineError, match=r"install the extra .*, or write the column with a time zone"):
        add_local_times(ref)


def test_generated_columns(tmp_path: Path) -> None:
    computed = '{"name":"day","metadata":{"delta.generationExpression":"date(t)"}},{"name":"t","metadata":{}}'
    assert DeltaFeatures.read(write_log(tmp_path, "{}", computed)).generated == {"day"}
