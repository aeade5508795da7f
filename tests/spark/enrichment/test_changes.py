"""Runs after changes: only changed images are inferred again, and restored images get their old rows."""

import json
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
from fakes import content, inferred
from workspaces import CAPTURED_AT, IMAGES, SCHEMA, TWO_WAVES, Killed, Workspace, image, killed_at, statuses

from faceattr_udf.labels import VOCABULARY_VERSION
from faceattr_udf.spark.locations import TableRef
from faceattr_udf.spark.tables import Tables

CONSENTED = SCHEMA + ", consent boolean"
ASKED = "input.require_consent=true"
DELETING = "enrich.delete_missing=true"


@pytest.mark.on_spark
def test_images_that_return_get_their_old_rows(workspace: Workspace) -> None:
    workspace.write([(*row, True) for row in IMAGES], CONSENTED)
    assert workspace.run(ASKED, DELETING).n_inferred == 7
    before = workspace.tables()
    changed = {"a": image("a", content(1, "new a")), "g": image("g", content(1, "new g"))}
    left = {"b", "d"}
    rows = [changed.get(row[0], row) for row in IMAGES if row[0] not in left]
    workspace.write([(*row, not row[0].startswith("it")) for row in rows], CONSENTED)
    run = workspace.run(ASKED, DELETING)
    assert (run.counts, run.n_inferred, run.n_deleted_images) == ({"ok": 2, "not_consented": 1}, 2, 2)
    assert [row["image_id"] for row in workspace.table("faces")] == ["a", "g", "z", "z"]
    workspace.write([(*row, True) for row in IMAGES], CONSENTED)
    run = workspace.run(ASKED, DELETING)
    # a reuses the faces of z, which has the same content, and d has none; the results of the other three are gone.
    assert (run.n_images, run.n_inferred, run.n_deleted_images) == (5, 3, 0)
    assert workspace.tables() == before
    assert len(inferred(workspace.seen)) == 7 + 2 + 3


def test_config_and_model_changes_trigger_inference(finished: Workspace) -> None:
    before = finished.tables()
    # Only the latest results are kept, so reverting means inferring again.
    assert finished.run("detector.min_face_size=40").n_inferred == 7
    assert finished.run(version="fake-2").n_inferred == 7
    assert finished.tables() != before
    assert finished.run().n_inferred == 7
    assert finished.tables() == before
    assert len(inferred(finished.seen)) == 4 * 7


def test_rows_with_earlier_classes_are_replaced(finished: Workspace) -> None:
    before = finished.tables()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("faceattr_udf.config.VOCABULARY_VERSION", VOCABULARY_VERSION - 1)
        assert finished.run().n_inferred == 7
    tables = Tables(finished.engine.session, finished.engine.name)
    ref = TableRef(str(finished.folder / "out" / "faces"), "delta")
    faces = tables.read(ref)
    others = "CASE WHEN face_index >= 0 THEN 'others' END AS ethnicity"  # nullable, unlike a literal
    tables.rewrite(ref, faces.selectExpr(*(others if c == "ethnicity" else c for c in faces.columns)))
    earlier = finished.tables()
    assert {row["ethnicity"] for row in earlier[0]} == {"others"}
    assert not {row["config_id"] for table in earlier for row in table} & {row["config_id"] for row in before[1]}
    assert finished.run().n_inferred == 7
    assert finished.tables() == before


BACKFILLED: dict[str | None, dict[str, Any]] = {
    "a": {"path": "/y/a"},
    "b": {"subject_id": 8},  # was null
    "c": {"subject_id": 9},  # has no face
    "z": {"captured_at": None, "subject_id": None},
}


@pytest.mark.on_spark
def test_changed_columns_are_backfilled_without_inference(finished: Workspace) -> None:
    faces, results = finished.tables()
    seen = inferred(finished.seen)
    names = [column.split()[0] for column in SCHEMA.split(", ")]
    rows = [dict(zip(names, row, strict=True)) | BACKFILLED.get(row[0], {}) for row in IMAGES]
    finished.write([tuple(row.values()) for row in rows])
    assert finished.run().n_images == 0
    expected = [row | BACKFILLED.get(row["image_id"], {}) for row in faces]
    assert finished.tables() == (expected, results)
    assert expected != faces
    assert inferred(finished.seen) == seen


def test_killed_during_backfill_and_run_again(finished: Workspace) -> None:
    faces, _ = finished.tables()
    finished.write([image("a", content(1, "new")), (*IMAGES[1][:3], "/y/b", CAPTURED_AT, 8), *IMAGES[2:]])
    for step in ("planned", "results", "backfilled"):
        with pytest.raises(Killed):
            finished.run(on_step=killed_at(step))
    assert finished.run().n_images == 0
    assert [row for row in finished.table("faces") if row["image_id"] not in {"a", "b"}] == faces[2 + 1 :]
    assert [(row["image_id"], row["path"]) for row in finished.table("faces")[:2]] == [("a", "/x/a"), ("b", "/y/b")]


@pytest.mark.on_spark
def test_equal_columns_of_any_type_are_not_backfilled(workspace: Workspace) -> None:
    types = "b boolean, d double, n decimal(9,2), t date, m timestamp_ntz, s struct<x:int>, l array<string>, x binary"
    values = (
        None,
        float("nan"),
        Decimal("1.50"),
        date(2026, 1, 2),
        datetime(2026, 1, 2, 3, 4, 5, 6),
        (1,),
        ["y"],
        b"z",
    )
    workspace.write([(*IMAGES[0], *values)], f"{SCHEMA}, {types}")
    names = [part.split()[0] for part in types.split(", ")]
    passed = f"input.columns.pass_through={json.dumps(names)}"
    workspace.run(passed)
    log = workspace.folder / "out" / "faces" / "_delta_log"
    commits = sorted(log.glob("*.json"))
    workspace.run(passed)
    assert sorted(log.glob("*.json")) == commits


def test_settings_without_effect_on_results_infer_nothing(workspace: Workspace) -> None:
    workspace.write([(*row, row[0] != "b") for row in IMAGES], CONSENTED)
    assert workspace.run().n_inferred == 7
    before = workspace.table("image_results")
    run = workspace.run(ASKED, DELETING, TWO_WAVES, "attributes.batch_size=3", "enrich.max_batch_rows=2")
    # The image without consent loses its faces, and no other image is processed again.
    assert (run.counts, run.n_inferred) == ({"not_consented": 1}, 0)
    assert "b" not in {row["image_id"] for row in workspace.table("faces")}
    assert [row for row in workspace.table("image_results") if row["image_id"] != "b"] == [
        row for row in before if row["image_id"] != "b"
    ]


def test_config_reverted_after_a_kill_infers_lost_images_only(finished: Workspace) -> None:
    before = finished.tables()
    with pytest.raises(Killed):
        finished.run(TWO_WAVES, "detector.min_face_size=40", on_step=killed_at("results"))
    run = finished.run(TWO_WAVES)
    # The five images of the first wave; d has no content, and a reuses the faces of z.
    assert (run.n_images, run.n_inferred) == (5, 3)
    assert finished.tables() == before


def test_reverted_content_is_inferred_unless_reusable(finished: Workspace) -> None:
    before = finished.tables()
    # a has the same content as z, d has none, b and e have unique contents.
    changed = {"a", "b", "d", "e"}
    finished.write([image(row[0], content(1, f"new {row[0]}")) if row[0] in changed else row for row in IMAGES])
    assert finished.run().n_inferred == len(changed)
    assert finished.tables() != before
    finished.write(IMAGES)
    run = finished.run()
    assert (run.n_images, run.n_inferred) == (4, 2)
    assert set(inferred(finished.seen)[-2:]) == {row[2] for row in IMAGES if row[0] in {"b", "e"}}
    assert finished.tables() == before


def test_removed_and_restored_image_is_not_inferred_again(finished: Workspace) -> None:
    before = finished.tables()
    finished.write(IMAGES[1:])
    assert finished.run().n_images == 0
    finished.write(IMAGES)
    assert finished.run().n_images == 0
    assert finished.tables() == before
    finished.write(IMAGES[1:])
    finished.run()
    finished.write([image("a", content(3, "new")), *IMAGES[1:]])
    assert finished.run().n_inferred == 1
    assert [row["face_index"] for row in finished.table("faces") if row["image_id"] == "a"] == [0, 1, 2]


def test_consent_withdrawn_for_one_of_two_equal_images(workspace: Workspace) -> None:
    rows = [image("a", content(2)), image("z", content(2))]
    workspace.write([(*row, True) for row in rows], CONSENTED)
    assert workspace.run(ASKED).n_inferred == 1
    before = workspace.tables()
    workspace.write([(*row, row[0] != "z") for row in rows], CONSENTED)
    assert workspace.run(ASKED).n_inferred == 0
    assert statuses(workspace) == {"a": "ok", "z": "not_consented"}
    assert {row["image_id"] for row in workspace.table("faces")} == {"a"}
    workspace.write([(*row, True) for row in rows], CONSENTED)
    assert workspace.run(ASKED).n_inferred == 0
    assert workspace.tables() == before


def test_consent_no_longer_required(workspace: Workspace) -> None:
    workspace.write(
        [(*image("n", content(1, "n")), False), (*image("y", content(1, "y")), True)],
        CONSENTED,
    )
    assert workspace.run(ASKED).n_inferred == 1
    run = workspace.run()
    assert (run.n_images, run.n_inferred) == (1, 1)
    assert statuses(workspace) == {"n": "ok", "y": "ok"}
