"""Night after night: what changes is inferred again and nothing else, and what comes back is as it was."""

import json
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from conftest import Engine
from fakes import content, inferred
from test_enrichment import NIGHT, PICTURES, SCHEMA, TWO_WAVES, Killed, Place, image, killed_at, statuses

CONSENTED = SCHEMA + ", consent boolean"
ASKED = "input.require_consent=true"
DELETING = "enrich.delete_missing=true"


@pytest.fixture
def place(engine: Engine, tmp_path: Path) -> Place:
    return Place(engine, tmp_path)


@pytest.fixture
def sail_place(sail_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """For the details of what is tested on both engines: a night on Spark takes many seconds."""
    sail_engine.select(monkeypatch)
    return Place(sail_engine, tmp_path)


def test_what_changed_left_or_lost_consent_and_came_back(place: Place) -> None:
    place.write([(*row, True) for row in PICTURES], CONSENTED)
    assert place.run(ASKED, DELETING).n_inferred == 7
    before = place.tables()
    changed = {"a": image("a", content(1, "new a")), "g": image("g", content(1, "new g"))}
    left = {"b", "d"}
    rows = [changed.get(row[0], row) for row in PICTURES if row[0] not in left]
    place.write([(*row, not row[0].startswith("it")) for row in rows], CONSENTED)
    run = place.run(ASKED, DELETING)
    assert (run.counts, run.n_inferred, run.n_deleted_images) == ({"ok": 2, "not_consented": 1}, 2, 2)
    assert [row["image_id"] for row in place.table("faces")] == ["a", "g", "z", "z"]
    place.write([(*row, True) for row in PICTURES], CONSENTED)
    run = place.run(ASKED, DELETING)
    # a takes the faces of z, which has its content, and d has none; of b, g and the quoted one nothing was kept.
    assert (run.n_images, run.n_inferred, run.n_deleted_images) == (5, 3, 0)
    assert place.tables() == before
    assert len(inferred(place.seen)) == 7 + 2 + 3


def test_config_or_model_changed_and_changed_back(place: Place) -> None:
    place.write(PICTURES)
    place.run()
    before = place.tables()
    # Only the last results are kept, so there is nothing to go back to.
    assert place.run("detector.min_face_size=40").n_inferred == 7
    assert place.run(version="fake-2").n_inferred == 7
    assert place.tables() != before
    assert place.run().n_inferred == 7
    assert place.tables() == before
    assert len(inferred(place.seen)) == 4 * 7


CORRECTED: dict[str | None, dict[str, Any]] = {
    "a": {"path": "/y/a"},
    "b": {"subject_id": 8},  # was null
    "c": {"subject_id": 9},  # has no face
    "z": {"captured_at": None, "subject_id": None},
}


def test_corrected_columns_reach_the_faces_and_nothing_is_inferred(place: Place) -> None:
    place.write(PICTURES)
    place.run()
    faces, results = place.tables()
    seen = inferred(place.seen)
    names = [column.split()[0] for column in SCHEMA.split(", ")]
    rows = [dict(zip(names, row, strict=True)) | CORRECTED.get(row[0], {}) for row in PICTURES]
    place.write([tuple(row.values()) for row in rows])
    assert place.run().n_images == 0
    right = [row | CORRECTED.get(row["image_id"], {}) for row in faces]
    assert place.tables() == (right, results)
    assert right != faces
    assert inferred(place.seen) == seen


def test_killed_while_it_corrects_and_run_again(sail_place: Place) -> None:
    sail_place.write(PICTURES)
    sail_place.run()
    faces, _ = sail_place.tables()
    sail_place.write([image("a", content(1, "new")), (*PICTURES[1][:3], "/y/b", NIGHT, 8), *PICTURES[2:]])
    for point in ("planned", "results", "corrected"):
        with pytest.raises(Killed):
            sail_place.run(checkpoint=killed_at(point))
    assert sail_place.run().n_images == 0
    assert [row for row in sail_place.table("faces") if row["image_id"] not in {"a", "b"}] == faces[2 + 1 :]
    assert [(row["image_id"], row["path"]) for row in sail_place.table("faces")[:2]] == [("a", "/x/a"), ("b", "/y/b")]


def test_columns_of_any_type_are_not_corrected_where_they_are_the_same(place: Place) -> None:
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
    place.write([(*PICTURES[0], *values)], f"{SCHEMA}, {types}")
    names = [part.split()[0] for part in types.split(", ")]
    passed = f"input.columns.pass_through={json.dumps(names)}"
    place.run(passed)
    log = place.folder / "out" / "faces" / "_delta_log"
    commits = sorted(log.glob("*.json"))
    place.run(passed)
    assert sorted(log.glob("*.json")) == commits


def test_settings_that_decide_no_result_infer_nothing(place: Place) -> None:
    place.write([(*row, row[0] != "b") for row in PICTURES], CONSENTED)
    assert place.run().n_inferred == 7
    before = place.table("image_results")
    run = place.run(ASKED, DELETING, TWO_WAVES, "attributes.batch_size=3", "enrich.max_batch_rows=2")
    # Who has not consented is out at once, and nobody else is looked at again.
    assert (run.counts, run.n_inferred) == ({"not_consented": 1}, 0)
    assert "b" not in {row["image_id"] for row in place.table("faces")}
    assert [row for row in place.table("image_results") if row["image_id"] != "b"] == [
        row for row in before if row["image_id"] != "b"
    ]


def test_config_changed_back_after_a_kill_infers_only_what_the_kill_left(sail_place: Place) -> None:
    sail_place.write(PICTURES)
    sail_place.run()
    before = sail_place.tables()
    with pytest.raises(Killed):
        sail_place.run(TWO_WAVES, "detector.min_face_size=40", checkpoint=killed_at("results"))
    run = sail_place.run(TWO_WAVES)
    # The first wave's five images; of them d has no content, and a takes its faces from z.
    assert (run.n_images, run.n_inferred) == (5, 3)
    assert sail_place.tables() == before


@pytest.mark.parametrize(("image_id", "n_inferred"), [("a", 0), ("b", 1), ("d", 0), ("e", 1)])
def test_content_changed_back_is_inferred_unless_another_image_has_it(
    sail_place: Place, image_id: str, n_inferred: int
) -> None:
    sail_place.write(PICTURES)
    sail_place.run()
    before = sail_place.tables()
    sail_place.write([image(image_id, content(1, "new")) if row[0] == image_id else row for row in PICTURES])
    assert sail_place.run().n_inferred == 1
    assert sail_place.tables() != before
    sail_place.write(PICTURES)
    run = sail_place.run()
    assert (run.n_images, run.n_inferred) == (1, n_inferred)
    assert sail_place.tables() == before


def test_an_image_that_left_unnoticed_is_as_before_or_as_new(sail_place: Place) -> None:
    sail_place.write(PICTURES)
    sail_place.run()
    before = sail_place.tables()
    sail_place.write(PICTURES[1:])
    assert sail_place.run().n_images == 0
    sail_place.write(PICTURES)
    assert sail_place.run().n_images == 0
    assert sail_place.tables() == before
    sail_place.write(PICTURES[1:])
    sail_place.run()
    sail_place.write([image("a", content(3, "new")), *PICTURES[1:]])
    assert sail_place.run().n_inferred == 1
    assert [row["face_index"] for row in sail_place.table("faces") if row["image_id"] == "a"] == [0, 1, 2]


def test_consent_withdrawn_by_one_of_two_with_the_same_content(sail_place: Place) -> None:
    rows = [image("a", content(2)), image("z", content(2))]
    sail_place.write([(*row, True) for row in rows], CONSENTED)
    assert sail_place.run(ASKED).n_inferred == 1
    before = sail_place.tables()
    sail_place.write([(*row, row[0] != "z") for row in rows], CONSENTED)
    assert sail_place.run(ASKED).n_inferred == 0
    assert statuses(sail_place) == {"a": "ok", "z": "not_consented"}
    assert {row["image_id"] for row in sail_place.table("faces")} == {"a"}
    sail_place.write([(*row, True) for row in rows], CONSENTED)
    assert sail_place.run(ASKED).n_inferred == 0
    assert sail_place.tables() == before


def test_consent_no_longer_asked_for(sail_place: Place) -> None:
    sail_place.write(
        [(*image("n", content(1, "n")), False), (*image("y", content(1, "y")), True)],
        CONSENTED,
    )
    assert sail_place.run(ASKED).n_inferred == 1
    run = sail_place.run()
    assert (run.n_images, run.n_inferred) == (1, 1)
    assert statuses(sail_place) == {"n": "ok", "y": "ok"}
