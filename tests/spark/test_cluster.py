"""A standalone cluster of separate processes: runs as documented, also while workers and nodes die."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyspark
import pytest
from cells import cells
from conftest import SPARK_SETTINGS, Engine
from fakes import inferred, loads, parents
from spark_servers import HOME, Cluster, Node, Server, conf, environment, running, standalone

from faceattr_udf.spark.jars import with_jars
from jobs import enrich

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.xdist_group("cluster")]

ROOT = Path(__file__).parents[2]

ON_TWO_EXECUTORS = """
import sys
from pathlib import Path

import fakes
from pyspark import cloudpickle

from faceattr_udf.config import Config
from faceattr_udf.spark.enrichment.run import enrich
from faceattr_udf.logs import configure_logging
from faceattr_udf.spark.session import start

configure_logging()
cloudpickle.register_pickle_by_value(fakes)
folder = Path(sys.argv[1])
images, output, seen = (str(folder / name) for name in ("images", "out", "seen"))
config = Config.load(None, sys.argv[2:])
run = enrich(start(config), config, images, output, provider=fakes.provider(Path(seen)))
print(run.n_images, run.n_inferred, run.n_faces, sorted(run.counts.items()))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One cluster for all tests; the test that kills a node comes last."""
    with standalone(tmp_path_factory.mktemp("cluster")) as started:
        yield started


def test_two_executors_infer_every_image_once(cluster: Cluster, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    contents = [f"{index % 4}|{index}".encode() for index in range(60)]
    for part in range(2):
        rows = [{"image_id": f"{i:03}", "content": contents[i]} for i in range(part, 60, 2)]
        pq.write_table(pa.Table.from_pylist(rows), images / f"{part}.parquet")
    settings = {**SPARK_SETTINGS, "spark.executorEnv.PYTHONPATH": str(ROOT)}
    finished = subprocess.run(  # noqa: S603
        [
            *(sys.executable, "-c", ON_TWO_EXECUTORS, str(tmp_path)),
            *("engine.name=spark", f"engine.master={cluster.url}"),
            *(f"engine.settings.{key}={value}" for key, value in settings.items()),
        ],
        env=environment(PYTHONPATH=os.pathsep.join([str(ROOT / "tests"), str(ROOT)])),
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines() == ["60 60 90 [('no_face', 15), ('ok', 45)]"]
    seen = inferred(tmp_path / "seen")
    assert len(seen) == len(set(seen)) == 60
    assert len(parents(tmp_path / "seen")) == 2


ON_TWO_GPUS = """
import json
import sys
from pathlib import Path

import fakes
from pyspark import cloudpickle

from faceattr_udf.config import Config
from faceattr_udf.spark.enrichment.run import enrich
from faceattr_udf.spark.session import start

cloudpickle.register_pickle_by_value(fakes)
folder = Path(sys.argv[1])
settings = {
    **json.loads(sys.argv[2]),
    "spark.worker.resource.gpu.amount": "2",
    "spark.worker.resource.gpu.discoveryScript": str(folder / "discover"),
    "spark.executor.cores": "1",
    "spark.executor.resource.gpu.amount": "1",
    "spark.task.resource.gpu.amount": "1",
}
overrides = [f"engine.settings.{key}={value}" for key, value in settings.items()]
config = Config.load(None, ["engine.name=spark", "engine.master=local-cluster[1,2,2048]", *overrides])
provider = fakes.recording_provider(folder / "seen")
run = enrich(start(config), config, str(folder / "images"), str(folder / "out"), provider=provider)
print(run.n_inferred)
"""


def test_every_task_uses_its_assigned_gpu(tmp_path: Path) -> None:
    """With two GPUs that only the discovery script knows: their assignment needs no hardware."""
    script = tmp_path / "discover"
    script.write_text("""#!/bin/sh\necho '{"name": "gpu", "addresses": ["4", "6"]}'\n""")
    script.chmod(0o755)
    (tmp_path / "images").mkdir()
    for part in range(4):
        rows = [{"image_id": f"{part}-{i}", "content": f"1|{part}-{i}".encode()} for i in range(5)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "images" / f"{part}.parquet")
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    finished = subprocess.run(  # noqa: S603
        [sys.executable, "-c", ON_TWO_GPUS, str(tmp_path), json.dumps(SPARK_SETTINGS)],
        env=environment | {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split()[-1] == "20"
    loaded = loads(tmp_path / "seen")
    assert {device for _, device in loaded} == {"cuda:4", "cuda:6"}
    # Each executor has one GPU. Its workers load an analyzer once each, the first of them in the preflight check.
    assert len(loaded) == len({process for process, _ in loaded})


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A driver's interpreter with all dependencies but without this package, which must come from the submitted zip."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # Python searches a folder that a .pth file names, but does not read the .pth file of the editable install in it.
    (packages / "dependencies.pth").write_text(str(Path(pyspark.__file__).parents[1]) + "\n")
    python = folder / "bin" / "python"
    command = [str(python), "-c", "import openvino, faceattr_udf"]
    refused = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment(), check=False)  # noqa: S603
    assert "No module named 'faceattr_udf'" in refused.stderr
    return python


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of `make package`."""
    folder, sources = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("sources")
    # From a copy, because setuptools leaves a folder `build` beside the sources and packs its contents the next time.
    for name in ("faceattr_udf", "jobs", ".ci"):
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, sources)
    command = ["make", "--no-print-directory", "package", f"PYTHON={sys.executable}", f"DIST={folder}"]
    # If make runs these tests, its own variables must not be passed on.
    variables = {name: value for name, value in environment().items() if not name.startswith("MAKE")}
    subprocess.run(command, check=True, cwd=sources, env=variables)  # noqa: S603
    assert (folder / "faceattr_env.tar.gz").stat().st_size < 300e6  # torch alone is several times that
    return folder


def documented_command(places: dict[str, str]) -> list[str]:
    """The command of docs/nightly-runs.md, with this machine's places instead of the page's."""
    page = (ROOT / "docs" / "nightly-runs.md").read_text()
    (block,) = re.findall(r"^    spark-submit \\\n(?:    .*\n)+", page, re.MULTILINE)
    words = shlex.split(block.replace("\\\n", " "))
    for theirs, ours in places.items():
        assert any(theirs in word for word in words), f"the documented command does not say {theirs}"
        words = [word.replace(theirs, ours) for word in words]
    return words


@pytest.fixture(scope="module")
def places(dist: Path, bare_python: Path) -> dict[str, str]:
    """Strings of the documented command, and their replacements on this machine."""
    return {
        "$(.venv/bin/python -m faceattr_udf.spark.jars)": with_jars({})["spark.jars"],
        "spark-submit": str(HOME / "bin" / "spark-submit"),
        "dist/": f"{dist}/",
        ".venv/bin/python": str(bare_python),
        "jobs/enrich.py": str(ROOT / "jobs" / "enrich.py"),
        "conf/nightly.toml": str(ROOT / "conf" / "nightly.toml"),
    }


def write_photographs(folder: Path, photos: list[Path], copies: int) -> None:
    """Writes every photograph several times, each copy with different content, and two rows without a photograph."""
    folder.mkdir()
    for copy in range(copies):
        # Decoders ignore bytes after the end of a JPEG or PNG.
        rows = [{"image_id": f"{copy}/{path.name}", "content": path.read_bytes() + bytes([copy])} for path in photos]
        rows += [{"image_id": f"{copy}/null", "content": None}, {"image_id": f"{copy}/text", "content": b"no image"}]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{copy}.parquet")


def kill_busy_worker(run: Server, node: Node) -> str:
    """Kills a Python worker that has just begun to work, and returns its command."""
    seen: dict[int, float] = {}
    killed: list[str] = []

    def kill() -> bool:
        worker = node.busy_worker(seen)
        if worker is not None:
            killed.append(worker.cmdline()[0])
            worker.kill()
        return worker is not None

    run.until(kill, "a Python worker works")
    return killed[0]


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Returns the events of one kind in the driver's event log."""
    (log,) = folder.glob("app-*")
    found = [json.loads(line) for line in log.read_text().splitlines()]
    return [event for event in found if event["Event"] == f"SparkListener{kind}"]


def test_spark_without_delta_is_a_user_error(places: dict[str, str], tmp_path: Path) -> None:
    images, output = tmp_path / "images.parquet", tmp_path / "out"
    pq.write_table(pa.table({"image_id": ["a"], "content": [b"no image"]}), images)
    here = {"spark://HOST:7077": "local[1]", "s3a://BUCKET/images": str(images), "s3a://BUCKET/enriched": str(output)}
    submit, *words = documented_command(places | here)
    jars = words.index("--jars")
    command = [submit, *conf(SPARK_SETTINGS), *words[:jars], *words[jars + 2 :], "--set", "enrich.partitions=1"]
    finished = subprocess.run(  # noqa: S603
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert finished.returncode == 2, finished.stderr
    assert "enrich: engine spark does not have Delta; pass Delta's jar to spark-submit with --jars" in finished.stdout
    assert not list(output.glob("*/_delta_log"))


def test_run_survives_the_loss_of_a_worker_and_a_node(
    cluster: Cluster, places: dict[str, str], sail_engine: Engine, tmp_path: Path, demo_photos: Path
) -> None:
    images, output, calm, log = (tmp_path / name for name in ("images", "out", "calm", "events"))
    photos, copies = sorted(demo_photos.rglob("*.*")), 9
    n_images = copies * (len(photos) + 2)
    write_photographs(images, photos, copies)
    log.mkdir()
    # Waves are small, so that nodes die between commits; tasks are long (one per core, without the prefilter), so that
    # workers die within a task. Batches have one photograph, because the composition of a batch depends on the engine
    # and changes the last bits of the results.
    changes = ["enrich.wave_images=30", "enrich.partitions=2", "detector.prefilter=false", "enrich.max_batch_rows=1"]
    overrides = [word for change in changes for word in ("--set", change)]
    settings = {
        **SPARK_SETTINGS,
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": log.as_uri(),
        "spark.eventLog.compress": "false",
        "spark.eventLog.rolling.enabled": "false",
    }
    here = {"spark://HOST:7077": cluster.url, "s3a://BUCKET/images": str(images), "s3a://BUCKET/enriched": str(output)}
    submit, *words = documented_command(places | here)
    command = [submit, *conf(settings), *words, *overrides]
    with running(command, tmp_path / "elsewhere", environment()) as submitted:
        assert kill_busy_worker(submitted, cluster.nodes[0]) == "./environment/bin/python"
        commits = output / "image_results" / "_delta_log"
        submitted.until(lambda: len(list(commits.glob("*.json"))) > 1, "the first wave is committed")
        seen: dict[int, float] = {}
        submitted.until(lambda: cluster.nodes[1].busy_worker(seen) is not None, "the other node works")
        cluster.nodes[1].server.kill()
        assert submitted.process.wait(300) == 0, submitted.log.read_text()
        # spark-submit sends the driver's stderr to stdout.
        assert f"{n_images} images in " in submitted.log.read_text()
    ends = [str(event["Task End Reason"]) for event in events(log, "TaskEnd")]
    assert any("Python worker exited unexpectedly" in end for end in ends)
    assert any("ExecutorLostFailure" in end for end in ends)
    # The command line takes precedence over conf/nightly.toml.
    (started,) = events(log, "EnvironmentUpdate")
    key = "spark.sql.shuffle.partitions"
    assert started["Spark Properties"][key] == SPARK_SETTINGS[key]
    # Settings that the JVM reads only when it starts also take effect under spark-submit.
    assert started["Spark Properties"]["spark.sql.codegen.cache.maxEntries"] == "1000"

    plain = ["--config", str(ROOT / "conf" / "nightly.toml"), "--set", "engine.name=sail", *overrides]
    assert enrich.main(["--images", str(images), "--output", str(calm), *plain]) == 0
    for name in ("faces", "image_results", "runs"):
        written, expected = (cells(sail_engine.read(folder / name), "engine") for folder in (output, calm))
        assert len(expected) == {"faces": len(expected), "image_results": n_images, "runs": 1}[name]
        assert written == expected
