"""An erasure: what is gone from every file, what stays, what the next night does, and kills at every step."""

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import deltalake
import pytest
from conftest import Engine
from erasing import GONE, ODD, Erasing, photo, photos, without
from fakes import content, inferred
from workspaces import Killed, Workspace, killed_at, statuses

from faceattr_udf.errors import BusyError, ErasureError, FaceattrError
from faceattr_udf.spark.erasure import Wish
from faceattr_udf.spark.lease import Lease
from faceattr_udf.spark.marts.build import build_marts


@pytest.fixture
def erasing(workspace: Workspace) -> Erasing:
    return Erasing(workspace)


@pytest.mark.on_spark
def test_no_file_holds_an_erased_id(erasing: Erasing) -> None:
    erasing.nights(photos())
    out = erasing.folder / "out"
    for number, file in enumerate(list((out / "faces").glob("*.parquet"))):
        shutil.copy(file, out / "faces" / f"part-of-a-killed-write-{number}.parquet")
        (out / "_staging" / "killed").mkdir(parents=True, exist_ok=True)
        shutil.copy(file, out / "_staging" / "killed" / f"part-{number}.parquet")
    before = erasing.rows()
    assert erasing.hits(*GONE)
    certificate = erasing.erase("photo-000", ODD, "photo-019", "never-seen")
    hashes = [photo(image_id)[2] for image_id in GONE]
    assert erasing.hits(*GONE, *hashes, "never-seen") == []
    assert erasing.rows() == without(before, *GONE)
    data = json.loads(Path(certificate.location).read_text(encoding="utf-8"))
    assert data["state"] == "done"
    assert data["rows_deleted"] == {"image_results": 4, "faces": 4, "images": 4}
    assert data["requests"][0]["images"] == 5
    files = [path for path in out.rglob("*") if path.is_file() and "_erasure" not in path.parts]
    files += [path for path in (erasing.folder / "images").rglob("*") if path.is_file()]
    assert data["searched"]["files"] == len(files)
    assert data["searched"]["bytes"] == sum(path.stat().st_size for path in files)
    # The photographs come back: nothing is derived, and the tables go on working.
    erasing.workspace.seen.unlink()
    erasing.workspace.write([*photos(), photo("copy-of-odd", data=content(1, ODD)), photo("photo-020")])
    run = erasing.workspace.run(erasing.key)
    assert run.counts == {"erased": 5, "ok": 1}
    assert inferred(erasing.workspace.seen) == [photo("photo-020")[2]]
    of_erased = [row for row in erasing.workspace.table("image_results") if row["status"] == "erased"]
    assert {row["image_id"] for row in of_erased} == {*GONE, "copy-of-odd"}
    kept = {"image_id", "status", "error", "n_faces", "config_id", "model_version"}
    assert all(row["error"] == "erased on request" and row["n_faces"] == 0 for row in of_erased)
    assert all(row[name] is None for row in of_erased for name in row.keys() - kept)


def test_another_configuration_derives_nothing_of_erased_images(erasing: Erasing) -> None:
    erasing.nights(photos())
    erasing.erase("photo-000", ODD, "photo-019")
    erasing.workspace.write([*photos(), photo("copy-of-odd", data=content(1, ODD))])
    assert erasing.workspace.run(erasing.key).counts == {"erased": 5}
    assert erasing.workspace.run(erasing.key, "attributes.predict=['age']").counts == {"ok": 18}


def test_all_images_of_subjects_are_erased(erasing: Erasing) -> None:
    erasing.nights([*photos(), photo("faceless-of-8", 8, content(0))])
    certificate = erasing.erase(wish=Wish(subject_ids=["8"]))
    assert {row["subject_id"] for row in erasing.rows()["images"]} == {7}
    # The content of photo-019, an image of subject 8, is also an image of subject 7.
    assert set(statuses(erasing.workspace)) == {f"photo-{number:03}" for number in range(0, 20, 2)} | {ODD}
    assert erasing.hits("faceless-of-8", "photo-001", "photo-019") == []
    assert certificate.as_data()["requests"][0]["images"] == 12


STEPS = ("leased", "requested", "tombstoned", "results", "faces", "images", "staging", "marts", "vacuumed", "log")


def test_killed_after_every_step_and_run_again_it_ends_right(erasing: Erasing) -> None:
    # tests/robustness/kill_erasures.py kills processes, at random moments as well.
    erasing.nights(photos())
    expected = without(erasing.rows(), *GONE)
    for step, nth in [*((step, 1) for step in STEPS), ("vacuumed", 2), ("log", 3), ("searched", 1)]:
        with pytest.raises(Killed):
            erasing.erase("photo-000", ODD, "photo-019", on_step=killed_at(step, nth))
        if step == "tombstoned":
            # A night in between derives nothing of what is buried, even with another model.
            erasing.workspace.seen.unlink()
            erasing.workspace.run(erasing.key, version="fake-2")
            assert len(inferred(erasing.workspace.seen)) == 18
            assert not {photo(one)[2] for one in GONE} & set(inferred(erasing.workspace.seen))
    erasing.erase("photo-000", ODD, "photo-019")
    assert erasing.hits(*GONE) == []
    rows = erasing.rows()
    assert rows["images"] == expected["images"]
    for name in ("faces", "image_results"):
        assert [row["image_id"] for row in rows[name]] == [row["image_id"] for row in expected[name]]
    assert [path.name[:11] for path in (erasing.folder / "out" / "_erasure").iterdir()] == ["certificate"]


def test_request_is_for_its_owner_alone_until_it_is_done(erasing: Erasing) -> None:
    erasing.nights(photos())
    with pytest.raises(Killed):
        erasing.erase("photo-000", on_step=killed_at("faces"))
    folder = erasing.folder / "out" / "_erasure"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.name[:7] for path in folder.iterdir()] == ["request"]
    # The rows say nothing any more; the request does, also for another wish.
    with pytest.raises(FaceattrError, match="also erases from"):
        erasing.erase("photo-001", with_images=False)
    certificate = erasing.erase("photo-001")
    assert [len(request.image_ids) for request in certificate.requests] == [1, 1]
    assert erasing.hits("photo-000", "photo-001") == []


def test_marts_are_built_again(erasing: Erasing) -> None:
    erasing.nights(photos())
    build_marts(erasing.engine.session, erasing.config, str(erasing.folder / "out"))
    certificate = erasing.erase("photo-000", ODD)
    totals = erasing.engine.read(erasing.folder / "out" / "marts" / "share_totals").collect()
    assert {row["n_faces"] for row in totals} == {20}
    assert {"share_stats", "marts_state"} < set(certificate.tables)
    assert len(list((erasing.folder / "out" / "marts" / "audience").glob("*.parquet"))) == 1


def test_hit_in_another_file_is_told(erasing: Erasing) -> None:
    erasing.nights(photos())
    report = erasing.folder / "out" / "report.csv"
    report.write_text("id\nphoto-003\n", encoding="utf-8")
    with pytest.raises(ErasureError, match=r"1 files still hold an erased id, such as .*report\.csv"):
        erasing.erase("photo-003")
    (certificate,) = (erasing.folder / "out" / "_erasure").glob("certificate*")
    assert json.loads(certificate.read_text(encoding="utf-8"))["hits"] == [str(report)]
    report.unlink()
    erasing.erase("photo-003")
    assert erasing.hits("photo-003") == []


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_cannot_be_done_is_refused_before_anything_is_touched(erasing: Erasing) -> None:
    def refused(says: str, **more: Any) -> None:
        before = tree(erasing.folder)
        with pytest.raises(FaceattrError, match=says):
            erasing.erase("photo-000", **more)
        assert tree(erasing.folder) == before

    erasing.workspace.write(photos()[:3])
    refused("there is no table image_results")
    erasing.workspace.run()
    refused("subjects are found by the images table", with_images=False, wish=Wish(subject_ids=["7"]))
    inside = erasing.folder / "out" / "key"
    refused("lies beside the tables", settings=[f"privacy.key_file={inside}"])
    shutil.rmtree(erasing.folder / "images")
    erasing.workspace.write(photos()[:3], table_format="parquet")
    refused("is plain Parquet")
    _set_property(erasing.folder / "out" / "faces", "delta.appendOnly", "true")
    refused("is append-only", with_images=False)
    _set_property(erasing.folder / "out" / "faces", "delta.appendOnly", "false")
    for name in ("_lease", "_lease_maintain"):
        with Lease(str(erasing.folder / "out"), "a run", 60, name), pytest.raises(BusyError):
            erasing.erase("photo-000", with_images=False)
    shutil.rmtree(erasing.folder / "images")
    erasing.workspace.write([*photos()[:3], photo("copy-of-000", data=content(1, "photo-000"))])
    erasing.workspace.run()
    refused("1 other image has the content of those to erase", wish=Wish(image_ids=["photo-000"], copies=0))


def _set_property(table: Path, name: str, value: str) -> None:
    deltalake.DeltaTable(str(table)).alter.set_table_properties({name: value}, raise_if_not_exists=False)


def test_night_needs_the_key(erasing: Erasing) -> None:
    erasing.nights(photos()[:6])
    erasing.erase("photo-000")
    with pytest.raises(FaceattrError, match=r"set privacy\.key_file"):
        erasing.workspace.run()
    key = erasing.folder / "secret" / "erasure.key"
    key.write_text("00" * 32 + "\n", encoding="ascii")
    with pytest.raises(FaceattrError, match="name the file that they were made with"):
        erasing.workspace.run(erasing.key)
    key.unlink()
    with pytest.raises(FaceattrError, match="restore it from its backup"):
        erasing.erase("photo-001")
    assert not key.exists()


def test_schema_of_images_does_not_matter(erasing: Erasing) -> None:
    # Ids that are numbers, and no columns but the needed ones.
    engine: Engine = erasing.engine
    rows = [(number, content(1, str(number))) for number in range(4110, 4120)]
    engine.frame(rows, "image_id bigint, content binary").write.format("delta").save(str(erasing.folder / "images"))
    erasing.workspace.run(erasing.key)
    erasing.erase("4111", "4119")
    assert [row["image_id"] for row in erasing.rows()["images"]] == [4110, *range(4112, 4119)]
    assert sorted(statuses(erasing.workspace)) == [str(number) for number in (4110, *range(4112, 4119))]


@pytest.mark.slow
@pytest.mark.spark
def test_spark_purges_deletion_vectors_and_change_data(
    spark_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spark_engine.select(monkeypatch)
    erasing = Erasing(Workspace(spark_engine, tmp_path))
    properties = "output.properties={'delta.enableChangeDataFeed' = 'true', 'delta.checkpointInterval' = '2'}"
    settings = (erasing.key, "output.deletion_vectors=true", properties)
    # Three nights leave deletion vectors, files of changes, and checkpoints.
    for data in (content(1, "first"), content(2, "second"), content(1, "photo-005")):
        erasing.workspace.write([*photos()[:5], photo("photo-005", data=data), photo("photo-006")])
        erasing.workspace.run(*settings)
    out = tmp_path / "out"
    assert list((out / "faces").rglob("deletion_vector*"))
    assert list((out / "faces" / "_change_data").rglob("*.parquet"))
    assert list((out / "faces" / "_delta_log").glob("*.checkpoint*"))
    erasing.erase("photo-005", "photo-000", settings=settings[1:])
    assert erasing.hits("photo-005", "photo-000") == []
    assert len(statuses(erasing.workspace)) == 5
    kept = deltalake.DeltaTable(str(out / "faces")).metadata().configuration
    assert kept["delta.checkpointInterval"] == "2"
    assert erasing.workspace.run(*settings).counts == {}
