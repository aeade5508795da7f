"""Night after night: what changes is inferred again and nothing else, and what comes back is as it was."""

import json
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
from fakes import content, inferred
from workspaces import NIGHT, PICTURES, SCHEMA, TWO_WAVES, Killed, Workspace, image, killed_at, statuses

CONSENTED = SCHEMA + ", consent boolean"
ASKED = "input.require_consent=true"
DELETING = "enrich.delete_missing=true"


@pytest.mark.on_spark
def test_changed_deleted_and_unconsented_images_return_as_before(workspace: Workspace) -> None:
    workspace.write([(*row, True) for row in PICTURES], CONSENTED)
    assert workspace.run(ASKED, DELETING).n_inferred == 7
    before = workspace.tables()
    changed = {"a": image("a", content(1, "new a")), "g": image("g", content(1, "new g"))}
    left = {"b", "d"}
    rows = [changed.get(row[0], row) for row in PICTURES if row[0] not in left]
    workspace.write([(*row, not row[0].startswith("it")) for row in rows], CONSENTED)
    run = workspace.run(ASKED, DELETING)
    assert (run.counts, run.n_inferred, run.n_deleted_images) == ({"ok": 2, "not_consented": 1}, 2, 2)
    assert [row["image_id"] for row in workspace.table("faces")] == ["a", "g", "z", "z"]
    workspace.write([(*row, True) for row in PICTURES], CONSENTED)
    run = workspace.run(ASKED, DELETING)
    # a takes the faces of z, which has its content, and d has none; of b, g and the quoted one nothing was kept.
    assert (run.n_images, run.n_inferred, run.n_deleted_images) == (5, 3, 0)
    assert workspace.tables() == before
    assert len(inferred(workspace.seen)) == 7 + 2 + 3


def test_config_or_model_changed_and_changed_back(finished: Workspace) -> None:
    before = finished.tables()
    # Only the last results are kept, so there is nothing to go back to.
    assert finished.run("detector.min_face_size=40").n_inferred == 7
    assert finished.run(version="fake-2").n_inferred == 7
    assert finished.tables() != before
    assert finished.run().n_inferred == 7
    assert finished.tables() == before
    assert len(inferred(finished.seen)) == 4 * 7


CORRECTED: dict[str | None, dict[str, Any]] = {
    "a": {"path": "/y/a"},
    "b": {"subject_id": 8},  # was null
    "c": {"subject_id": 9},  # has no face
    "z": {"captured_at": None, "subject_id": None},
}


@pytest.mark.on_spark
def test_corrected_columns_reach_the_faces_and_nothing_is_inferred(finished: Workspace) -> None:
    faces, results = finished.tables()
    seen = inferred(finished.seen)
    names = [column.split()[0] for column in SCHEMA.split(", ")]
    rows = [dict(zip(names, row, strict=True)) | CORRECTED.get(row[0], {}) for row in PICTURES]
    finished.write([tuple(row.values()) for row in rows])
    assert finished.run().n_images == 0
    right = [row | CORRECTED.get(row["image_id"], {}) for row in faces]
    assert finished.tables() == (right, results)
    assert right != faces
    assert inferred(finished.seen) == seen


def test_killed_while_it_corrects_and_run_again(finished: Workspace) -> None:
    faces, _ = finished.tables()
    finished.write([image("a", content(1, "new")), (*PICTURES[1][:3], "/y/b", NIGHT, 8), *PICTURES[2:]])
    for point in ("planned", "results", "corrected"):
        with pytest.raises(Killed):
            finished.run(checkpoint=killed_at(point))
    assert finished.run().n_images == 0
    assert [row for row in finished.table("faces") if row["image_id"] not in {"a", "b"}] == faces[2 + 1 :]
    assert [(row["image_id"], row["path"]) for row in finished.table("faces")[:2]] == [("a", "/x/a"), ("b", "/y/b")]


@pytest.mark.on_spark
def test_equal_columns_of_any_type_are_not_corrected(workspace: Workspace) -> None:
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
    workspace.write([(*PICTURES[0], *values)], f"{SCHEMA}, {types}")
    names = [part.split()[0] for part in types.split(", ")]
    passed = f"input.columns.pass_through={json.dumps(names)}"
    workspace.run(passed)
    log = workspace.folder / "out" / "faces" / "_delta_log"
    commits = sorted(log.glob("*.json"))
    workspace.run(passed)
    assert sorted(log.glob("*.json")) == commits


def test_settings_that_decide_no_result_infer_nothing(workspace: Workspace) -> None:
    workspace.write([(*row, row[0] != "b") for row in PICTURES], CONSENTED)
    assert workspace.run().n_inferred == 7
    before = workspace.table("image_results")
    run = workspace.run(ASKED, DELETING, TWO_WAVES, "attributes.batch_size=3", "enrich.max_batch_rows=2")
    # Who has not consented is out at once, and nobody else is looked at again.
    assert (run.counts, run.n_inferred) == ({"not_consented": 1}, 0)
    assert "b" not in {row["image_id"] for row in workspace.table("faces")}
    assert [row for row in workspace.table("image_results") if row["image_id"] != "b"] == [
        row for row in before if row["image_id"] != "b"
    ]


def test_config_changed_back_after_a_kill_infers_only_what_the_kill_left(finished: Workspace) -> None:
    before = finished.tables()
    with pytest.raises(Killed):
        finished.run(TWO_WAVES, "detector.min_face_size=40", checkpoint=killed_at("results"))
    run = finished.run(TWO_WAVES)
    # The first wave's five images; of them d has no content, and a takes its faces from z.
    assert (run.n_images, run.n_inferred) == (5, 3)
    assert finished.tables() == before


def test_content_changed_back_is_inferred_unless_another_image_has_it(finished: Workspace) -> None:
    before = finished.tables()
    # a has the content of z, d has none, b and e have contents of their own.
    changed = {"a", "b", "d", "e"}
    finished.write([image(row[0], content(1, f"new {row[0]}")) if row[0] in changed else row for row in PICTURES])
    assert finished.run().n_inferred == len(changed)
    assert finished.tables() != before
    finished.write(PICTURES)
    run = finished.run()
    assert (run.n_images, run.n_inferred) == (4, 2)
    assert set(inferred(finished.seen)[-2:]) == {row[2] for row in PICTURES if row[0] in {"b", "e"}}
    assert finished.tables() == before


def test_image_that_left_and_returned_is_not_inferred_again(finished: Workspace) -> None:
    before = finished.tables()
    finished.write(PICTURES[1:])
    assert finished.run().n_images == 0
    finished.write(PICTURES)
    assert finished.run().n_images == 0
    assert finished.tables() == before
    finished.write(PICTURES[1:])
    finished.run()
    finished.write([image("a", content(3, "new")), *PICTURES[1:]])
    assert finished.run().n_inferred == 1
    assert [row["face_index"] for row in finished.table("faces") if row["image_id"] == "a"] == [0, 1, 2]


def test_consent_withdrawn_by_one_of_two_with_the_same_content(workspace: Workspace) -> None:
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


def test_consent_no_longer_asked_for(workspace: Workspace) -> None:
    workspace.write(
        [(*image("n", content(1, "n")), False), (*image("y", content(1, "y")), True)],
        CONSENTED,
    )
    assert workspace.run(ASKED).n_inferred == 1
    run = workspace.run()
    assert (run.n_images, run.n_inferred) == (1, 1)
    assert statuses(workspace) == {"n": "ok", "y": "ok"}
