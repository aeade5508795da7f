"""Published tables: people are counted as Python counts them, each period is published once, and nothing else."""

import json
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Engine
from deltalake import DeltaTable
from face_tables import face_row
from pyspark.sql.types import StringType, StructField, TimestampType

from faceattr_udf.attributes.predictor import model_record
from faceattr_udf.config import AttributesConfig, OutputConfig
from faceattr_udf.errors import BusyError, ConfigError, TableNotFoundError
from faceattr_udf.labels import AGE_GROUPS, GENDERS
from faceattr_udf.publishing.release import Row, release
from faceattr_udf.shares.calibration_file import load_calibration
from faceattr_udf.spark.lease import Lease
from faceattr_udf.spark.publishing.publish import PublishReport, publish, published_ref
from faceattr_udf.spark.schemas import faces_table
from faceattr_udf.spark.tables import Tables
from jobs import publish as publish_job

CALIBRATION = load_calibration(model_record(AttributesConfig()))
MODEL = f"mtcnn-test+{model_record(AttributesConfig()).model_version}"
TODAY = date(2026, 3, 1)
PASSED = [
    StructField("catalog", StringType()),
    StructField("captured_at", TimestampType()),
    StructField("subject_id", StringType()),
]
LABELS = {"age_group": AGE_GROUPS, "gender": GENDERS}

Faces = list[dict[str, Any]]


def january() -> Faces:
    """Returns photographs of 300 people: up to three of each, with others beside them."""
    rng = np.random.default_rng(3)
    faces = []
    for person in range(300):
        catalog = str(rng.choice(["shoes", "hats", "rare"], p=[0.7, 0.27, 0.03]))
        for photograph in range(rng.integers(1, 4)):
            image_id = f"{rng.integers(10**9):09d}-{person}-{photograph}"
            for index in range(rng.integers(1, 3)):
                gender = str(rng.choice(GENDERS, p=[0.8, 0.2]))
                place = {"age_group": str(rng.choice(AGE_GROUPS)), "gender": gender if rng.random() < 0.9 else None}
                faces.append(
                    face_row(
                        image_id,
                        index,
                        **place,
                        gender_probs={"female": 0.6, "male": 0.4},
                        model_version=MODEL,
                        catalog=catalog,
                        captured_at=datetime(2026, 1, 1 + int(rng.integers(31)), 12, tzinfo=UTC),
                        # Some photographs do not name their subject.
                        subject_id=None if person % 10 == 0 else f"subject-{person}",
                        processed_at=datetime(2026, 2, 1, tzinfo=UTC),
                    )
                )
    return faces


def write(engine: Engine, folder: Path, faces: Faces, without: str = "") -> None:
    schema = faces_table(OutputConfig(), [field for field in PASSED if field.name != without])
    rows = [tuple(face.get(name) for name in schema.fieldNames()) for face in faces]
    engine.session.createDataFrame(rows, schema).write.format("delta").mode("overwrite").save(str(folder / "faces"))


def run(engine: Engine, folder: Path, *settings: str, today: date = TODAY) -> PublishReport:
    config = engine.config(*settings)
    return publish(engine.session, config, str(folder), CALIBRATION, today=today, rng=np.random.default_rng(1))


def rows_of(engine: Engine, folder: Path) -> list[dict[str, Any]]:
    rows = [row.asDict() for row in engine.read(published_ref(str(folder)).location).collect()]
    return sorted(rows, key=lambda row: [row["period_start"], row["catalog"], row["attribute"], row["label"]])


def in_python(faces: Faces) -> list[Row]:
    """Counts people without an engine."""
    firsts: dict[str, dict[str, Any]] = {}
    for face in sorted((face for face in faces if face["face_index"] == 0), key=lambda face: face["image_id"]):
        firsts.setdefault(face["subject_id"] or face["image_id"], face)
    counts: dict[str, dict[str, Counter[str]]] = {name: {} for name in LABELS}
    for face in firsts.values():
        for name in LABELS:
            # Where the model abstains, its probabilities decide.
            counts[name].setdefault(face["catalog"], Counter())[face[name] or "female"] += 1
    assert CALIBRATION is not None
    return release(counts, LABELS, 10, CALIBRATION.attributes, np.random.default_rng(1))


@pytest.mark.on_spark(slow=True)
def test_people_are_published_once(engine: Engine, tmp_path: Path) -> None:
    faces = january()
    fresh = [face | {"image_id": f"new-{face['image_id']}", "captured_at": datetime(2026, 2, 20)} for face in faces]
    write(engine, tmp_path, faces + fresh)
    report = run(engine, tmp_path)
    assert (report.published, report.open) == (("2026-01-01",), ("2026-02-01",))
    found = rows_of(engine, tmp_path)
    expected = {(row.catalog, row.attribute, row.label): row for row in in_python(faces)}
    assert len(found) == len(expected) == report.n_cells
    for row in found:
        cell = expected[row["catalog"], row["attribute"], row["label"]]
        for name in ("n_people", "counted_share", "share", "low", "high"):
            assert row[name] == getattr(cell, name), (cell, name)
        assert (row["status"], row["period"], row["k"]) == (
            "suppressed" if cell.n_people is None else "ok",
            "month",
            10,
        )
    assert any(row["share"] is not None for row in found)
    assert any(row["status"] == "suppressed" for row in found)
    # A person is erased, another one comes late.
    changed = [face for face in faces if face["subject_id"] != "subject-7"]
    write(engine, tmp_path, [*changed, faces[0] | {"image_id": "late", "subject_id": "late"}])
    table = DeltaTable(published_ref(str(tmp_path)).location)
    version = table.version()
    again = run(engine, tmp_path)
    assert (again.published, again.frozen) == ((), ("2026-01-01",))
    assert rows_of(engine, tmp_path) == found
    table.update_incremental()
    assert table.version() == version


def test_a_killed_run_published_nothing(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(engine, tmp_path, january())

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Tables, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            run(engine, tmp_path)
    assert rows_of(engine, tmp_path) == []
    assert run(engine, tmp_path).published == ("2026-01-01",)
    with pytest.raises(ConfigError, match=r"publish\.period = week.*has months.*set publish\.period = month"):
        run(engine, tmp_path, "publish.period=week")
    with Lease(str(tmp_path / "published"), "another", 60), pytest.raises(BusyError):
        run(engine, tmp_path)


def test_what_is_not_published(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(TableNotFoundError, match="faceattr enrich"):
        run(engine, tmp_path)
    few = [face_row(str(n), 0, captured_at=datetime(2026, 1, 5), catalog="shoes") for n in range(19)]
    december = {"captured_at": datetime(2025, 12, 5)}
    mixed = [face | december | {"image_id": f"m{n}", "model_version": str(n % 2)} for n, face in enumerate(few)]
    fresh = face_row("x", 0, captured_at=datetime(2025, 11, 5), processed_at=datetime(2026, 2, 25))
    write(engine, tmp_path, [*few, *mixed, fresh], without="subject_id")
    report = run(engine, tmp_path)
    assert (report.few, report.mixed, report.open) == (("2026-01-01",), ("2025-12-01",), ("2025-11-01",))
    assert not report.published
    assert not report.has_subjects
    assert not list((tmp_path / "published").rglob("*.parquet"))
    with pytest.raises(ConfigError, match="pass_through"):
        run(engine, tmp_path, "consent.subject=customer")


def test_job(engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(engine, tmp_path, january())
    settings = [f"--set={setting}" for setting in (*engine.settings, "publish.wait_days=0")]
    summary = tmp_path / "summary.json"
    for line in ("published 2026-01-01", "2026-01-01: published before, unchanged"):
        assert publish_job.main(["--output", str(tmp_path), "--json", str(summary), *settings]) == 0
        assert line in capsys.readouterr().out
    assert json.loads(summary.read_text())["frozen"] == ["2026-01-01"]
