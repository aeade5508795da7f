"""A run on every engine: what it writes, and how the next run recovers when it is killed."""

import errno
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import structlog
from conftest import Engine
from fakes import content, inferred, provider
from pyspark.errors import PySparkException
from workspaces import CAPTURED_AT, IMAGES, SCHEMA, TWO_WAVES, Killed, Workspace, image, killed_at, statuses

from faceattr_udf.errors import BusyError, EngineError
from faceattr_udf.spark.enrichment.run import enrich
from faceattr_udf.spark.enrichment.staging import Staging
from faceattr_udf.spark.enrichment.waves import Wave
from faceattr_udf.spark.locations import TableRef
from faceattr_udf.spark.runs import Run
from faceattr_udf.spark.tables import Tables


@pytest.mark.on_spark
def test_empty_table(workspace: Workspace) -> None:
    workspace.write([])
    run = workspace.run()
    assert (run.state, run.n_images, run.counts) == ("completed", 0, {})
    assert workspace.tables() == ([], [])


def test_every_image_gets_one_row_and_every_face_one(finished_run: tuple[Workspace, Run]) -> None:
    workspace, run = finished_run
    faces, results = workspace.tables()
    assert {row["image_id"]: (row["status"], row["n_faces"]) for row in results} == {
        "a": ("ok", 2),
        "b": ("ok", 1),
        "c": ("no_face", 0),
        "d": ("missing", 0),
        "e": ("corrupt", 0),
        "f": ("corrupt", 0),
        "g": ("ok", 3),
        "it's \\ ünicode": ("ok", 1),
        "z": ("ok", 2),
    }
    assert [(row["image_id"], row["face_index"]) for row in faces] == [
        *(("a", 0), ("a", 1), ("b", 0), ("g", 0), ("g", 1), ("g", 2)),
        *(("it's \\ ünicode", 0), ("z", 0), ("z", 1)),
    ]
    by_id = {(row["image_id"], row["face_index"]): row for row in faces}
    assert by_id["a", 1]["bbox"] == {"x_min": 1.0, "y_min": 2.0, "x_max": 30.0, "y_max": 40.5}
    assert by_id["a", 1]["age"] is None
    assert by_id["a", 1]["emotion_probs"] == {"neutral": 0.25, "fear": 0.75}
    assert by_id["a", 1]["emotion_confidence"] == 0.25
    assert by_id["a", 1]["emotion"] is None
    assert by_id["a", 1]["ethnicity_probs"] is None
    assert by_id["a", 1]["quality"]["yaw"] == -3.0
    assert (by_id["a", 0]["subject_id"], by_id["b", 0]["subject_id"]) == (7, None)
    assert by_id["a", 0]["path"] == "/x/a"
    captured = workspace.engine.read(workspace.folder / "out" / "faces").selectExpr("cast(captured_at as long)").first()
    assert captured is not None
    assert captured[0] == int(CAPTURED_AT.timestamp())
    # a and z have the same content, and d has none.
    assert sorted(inferred(workspace.seen)) == sorted(
        sha256(row[1]).hexdigest() for row in IMAGES[:-1] if row[1] is not None
    )
    assert (run.n_images, run.n_faces, run.n_inferred) == (9, 9, 7)
    assert run.counts == {"ok": 5, "no_face": 1, "missing": 1, "corrupt": 2}
    errors = {row["image_id"]: row["error"] for row in results if row["error"] is not None}
    assert errors == {"d": "no content", "e": "not an image", "f": "not an image"}
    assert not (workspace.folder / "out" / "_staging").exists()


@pytest.mark.on_spark
def test_second_run_infers_nothing(finished: Workspace) -> None:
    before, seen = finished.tables(), inferred(finished.seen)
    run = finished.run()
    assert (run.n_images, run.n_inferred) == (0, 0)
    assert finished.tables() == before
    assert inferred(finished.seen) == seen


def test_other_config_or_model_infers_again(finished: Workspace) -> None:
    assert finished.run("detector.min_face_size=40").n_inferred == 7
    run = finished.run("detector.min_face_size=40", version="fake-2")
    assert run.n_inferred == 7
    assert {row["model_version"] for table in finished.tables() for row in table} == {"fake-2"}
    assert len(finished.table("faces")) == 9


def test_changed_content_replaces_all_faces(finished: Workspace) -> None:
    finished.write([image("a", content(1, "new")), *IMAGES[1:]])
    run = finished.run()
    assert (run.n_images, run.n_inferred) == (1, 1)
    assert [row["face_index"] for row in finished.table("faces") if row["image_id"] == "a"] == [0]
    finished.write([image("a", None), *IMAGES[1:]])
    assert finished.run().counts == {"missing": 1}
    assert not [row for row in finished.table("faces") if row["image_id"] == "a"]


def test_known_content_with_a_new_id_is_not_inferred(finished: Workspace) -> None:
    finished.write([*IMAGES, image("0", content(2)), image("zz", b"garbage")])
    run = finished.run()
    assert (run.n_images, run.n_inferred, run.n_faces) == (2, 0, 2)
    faces = {(row["image_id"], row["face_index"]): row for row in finished.table("faces")}
    assert {k: v for k, v in faces["0", 1].items() if k not in {"image_id", "path"}} == {
        k: v for k, v in faces["a", 1].items() if k not in {"image_id", "path"}
    }
    assert faces["0", 1]["path"] == "/x/0"
    assert statuses(finished)["zz"] == "corrupt"


def test_results_of_another_configuration_are_not_reused(finished: Workspace) -> None:
    # The image with that content has left the table, so only the versions can rule out its result.
    finished.write([image("0", content(2))])
    assert finished.run("detector.min_face_size=40").n_inferred == 1
    finished.write([image("1", content(2))])
    assert finished.run("detector.min_face_size=40", version="fake-2").n_inferred == 1


def test_model_error_is_not_reused(workspace: Workspace) -> None:
    # The model may succeed next time.
    workspace.write([image("a", b"model error")])
    assert workspace.run().counts == {"model_error": 1}
    workspace.write([image("a", b"model error"), image("b", b"model error")])
    assert workspace.run().n_inferred == 1


CHANGED = [image("a", content(1, "new")), image("aa", content(2)), *IMAGES[1:]]


@pytest.fixture(scope="module")
def undisturbed(finished_run: tuple[Workspace, Run], tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The output of an undisturbed run after the images and the configuration changed."""
    workspace = finished_run[0].copy(tmp_path_factory.mktemp("undisturbed") / "copy")
    with pytest.MonkeyPatch.context() as patch:
        workspace.engine.select(patch)
        workspace.write(CHANGED)
        workspace.run(TWO_WAVES, "detector.min_face_size=40")
    return workspace


STEPS = ["leased", "created", "tidied", "begun", "planned", "staged", "faces", "results", "ended"]


@pytest.mark.parametrize("step", STEPS)
def test_killed_and_run_again_equals_undisturbed(finished: Workspace, step: str, undisturbed: Workspace) -> None:
    nth = 2 if step in {"staged", "faces", "results"} else 1
    _kill_and_run_again(finished, step, nth, undisturbed, TWO_WAVES)


@pytest.mark.spark
def test_killed_between_commits_on_spark_equals_undisturbed(
    spark_engine: Engine,
    tmp_path: Path,
    finished_run: tuple[Workspace, Run],
    undisturbed: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spark_engine.select(monkeypatch)
    _kill_and_run_again(finished_run[0].copy(tmp_path / "killed", spark_engine), "faces", 1, undisturbed)


def _kill_and_run_again(killed: Workspace, step: str, nth: int, undisturbed: Workspace, *overrides: str) -> None:
    """Kills a run when it reaches a step for the nth time, and runs it again."""
    killed.write(CHANGED)
    with pytest.raises(Killed):
        killed.run("detector.min_face_size=40", *overrides, on_step=killed_at(step, nth))

    def check_staging(reached: str) -> None:
        assert reached != "tidied" or not (killed.folder / "out" / "_staging").exists()

    killed.run("detector.min_face_size=40", *overrides, on_step=check_staging)
    assert killed.tables() == undisturbed.tables()
    assert not (killed.folder / "out" / "_staging").exists()
    states = [row.state for row in killed.engine.read(killed.folder / "out" / "runs").orderBy("started_at").collect()]
    # The killed run has no row before "begun", and its end is recorded before "ended".
    interrupted = [] if step in {"leased", "created", "tidied"} else ["interrupted"]
    assert states == ["completed", *(["completed"] if step == "ended" else interrupted), "completed"]


def test_killed_before_tables_exist_and_run_again(workspace: Workspace) -> None:
    workspace.write(IMAGES)
    for name in ("faces", "runs"):
        (workspace.folder / "out" / name / "_delta_log").mkdir(parents=True)
    workspace.run()
    assert len(workspace.table("image_results")) == len(IMAGES)
    assert len(workspace.table("faces")) == 9


def test_image_changed_during_a_run_is_not_reused(workspace: Workspace) -> None:
    workspace.write([image("a", content(2)), image("b", content(2)), image("c", content(3))])

    def change(step: str) -> None:
        if step == "planned":
            workspace.write([image("a", content(1, "new")), image("b", content(2)), image("c", content(1, "newer"))])

    run = workspace.run(on_step=change)
    assert run.n_inferred == 1
    # All rows describe the content whose hash they name, also a's; the old content of c is gone.
    assert statuses(workspace) == {"a": "ok", "b": "ok", "c": "missing"}
    assert [row["image_id"] for row in workspace.table("faces")] == ["a", "a", "b", "b"]
    assert workspace.run().n_images == 2
    assert [row["image_id"] for row in workspace.table("faces")] == ["a", "b", "b", "c"]


@pytest.mark.parametrize(
    ("step", "overrides", "untouched"),
    [
        # Before the faces, between faces and results, before rows are deleted, before the run ends.
        ("staged", ["detector.min_face_size=40"], ["faces", "image_results"]),
        ("faces", ["detector.min_face_size=40"], ["image_results"]),
        ("planned", ["enrich.delete_missing=true"], ["faces", "image_results"]),
        ("results", ["detector.min_face_size=40"], []),
    ],
)
def test_run_that_lost_its_lease_commits_nothing_more(
    finished: Workspace, step: str, overrides: list[str], untouched: list[str]
) -> None:
    before = {name: finished.table(name) for name in untouched}
    if "enrich.delete_missing=true" in overrides:
        finished.write(IMAGES[1:])

    def take_over(reached: str) -> None:
        if reached == step:
            _remove_lease(finished)

    with pytest.raises(BusyError, match="another writer has taken over"):
        finished.run(*overrides, on_step=take_over)
    assert {name: finished.table(name) for name in untouched} == before
    assert (finished.folder / "out" / "_staging").exists()  # the new writer's files may be in it
    runs = finished.engine.read(finished.folder / "out" / "runs").orderBy("started_at")
    assert [row.state for row in runs.collect()] == ["completed", "running"]  # the new writer marks it


def _remove_lease(workspace: Workspace) -> None:
    for file in (workspace.folder / "out" / "_lease").iterdir():
        file.unlink()


@pytest.mark.parametrize("action", ["merge", "delete"])
def test_retried_commit_checks_the_lease_again(
    finished: Workspace, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished.write(IMAGES[1:] if action == "delete" else CHANGED)
    before = finished.tables()
    real, failed = getattr(Tables, action), []

    def fail_once(tables: Tables, ref: TableRef, *arguments: Any) -> None:
        if not failed and not ref.location.endswith("runs"):
            failed.append(ref)
            _remove_lease(finished)
            raise EngineGone("a worker is gone")
        real(tables, ref, *arguments)

    monkeypatch.setattr(Tables, action, fail_once)
    monkeypatch.setattr("faceattr_udf.spark.retries.sleep", lambda _: None)
    with pytest.raises(BusyError, match="another writer has taken over"):
        finished.run("enrich.delete_missing=true")
    assert failed
    assert finished.tables() == before


def test_second_run_is_refused_before_it_writes(workspace: Workspace) -> None:
    workspace.write(IMAGES)

    def run_again(step: str) -> None:
        if step == "planned":
            with pytest.raises(BusyError, match="out is being written by run "):
                workspace.run()

    workspace.run(on_step=run_again)
    assert len(workspace.table("image_results")) == len(IMAGES)
    assert workspace.engine.read(workspace.folder / "out" / "runs").count() == 1


class EngineGone(PySparkException):
    """Stands for a lost worker."""


@pytest.mark.parametrize("failures", [2, 3])
def test_wave_is_retried_when_the_engine_fails(
    workspace: Workspace, failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write(IMAGES)
    real, failed, waits = Wave.stage, [], []
    monkeypatch.setattr("faceattr_udf.spark.retries.sleep", waits.append)

    def stage(wave: Wave, *arguments: Any) -> Any:
        if len(failed) < failures:
            failed.append(wave.name)
            raise EngineGone("a worker is gone\nand much more")
        return real(wave, *arguments)

    monkeypatch.setattr(Wave, "stage", stage)
    if failures > 2:
        with pytest.raises(EngineError, match=r"the engine failed \(a worker is gone\); committed waves are kept"):
            workspace.run()
        assert [row.state for row in workspace.engine.read(workspace.folder / "out" / "runs").collect()] == ["failed"]
        assert not (workspace.folder / "out" / "_staging").exists()
    assert workspace.run().n_retries == (0 if failures > 2 else 2)
    assert [int(seconds) for seconds in waits] == [1, 2]  # and up to a second more, by chance
    assert len(workspace.table("faces")) == 9


def test_full_disk_ends_a_run_without_retries(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.write(IMAGES)

    def stage(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Wave, "stage", stage)
    monkeypatch.setattr("faceattr_udf.spark.retries.sleep", lambda _: pytest.fail("retried"))
    with pytest.raises(EngineError, match=r"No space left on device.*; committed waves are kept"):
        workspace.run()
    assert [row.state for row in workspace.engine.read(workspace.folder / "out" / "runs").collect()] == ["failed"]


class RecordingListener:
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def planned(self, total: int) -> None:
        self.calls.append(total)

    def wave_committed(self, images: int, faces: int, failed: int) -> None:
        self.calls.append((images, faces, failed))


def test_progress_is_reported_for_every_wave(workspace: Workspace) -> None:
    workspace.write(IMAGES)
    listener = RecordingListener()
    images, output = str(workspace.folder / "images"), str(workspace.folder / "out")
    config, analyzers = workspace.engine.config(TWO_WAVES), provider(workspace.seen)
    with structlog.testing.capture_logs() as logs:
        enrich(workspace.engine.session, config, images, output, provider=analyzers, progress=listener)
    # a, z with the same content, b, c, and d without content; then e and f, which are damaged, g and the quoted one.
    assert listener.calls == [9, (5, 5, 1), (4, 4, 2)]
    # No jurisdiction is named, so the policy warns.
    assert [line["event"] for line in logs] == ["policy", "run_planned", "wave_committed", "wave_committed"]
    fields = ("images", "total", "seconds_left", "faces", "failed")
    assert [logs[-1][name] for name in fields] == [9, 9, 0, 9, 3]


def test_pending_image_is_no_reuse_source(workspace: Workspace) -> None:
    workspace.write([image("m", content(2))])
    workspace.run()
    # The run replaces m's faces and is killed before it updates m's row; then b arrives with m's old content.
    workspace.write([image("m", content(1, "new"))])
    with pytest.raises(Killed):
        workspace.run(on_step=killed_at("faces"))
    workspace.write([image("m", content(1, "new")), image("b", content(2))])
    workspace.run()
    assert [row["image_id"] for row in workspace.table("faces")] == ["b", "b", "m"]


def test_failure_is_recorded_and_leaves_no_staging(workspace: Workspace) -> None:
    def fail(step: str) -> None:
        if step == "staged":
            msg = "disk full"
            raise RuntimeError(msg)

    workspace.write(IMAGES)
    with pytest.raises(RuntimeError, match="disk full"):
        workspace.run(on_step=fail)
    assert [row.state for row in workspace.engine.read(workspace.folder / "out" / "runs").collect()] == ["failed"]
    assert not (workspace.folder / "out" / "_staging").exists()
    assert workspace.run().n_images == len(IMAGES)


def test_staging_that_is_not_removed_is_logged(sail_engine: Engine) -> None:
    staging = Staging(sail_engine.session, "nowhere://bucket/out", "run")
    with structlog.testing.capture_logs() as logs:
        staging.clear()
    (warning,) = logs
    assert warning["event"] == "staging_not_removed"
    assert warning["folder"] == "nowhere://bucket/out/_staging"


@pytest.mark.on_spark
def test_missing_images_are_deleted_when_configured(finished: Workspace) -> None:
    finished.write(IMAGES[1:])
    if finished.engine.name == "sail":
        assert finished.run().n_deleted_images == 0
        assert "a" in statuses(finished)
    assert finished.run("enrich.delete_missing=true").n_deleted_images == 1
    assert "a" not in statuses(finished)
    assert "a" not in {row["image_id"] for row in finished.table("faces")}
    assert len(finished.table("faces")) == 7


def test_killed_between_deletions_then_image_comes_back(finished: Workspace) -> None:
    before = finished.tables()
    finished.write(IMAGES[1:])
    with pytest.raises(Killed):
        finished.run("enrich.delete_missing=true", on_step=killed_at("deleted"))
    finished.write(IMAGES)
    finished.run("enrich.delete_missing=true")
    assert finished.tables() == before


@pytest.mark.on_spark
def test_rows_that_share_or_lack_an_id(workspace: Workspace) -> None:
    _share_or_lack_an_id(workspace, hashed=True)


def test_rows_that_share_or_lack_an_id_without_hashes(workspace: Workspace) -> None:
    _share_or_lack_an_id(workspace, hashed=False)


def _share_or_lack_an_id(workspace: Workspace, *, hashed: bool) -> None:
    first, second = sorted([content(1, "x"), content(2, "y")], key=lambda data: sha256(data).hexdigest())
    rows = [image("a", second), image("a", first), image("a", first), image(None, first), image(None, content(3))]
    schema = SCHEMA
    if not hashed:
        rows = [(row[0], row[1], *row[3:]) for row in rows]
        schema = SCHEMA.replace("content_sha256 string, ", "")
    rows.append((None, None, *rows[0][2:]) if not hashed else image(None, None))
    workspace.write(rows, schema)
    run = workspace.run()
    assert run.n_duplicate_rows == 2
    assert {row["image_id"]: row["n_faces"] for row in workspace.table("image_results")} == {
        "a": int(first[:1]),
        f"null-image-id:{sha256(first).hexdigest()}": int(first[:1]),
        f"null-image-id:{sha256(content(3)).hexdigest()}": 3,
        "null-image-id:missing": 0,
    }
    assert len(inferred(workspace.seen)) == run.n_inferred == 2
    assert workspace.run().n_images == 0


def test_smallest_hash_of_rows_with_one_id_is_used(workspace: Workspace) -> None:
    first, second = sorted([content(1, "x"), content(2, "y")], key=lambda data: sha256(data).hexdigest())
    workspace.write([image("a", second), image("a", first)])
    assert workspace.run().n_inferred == 1
    assert inferred(workspace.seen) == [sha256(first).hexdigest()]


@pytest.mark.on_spark
def test_equal_rows_in_two_files_are_inferred_once(workspace: Workspace) -> None:
    for _ in range(2):
        frame = workspace.engine.frame([image("a", content(1)), image("b", content(2))], SCHEMA)
        frame.write.format("delta").mode("append").save(str(workspace.folder / "images"))
    assert workspace.run("enrich.partitions=2").n_duplicate_rows == 2
    assert len(inferred(workspace.seen)) == 2
    assert [row["image_id"] for row in workspace.table("faces")] == ["a", "b", "b"]


def test_hash_without_content_is_retried_and_not_reused(workspace: Workspace) -> None:
    data = content(2)
    digest = sha256(data).hexdigest()
    hollow = ("a", None, digest, "/x/a", CAPTURED_AT, 7)
    workspace.write([hollow, image("b", data), image("c", data)])
    run = workspace.run()
    assert statuses(workspace) == {"a": "missing", "b": "ok", "c": "ok"}
    assert {row["image_id"]: row["n_faces"] for row in workspace.table("image_results")} == {"a": 0, "b": 2, "c": 2}
    assert [row["image_id"] for row in workspace.table("faces")] == ["b", "b", "c", "c"]
    assert run.n_inferred == 1
    assert len(inferred(workspace.seen)) == 1
    workspace.write([image("a", data), image("b", data), image("c", data)])
    assert workspace.run().counts == {"ok": 1}
    assert [row["image_id"] for row in workspace.table("faces")] == ["a", "a", "b", "b", "c", "c"]


def test_images_without_consent_are_not_inferred(workspace: Workspace) -> None:
    schema = SCHEMA + ", consent boolean"
    yes, no, unknown = (
        (*image(name, content(1, name)), value) for name, value in zip("ynu", (True, False, None), strict=True)
    )
    workspace.write([yes, no, unknown], schema)
    run = workspace.run("input.require_consent=true")
    assert statuses(workspace) == {"y": "ok", "n": "not_consented", "u": "not_consented"}
    assert {row["error"] for row in workspace.table("image_results")} == {None, "no consent"}
    assert inferred(workspace.seen) == [sha256(yes[1]).hexdigest()]
    assert run.n_faces == 1
    workspace.write([(*yes[:-1], False), (*no[:-1], True), unknown], schema)
    workspace.run("input.require_consent=true")
    assert statuses(workspace) == {"y": "not_consented", "n": "ok", "u": "not_consented"}
    assert [row["image_id"] for row in workspace.table("faces")] == ["n"]


def test_every_row_of_an_image_must_consent(workspace: Workspace) -> None:
    rows = [(*image("a", content(1)), True), (*image("a", content(1)), False), (*image("b", content(1)), True)]
    workspace.write(rows, SCHEMA + ", consent boolean")
    workspace.run("input.require_consent=true")
    assert statuses(workspace) == {"a": "not_consented", "b": "ok"}
    # The same content is inferred for b in this wave, and a does not get its faces.
    assert [(row["image_id"], row["n_faces"]) for row in workspace.table("image_results")] == [("a", 0), ("b", 1)]
    assert [row["image_id"] for row in workspace.table("faces")] == ["b"]


def test_parquet_and_delta_images_give_equal_tables(engine: Engine, tmp_path: Path) -> None:
    workspaces = [Workspace(engine, tmp_path / name) for name in ("delta", "parquet")]
    for workspace in workspaces:
        workspace.write(IMAGES, table_format=workspace.folder.name)
        workspace.run()
    assert workspaces[0].tables() == workspaces[1].tables()


@pytest.mark.on_spark
def test_catalog_tables(engine: Engine, tmp_path: Path) -> None:
    database = f"enrichment_{engine.name}"
    names = {name: f"{database}.{name}" for name in ("faces", "image_results", "runs")}
    engine.session.sql(f"CREATE DATABASE IF NOT EXISTS {database}")
    try:
        engine.frame(IMAGES, SCHEMA).write.format("delta").saveAsTable(f"{database}.images")
        config = engine.config(*(f"output.{name}={table}" for name, table in names.items()))
        for expected in (len(IMAGES), 0):
            run = enrich(
                engine.session, config, f"{database}.images", str(tmp_path), provider=provider(tmp_path / "seen")
            )
            assert run.n_images == expected
        assert engine.session.read.table(names["image_results"]).count() == len(IMAGES)
        assert engine.session.read.table(names["faces"]).count() == 9
        assert [path.name for path in tmp_path.iterdir()] == ["seen"]
    finally:
        for table in ("images", *names):
            engine.session.sql(f"DROP TABLE IF EXISTS {database}.{table}")


def test_optional_columns_are_written_when_configured(workspace: Workspace) -> None:
    workspace.write(IMAGES)
    workspace.run("output.landmarks=true", "output.crops=true", "output.embeddings=true")
    row = workspace.table("faces")[0]
    assert row["landmarks"][1] == {"x": 2.0, "y": 3.0}
    assert bytes(row["crop"]) == b"jpeg"
    assert row["embedding"] is None


@pytest.mark.spark
def test_engines_write_equal_tables(
    sail_engine: Engine, spark_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    for engine in (sail_engine, spark_engine):
        engine.select(monkeypatch)
        workspace = Workspace(engine, tmp_path / engine.name)
        workspace.write(IMAGES)
        optional = ("output.landmarks=true", "output.crops=true", "output.embeddings=true")
        workspace.run(TWO_WAVES, "enrich.partitions=3", *optional)
        written.append(workspace.tables())
    assert written[0] == written[1]
