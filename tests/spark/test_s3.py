"""Nights on an S3 server: runs, kills, the lease, maintenance, and a bucket as the folder to ingest."""

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import SPARK_SETTINGS, Engine
from fakes import content, inferred, provider
from night import night_on_spark
from s3_server import S3Server, s3_server
from spark_servers import HOME
from workspaces import Killed, killed_at

from faceattr_udf.errors import BusyError, EngineError, TableNotFoundError
from faceattr_udf.spark.enrichment.run import EnrichmentRun
from faceattr_udf.spark.ingestion import IngestReport, ingest
from faceattr_udf.spark.jars import with_jars
from faceattr_udf.spark.lease import Lease
from faceattr_udf.spark.maintenance.actions import maintain
from faceattr_udf.spark.runs import Run


@pytest.fixture(scope="session")
def server() -> Iterator[S3Server]:
    with s3_server() as started:
        yield started


class S3Workspace:
    """A bucket with photographs, an images table and an output."""

    def __init__(self, engine: Engine, server: S3Server, folder: Path) -> None:
        self.engine, self.server, self.folder = engine, server, folder
        self.root = server.bucket(f"bucket-{uuid.uuid4().hex[:12]}")
        self.photos, self.images, self.output = (
            f"{self.root}/{name}" for name in ("photos", "lake/images", "lake/out")
        )

    def put(self, name: str, data: bytes) -> None:
        self.server.put(f"{self.photos}/{name}", data)

    def ingest(self, *overrides: str, table_format: Any = "delta") -> IngestReport:
        config = self.engine.config(*overrides)
        return ingest(self.engine.session, config, self.photos, self.images, table_format)

    def run(self, *overrides: str, on_step: Callable[[str], None] = lambda _: None) -> Run:
        analyzers = provider(self.folder / "seen")
        config = self.engine.config(*overrides)
        run = EnrichmentRun(self.engine.session, config, self.images, self.output, provider=analyzers, on_step=on_step)
        return run.execute()

    def rows(self, name: str) -> list[dict[str, Any]]:
        frame = self.engine.session.read.format("delta").load(f"{self.output}/{name}")
        rows = [row.asDict(recursive=True) for row in frame.drop("run_id", "processed_at", "path").collect()]
        return sorted(rows, key=lambda row: (row["image_id"], row.get("face_index", 0)))


@pytest.fixture
def workspace(sail_engine: Engine, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Workspace:
    sail_engine.select(monkeypatch)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return S3Workspace(sail_engine, server, tmp_path)


def test_night_rerun_and_maintenance(workspace: S3Workspace) -> None:
    for number in range(5):
        workspace.put(f"shop/{number % 2}/a b%20{number}.jpg", content(number % 3, str(number)))
    workspace.put("notes.txt", b"no picture")
    done = workspace.ingest()
    assert (done.new, done.changed, done.unchanged) == (5, 0, 0)
    assert workspace.run().counts == {"ok": 3, "no_face": 2}
    ids = [row["image_id"] for row in workspace.rows("image_results")]
    assert ids == [
        "shop/0/a b%200.jpg",
        "shop/0/a b%202.jpg",
        "shop/0/a b%204.jpg",
        "shop/1/a b%201.jpg",
        "shop/1/a b%203.jpg",
    ]
    # A second night infers what has changed, and leaves nothing but tables.
    workspace.put("shop/0/a b%200.jpg", content(2, "changed"))
    workspace.put("new.jpg", content(1, "new"))
    done = workspace.ingest()
    assert (done.new, done.changed, done.unchanged) == (1, 1, 4)
    assert workspace.run().counts == {"ok": 2}
    assert workspace.run().counts == {}
    assert len(inferred(workspace.folder / "seen")) == 7
    folders = {key.split("/")[0] for key in workspace.server.keys(workspace.output)}
    assert folders == {"faces", "image_results", "runs"}
    assert not [key for key in workspace.server.keys(workspace.images) if key.startswith(("_ingest", "_lease"))]
    before = workspace.rows("faces")
    report = maintain(
        workspace.engine.session, workspace.engine.config(), workspace.output, ["compact", "vacuum", "prune-runs"]
    )
    assert {table.name: table.after.files for table in report.tables}["faces"] == 1
    assert workspace.rows("faces") == before


HADOOP_AWS = {"3.5.0": "2.35.4"}
"""Hadoop's version -> the AWS SDK that its connector is built with. Its own dependency is a jar of 690 MB."""


def _s3a_settings(server: S3Server) -> dict[str, str]:
    """Returns the settings of a Spark session that reaches the server, and skips the test where it cannot be had."""
    (jar,) = (HOME / "jars").glob("hadoop-client-api-*.jar")
    hadoop = jar.stem.rpartition("-")[2]
    if hadoop not in HADOOP_AWS:
        pytest.skip(f"the AWS SDK of Hadoop {hadoop} is not known here")
    parts = ("s3", "s3-transfer-manager", "sts")
    packages = [f"software.amazon.awssdk:{part}:{HADOOP_AWS[hadoop]}" for part in parts]
    jars = {"spark.jars.packages": ",".join([f"org.apache.hadoop:hadoop-aws:{hadoop}", *packages])}
    jars["spark.jars.excludes"] = "software.amazon.awssdk:bundle"
    try:
        with_jars(jars)
    except EngineError as error:
        pytest.skip(f"the jars of s3a cannot be had here: {error}")
    s3a = {
        "endpoint": server.endpoint,
        "endpoint.region": "us-east-1",
        "access.key": "test",
        "secret.key": "test",
        "path.style.access": "true",
        "connection.ssl.enabled": "false",
        "change.detection.mode": "none",
    }
    return {**SPARK_SETTINGS, **jars, **{f"spark.hadoop.fs.s3a.{key}": value for key, value in s3a.items()}}


@pytest.mark.slow
@pytest.mark.spark
@pytest.mark.xdist_group("cluster")
def test_night_of_spark_through_s3a(server: S3Server, tmp_path: Path) -> None:
    """With the endpoint and the keys in Hadoop's settings only: Arrow alone would reach nothing."""
    place = server.bucket(f"bucket-{uuid.uuid4().hex[:12]}")
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SPARK_", "PYSPARK_"))
    }
    _, logged = night_on_spark(sys.executable, tmp_path, place.replace("s3:", "s3a:"), _s3a_settings(server), inherited)
    assert "lease_unavailable" not in logged
    # Hadoop keeps a folder as an object with its name and a slash, which `keys` leaves out.
    assert {key.split("/")[0] for key in server.keys(f"{place}/out")} == {"faces", "image_results", "runs"}


@pytest.mark.parametrize("step", ["staged", pytest.param("faces", marks=pytest.mark.slow)])
def test_killed_night_is_continued(workspace: S3Workspace, step: str) -> None:
    for number in range(4):
        workspace.put(f"{number}.jpg", content(2, str(number)))
    workspace.ingest()
    with pytest.raises(Killed):
        workspace.run("enrich.wave_images=2", on_step=killed_at(step, 2))
    assert any(key.startswith("_staging") for key in workspace.server.keys(workspace.output))
    workspace.run("enrich.wave_images=2")
    assert [(row["image_id"], row["n_faces"]) for row in workspace.rows("image_results")] == [
        (f"{number}.jpg", 2) for number in range(4)
    ]
    assert len(workspace.rows("faces")) == 8
    assert not any(key.startswith(("_staging", "_lease")) for key in workspace.server.keys(workspace.output))


def test_one_writer_at_a_time(workspace: S3Workspace) -> None:
    workspace.put("a.jpg", content(1))
    workspace.ingest()
    workspace.run()
    session, config = workspace.engine.session, workspace.engine.config()
    with Lease(workspace.output, "another job", 60):
        with pytest.raises(BusyError, match="another job"):
            workspace.run()
        # On S3 two drivers that commit at the same time may lose a commit.
        for action in ("compact", "vacuum", "prune-runs"):
            with pytest.raises(BusyError, match="another job"):
                maintain(session, config, workspace.output, [action])
    with Lease(workspace.images, "another ingestion", 60), pytest.raises(BusyError, match="another ingestion"):
        workspace.ingest()
    assert workspace.run().counts == {}


@pytest.mark.parametrize("table_format", ["parquet", pytest.param("delta", marks=pytest.mark.slow)])
def test_bucket_is_ingested_as_a_folder_is(workspace: S3Workspace, table_format: str) -> None:
    with pytest.raises(TableNotFoundError, match=r"photos does not exist; set --input"):
        workspace.ingest(table_format=table_format)
    data = {name: content(1, name) for name in ("a.jpg", "a/b.JPEG", "a0.png", "a/_hidden/c.webp")}
    for name, image in data.items():
        workspace.put(name, image)
    workspace.put("a/readme.md", b"text")
    workspace.put("big.jpg", b"x" * 2000)
    done = workspace.ingest("images.max_bytes=1000", table_format=table_format)
    assert (done.new, done.too_large) == (5, 1)
    frame = workspace.engine.session.read.format(table_format).load(workspace.images)
    rows = {row["image_id"]: row for row in frame.collect()}
    assert {name: row["content"] and bytes(row["content"]) for name, row in rows.items()} == data | {"big.jpg": None}
    assert rows["a/b.JPEG"]["path"] == f"{workspace.photos}/a/b.JPEG"
    assert rows["big.jpg"]["size"] == 2000
    done = workspace.ingest("images.max_bytes=1000", table_format=table_format)
    assert (done.new, done.changed, done.unchanged, done.too_large) == (0, 0, 5, 0)


@pytest.mark.spark
def test_driver_reads_a_bucket_for_which_spark_has_no_connector(
    spark_engine: Engine, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spark_engine.select(monkeypatch)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    place = server.bucket(f"bucket-{uuid.uuid4().hex[:12]}")
    server.put(f"{place}/a.jpg", content(1))
    done = ingest(spark_engine.session, spark_engine.config(), place, str(tmp_path / "images"))
    assert done.new == 1


@pytest.mark.parametrize("name", ["my lake", "l%20k", "q[1]", "a{b}"])
def test_place_that_the_embedded_engine_writes_elsewhere_is_refused(workspace: S3Workspace, name: str) -> None:
    workspace.put("a.jpg", content(1))
    kept, workspace.images = workspace.images, f"{workspace.root}/{name}/images"
    with pytest.raises(EngineError, match=r"engine sail cannot write to .* choose a name of letters"):
        workspace.ingest()
    workspace.images = kept
    assert workspace.server.keys(workspace.root) == ["photos/a.jpg"]


def test_names_in_a_bucket_mean_themselves(workspace: S3Workspace) -> None:
    workspace.photos = f"{workspace.root}/my [new] photos%20{{1}}"
    names = ["a b.jpg", "c%20d.jpg", "e[1].jpg", "f'g.jpg", "h*{i}.jpg", "ü.jpg"]
    for name in names:
        workspace.put(name, content(1, name))
    assert workspace.ingest().new == len(names)
    rows = workspace.engine.session.read.format("delta").load(workspace.images).collect()
    assert sorted(row["image_id"] for row in rows) == sorted(names)
