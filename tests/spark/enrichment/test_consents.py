"""A table of consents: who is analyzed, what is read, and what a withdrawal does."""

import shutil
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Engine
from fakes import content, inferred
from hypothesis import given, settings
from hypothesis import strategies as st
from spoiled_files import spoil
from workspaces import CAPTURED_AT, SCHEMA, Workspace, image, statuses

from faceattr_udf.errors import FaceattrError
from faceattr_udf.spark.enrichment.consents import ConsentTable
from faceattr_udf.spark.input_columns import SUBJECT

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
COLUMNS = "subject_id string, purpose string, granted_at timestamp, expires_at timestamp, withdrawn_at timestamp"
PURPOSE = "privacy.purpose=research"


def consent(
    subject: Any,
    granted: timedelta | None = -DAY,
    expires: timedelta | None = None,
    withdrawn: timedelta | None = None,
    purpose: str | None = "research",
) -> tuple[Any, ...]:
    """Returns a row; times are relative to now."""
    times = [None if time is None else NOW + time for time in (granted, expires, withdrawn)]
    return (subject, purpose, *times)


def photo(image_id: str, subject: int | None, data: bytes | None = None) -> tuple[Any, ...]:
    data = content(1, image_id) if data is None else data
    return (image_id, data, sha256(data).hexdigest(), f"/x/{image_id}", CAPTURED_AT, subject)


class Asked:
    """A workspace with a table of consents."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.table = workspace.folder / "consents"

    def agree(self, rows: list[tuple[Any, ...]], schema: str = COLUMNS) -> None:
        frame = self.workspace.engine.frame(rows, schema)
        frame.write.format("delta").mode("overwrite").option("overwriteSchema", "true").save(str(self.table))

    def run(self, *overrides: str) -> Any:
        return self.workspace.run(f"consent.table={self.table}", PURPOSE, *overrides)


@pytest.fixture
def asked(workspace: Workspace) -> Asked:
    return Asked(workspace)


CASES: dict[str, tuple[list[tuple[Any, ...]], bool]] = {
    "granted": ([consent("7")], True),
    "no row": ([], False),
    "another subject": ([consent("70"), consent("8")], False),
    "another purpose": ([consent("7", purpose="audience_statistics")], False),
    "no purpose": ([consent("7", purpose=None)], False),
    "no grant": ([consent("7", granted=None)], False),
    "granted in the future": ([consent("7", granted=DAY)], False),
    "expires in the future": ([consent("7", expires=DAY)], True),
    "expired": ([consent("7", expires=-DAY / 2)], False),
    "withdrawn": ([consent("7", withdrawn=-DAY / 2)], False),
    "to be withdrawn": ([consent("7", withdrawn=DAY)], False),
    "expired, then granted again": ([consent("7", -3 * DAY, -2 * DAY), consent("7", -DAY)], True),
    "withdrawn, then granted again": ([consent("7", -3 * DAY, None, -2 * DAY), consent("7", -DAY)], True),
    "withdrawn after the latest grant": ([consent("7", -3 * DAY, None, -DAY / 2), consent("7", -DAY)], False),
    "granted and withdrawn at the same time": ([consent("7"), consent("7", -2 * DAY, None, -DAY)], False),
    "withdrawn for another purpose": (
        [consent("7"), consent("7", withdrawn=-DAY / 2, purpose="audience_statistics")],
        True,
    ),
    "the same row twice": ([consent("7"), consent("7")], True),
}


@pytest.mark.on_spark(slow=True)
def test_who_has_consented(engine: Engine) -> None:
    # One subject per case, so that the engine answers once.
    rows = []
    for number, (given_rows, _) in enumerate(CASES.values()):
        rows += [(str(number) if row[0] == "7" else f"{row[0]}-{number}", *row[1:]) for row in given_rows]
    table = ConsentTable(engine.frame(rows, COLUMNS), "research")
    agreed = {row[SUBJECT] for row in table.subjects(NOW).collect()}
    found = {case: str(number) in agreed for number, case in enumerate(CASES)}
    assert found == {case: expected for case, (_, expected) in CASES.items()}


def expected(rows: list[tuple[Any, ...]]) -> bool:
    """Decides in Python, as the documentation says."""
    rows = [row for row in rows if row[1] == "research"]
    grants = [row[2] for row in rows if row[2] and row[2] <= NOW and (not row[3] or row[3] > NOW) and not row[4]]
    withdrawals = [row[4] for row in rows if row[4]]
    return bool(grants) and all(max(grants) > withdrawal for withdrawal in withdrawals)


TIMES = st.one_of(st.none(), st.integers(-4, 4).map(lambda days: days * DAY))
ROWS = st.lists(
    st.builds(consent, st.just("7"), TIMES, TIMES, TIMES, st.sampled_from(["research", "x", None])), max_size=4
)


@settings(max_examples=25)
@given(st.lists(ROWS, min_size=1, max_size=20))
def test_consent_is_what_python_says(sail_engine: Engine, subjects: list[list[tuple[Any, ...]]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        sail_engine.select(patch)
        rows = [(str(number), *row[1:]) for number, of_subject in enumerate(subjects) for row in of_subject]
        agreed = {
            row[SUBJECT] for row in ConsentTable(sail_engine.frame(rows, COLUMNS), "research").subjects(NOW).collect()
        }
        assert agreed == {str(number) for number, of_subject in enumerate(subjects) if expected(of_subject)}


@pytest.mark.on_spark
def test_only_subjects_with_consent_are_inferred(asked: Asked) -> None:
    asked.workspace.write(
        [photo("y", 1), photo("n", 2), photo("u", None), photo("z", 1), photo("c", 2, content(1, "y"))]
    )
    asked.agree([consent("1")])
    run = asked.run()
    assert statuses(asked.workspace) == {
        "y": "ok",
        "z": "ok",
        "n": "not_consented",
        "u": "not_consented",
        "c": "not_consented",
    }
    assert (run.n_inferred, run.counts) == (2, {"ok": 2, "not_consented": 3})
    assert {row["image_id"] for row in asked.workspace.table("faces")} == {"y", "z"}
    assert len(inferred(asked.workspace.seen)) == 2
    assert asked.run().n_images == 0
    # Withdrawn: the next run removes the faces, and infers nothing.
    asked.agree([consent("1", withdrawn=-DAY / 2), consent("2")])
    run = asked.run()
    assert statuses(asked.workspace) == {
        "y": "not_consented",
        "z": "not_consented",
        "n": "ok",
        "u": "not_consented",
        "c": "ok",
    }
    # The result of y is no source of copies any more.
    assert run.n_inferred == 2
    assert {row["image_id"] for row in asked.workspace.table("faces")} == {"n", "c"}


def test_boolean_and_table_must_agree(asked: Asked) -> None:
    rows = [(*photo("y", 1), True), (*photo("n", 1), False), (*photo("o", 2), True), (*photo("u", 1), None)]
    asked.workspace.write(rows, SCHEMA + ", consent boolean")
    asked.agree([consent("1")])
    asked.run("input.require_consent=true")
    assert statuses(asked.workspace) == {"y": "ok", "n": "not_consented", "o": "not_consented", "u": "not_consented"}


def test_every_row_of_an_image_must_have_a_subject_with_consent(asked: Asked) -> None:
    asked.workspace.write([photo("a", 1), photo("a", 2), photo("b", 1)])
    asked.agree([consent("1")])
    asked.run()
    assert statuses(asked.workspace) == {"a": "not_consented", "b": "ok"}


@pytest.mark.on_spark(slow=True)
def test_table_without_hashes_and_ids(asked: Asked) -> None:
    # Three columns are missing here and there; subjects are numbers in one table and text in the other.
    rows = [
        (*image("y", content(1, "y"), hashed=False)[:5], 1),
        (*image("n", content(1, "n"), hashed=False)[:5], 2),
        (*image(None, content(1, "unnamed"), hashed=False)[:5], 1),
        (*image(None, content(1, "hidden"), hashed=False)[:5], 2),
    ]
    asked.workspace.write(rows)
    asked.agree([consent(1)], COLUMNS.replace("subject_id string", "subject_id bigint"))
    run = asked.run("enrich.delete_missing=true")
    assert run.counts == {"ok": 2, "not_consented": 2}
    found = statuses(asked.workspace)
    digest = sha256(content(1, "unnamed")).hexdigest()
    assert found.keys() == {"y", "n", f"null-image-id:{digest}", "null-image-id:not-consented"}
    hashes = {row["image_id"]: row["content_sha256"] for row in asked.workspace.table("image_results")}
    assert hashes["n"] is None
    assert hashes["null-image-id:not-consented"] is None
    again = asked.run("enrich.delete_missing=true")
    assert (again.n_images, again.n_deleted_images) == (0, 0)


def parquet(folder: Path, rows: list[tuple[Any, ...]], *, hashed: bool, asked_with: str) -> None:
    """Writes one file with the images of subject 1, and one with the others, whose contents cannot be read."""
    images = folder / "images"
    images.mkdir()
    for name, mine in (("agreed", True), ("others", False)):
        some = [row for row in rows if (row[5] == 1) is mine]
        columns = {
            "image_id": [row[0] for row in some],
            "content": [row[1] for row in some],
            "subject_id": pa.array([row[5] for row in some], pa.int32()),
        }
        if hashed:
            columns["content_sha256"] = [row[2] for row in some]
        if asked_with == "boolean":
            columns["consent"] = pa.array([row[5] == 1 for row in some])
        pq.write_table(pa.table(columns), images / f"{name}.parquet", compression="none")
    spoil(images / "others.parquet")
    with pytest.raises((OSError, pa.ArrowException)):
        pq.read_table(images / "others.parquet", columns=["content"])


@pytest.mark.on_spark(slow=True)
# Without hashes and with a table of consents, the scan that computes the hashes of others passes over these contents.
@pytest.mark.parametrize(("asked_with", "hashed"), [("table", True), ("boolean", True), ("boolean", False)])
def test_contents_without_consent_are_never_read(asked: Asked, asked_with: str, hashed: bool) -> None:
    rows = [photo(f"{'ab'[number % 2]}{number}", number % 2) for number in range(8)]
    parquet(asked.workspace.folder, rows, hashed=hashed, asked_with=asked_with)
    if asked_with == "table":
        asked.agree([consent("1"), consent("0", withdrawn=-DAY / 2)])
        run = asked.run()
    else:
        run = asked.workspace.run("input.require_consent=true")
    assert run.counts == {"ok": 4, "not_consented": 4}
    assert sorted(inferred(asked.workspace.seen)) == sorted(row[2] for row in rows if row[5] == 1)
    # Without the protection the run fails: the contents cannot be read.
    shutil.rmtree(asked.workspace.folder / "out")
    with pytest.raises(FaceattrError):
        asked.workspace.run("enrich.wave_retries=0")


def error(asked: Asked, *overrides: str) -> str:
    with pytest.raises(FaceattrError) as raised:
        asked.run(*overrides)
    assert not (asked.workspace.folder / "out").exists()
    return str(raised.value)


def test_wrong_tables_are_refused_before_any_work(asked: Asked) -> None:
    asked.workspace.write([photo("a", 1)])
    assert "set consent.table to an existing table" in error(asked)
    asked.agree([("1", "research")], "subject_id string, purpose string")
    assert "has no column granted_at (it has subject_id, purpose)" in error(asked)
    asked.agree([("1", "research", "2026-01-01")], "subject_id string, purpose string, granted_at string")
    assert "column 'granted_at' of the table of consents" in error(asked)
    asked.agree([(1.5, "research", NOW)], "subject_id double, purpose string, granted_at timestamp")
    assert "is double instead of text or whole numbers" in error(asked)
    asked.agree([consent("1")])
    assert "has no column 'owner'" in error(asked, "consent.subject=owner")
    assert "column 'captured_at' of table" in error(asked, "consent.subject=captured_at")
    with pytest.raises(FaceattrError, match=r"consent\.table needs privacy\.purpose"):
        asked.workspace.run(f"consent.table={asked.table}")


def test_plan_reads_no_image_without_consent(workspace: Workspace) -> None:
    # Scans leave out such rows as well, so only the plan itself shows this.
    rows = [(*photo("y", 1), True), (*photo("n", 1), False), (*photo("u", 1), None)]
    workspace.write(rows, SCHEMA + ", consent boolean")
    planned: dict[str, bool] = {}

    def open_plan(step: str) -> None:
        if step == "planned":
            for file in (workspace.folder / "out" / "_staging").rglob("plan/*.parquet"):
                planned.update({row["image_id"]: row["is_source"] for row in pq.read_table(file).to_pylist()})

    workspace.run("input.require_consent=true", on_step=open_plan)
    assert planned == {"y": True, "n": False, "u": False}
