"""Apache Spark beyond one process: two executors, a Connect server, and spark-submit from outside the repository."""

import os
import shutil
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyspark
import pytest
from fakes import inferred, loads, parents
from shared_data import needs_shared, photographs

pytestmark = pytest.mark.spark

ROOT = Path(__file__).parents[2]
DELTA = "io.delta:delta-spark_4.2_2.13:4.4.0"

ON_TWO_EXECUTORS = """
import sys
from pathlib import Path

import fakes
from pyspark import cloudpickle

from faceattr_udf.config import Config
from faceattr_udf.spark.enrichment import enrich
from faceattr_udf.spark.progress import configure_logging
from faceattr_udf.spark.session import start

configure_logging()
cloudpickle.register_pickle_by_value(fakes)
folder = Path(sys.argv[1])
images, output, seen = (str(folder / name) for name in ("images", "out", "seen"))
config = Config.load(
    None,
    [
        "engine.name=spark",
        "engine.master=local-cluster[2,1,1024]",
        "engine.settings.spark.sql.shuffle.partitions=2",
        "engine.settings.spark.databricks.delta.snapshotPartitions=1",
        "engine.settings.spark.ui.enabled=false",
    ],
)
for _ in range(2):
    run = enrich(start(config), config, images, output, provider=fakes.provider(Path(seen)))
    print(run.n_images, run.n_inferred, run.n_faces, sorted(run.counts.items()))
"""


def test_two_executors_share_the_work_and_infer_every_image_once(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    contents = [f"{index % 4}|{index}".encode() for index in range(60)]
    for part in range(2):
        rows = [{"image_id": f"{i:03}", "content": contents[i]} for i in range(part, 60, 2)]
        pq.write_table(pa.Table.from_pylist(rows), images / f"{part}.parquet")
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    finished = subprocess.run(  # noqa: S603
        [sys.executable, "-c", ON_TWO_EXECUTORS, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    first, second = finished.stdout.splitlines()
    assert first == "60 60 90 [('no_face', 15), ('ok', 45)]"
    assert second == "0 0 0 []"
    seen = inferred(tmp_path / "seen")
    assert len(seen) == len(set(seen)) == 60
    assert len(parents(tmp_path / "seen")) == 2


ON_TWO_GPUS = """
import sys
from pathlib import Path

import fakes
from pyspark import cloudpickle

from faceattr_udf.config import Config
from faceattr_udf.spark.enrichment import enrich
from faceattr_udf.spark.session import start

cloudpickle.register_pickle_by_value(fakes)
folder = Path(sys.argv[1])
settings = {
    "spark.worker.resource.gpu.amount": "2",
    "spark.worker.resource.gpu.discoveryScript": str(folder / "discover"),
    "spark.executor.cores": "1",
    "spark.executor.resource.gpu.amount": "1",
    "spark.task.resource.gpu.amount": "1",
    "spark.sql.shuffle.partitions": "2",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.ui.enabled": "false",
}
overrides = [f"engine.settings.{key}={value}" for key, value in settings.items()]
config = Config.load(None, ["engine.name=spark", "engine.master=local-cluster[1,2,2048]", *overrides])
provider = fakes.telling_provider(folder / "seen")
run = enrich(start(config), config, str(folder / "images"), str(folder / "out"), provider=provider)
print(run.n_inferred)
"""


def test_every_task_uses_the_gpu_that_spark_gives_it(tmp_path: Path) -> None:
    """Two GPUs that are there in the discovery script's words only: who uses which is decided all the same."""
    script = tmp_path / "discover"
    script.write_text("""#!/bin/sh\necho '{"name": "gpu", "addresses": ["4", "6"]}'\n""")
    script.chmod(0o755)
    (tmp_path / "images").mkdir()
    for part in range(8):
        rows = [{"image_id": f"{part}-{i}", "content": f"1|{part}-{i}".encode()} for i in range(5)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "images" / f"{part}.parquet")
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    finished = subprocess.run(  # noqa: S603
        [sys.executable, "-c", ON_TWO_GPUS, str(tmp_path)],
        env=environment | {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split() == ["40"]
    loaded = loads(tmp_path / "seen")
    assert {device for _, device in loaded} == {"cuda:4", "cuda:6"}
    # An executor has one GPU, and so have its workers: each loads once, the first of them already for the check.
    assert len(loaded) == len({process for process, _ in loaded})


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make package` gives to --py-files."""
    folder, sources = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("sources")
    # From a copy: setuptools leaves a folder `build` beside the sources, and packs what it finds there the next time.
    for name in ("faceattr_udf", "jobs"):
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, sources)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(sources)]
    subprocess.run(command, check=True, cwd=folder)  # noqa: S603
    (wheel,) = folder.glob("faceattr_udf-*.whl")
    return wheel.rename(folder / "faceattr_udf.zip")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with every dependency and without this package, as the executors of a cluster have it."""
    folder = tmp_path_factory.mktemp("executors")
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A folder that a .pth file names is searched, but the .pth file of the editable installation in it is not read.
    (packages / "dependencies.pth").write_text(str(Path(pyspark.__file__).parents[1]) + "\n")
    interpreter = folder / "bin" / "python"
    without = subprocess.run([interpreter, "-c", "import faceattr_udf"], capture_output=True, cwd=folder, check=False)  # noqa: S603
    assert without.returncode != 0
    return interpreter


HOME = Path(pyspark.__file__).parent
SUBMIT = [str(HOME / "bin" / "spark-submit"), "--master", "local[2]", "--packages", DELTA]
NO_PAGES = ["--conf", "spark.ui.enabled=false"]


def _environment() -> dict[str, str]:
    """Nothing that this process has told itself about Spark."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYSPARK_", "SPARK_"))}
    return environment | {"SPARK_HOME": str(HOME)}


def _write_photographs(folder: Path, count: int) -> None:
    folder.mkdir()
    rows = [{"image_id": path.name, "content": path.read_bytes()} for path in photographs()[:count]]
    pq.write_table(pa.Table.from_pylist([*rows, {"image_id": "nothing", "content": None}]), folder / "part.parquet")


def _faces(folder: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in (folder / "faces").glob("*.parquet"))


def _submit(package: Path, python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*SUBMIT, *NO_PAGES, "--py-files", str(package), "--conf", f"spark.pyspark.python={python}"]
    command += [str(ROOT / "jobs" / "enrich.py"), "--config", str(ROOT / "conf" / "nightly.toml"), *arguments]
    return subprocess.run(  # noqa: S603
        command, cwd=folder, env=_environment(), capture_output=True, text=True, check=False
    )


@needs_shared
def test_spark_submit_needs_the_package_and_nothing_of_the_repository(
    package: Path, python: Path, tmp_path: Path
) -> None:
    _write_photographs(tmp_path / "images", 4)
    finished = _submit(package, python, tmp_path, "--images", "images", "--output", "out")
    assert finished.returncode == 0, finished.stderr
    # spark-submit sends the driver's stderr to stdout.
    (summary,) = (line for line in finished.stdout.splitlines() if line.startswith("5 images in "))
    assert "1 missing" in summary
    faces = _faces(tmp_path / "out")
    assert len(faces) >= 4
    assert None not in faces["emotion"].to_pylist()

    wrong = _submit(package, python, tmp_path, "--images", "images", "--output", "other", "--set", "enrich.waves=3")
    assert wrong.returncode == 2
    assert "enrich: configuration: unknown key enrich.waves = 3" in wrong.stdout
    assert not (tmp_path / "other").exists()


@pytest.fixture(scope="module")
def connect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Spark Connect server in a process of its own; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "spark.connect.grpc.binding.port": str(port),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.shuffle.partitions": "2",
        "spark.databricks.delta.snapshotPartitions": "1",
    }
    folder = tmp_path_factory.mktemp("server")
    command = [*SUBMIT, *NO_PAGES, *(word for key, value in settings.items() for word in ("--conf", f"{key}={value}"))]
    command += ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal"]
    with (folder / "log").open("w") as log:
        environment = _environment() | {"PYSPARK_PYTHON": sys.executable}  # whose workers have the package
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)  # noqa: S603
    try:
        for _ in range(240):
            if server.poll() is not None:
                break
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.5)
        assert server.poll() is None, (folder / "log").read_text()
        yield f"sc://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


@needs_shared
def test_a_night_through_a_connect_server(connect_server: str, tmp_path: Path) -> None:
    _write_photographs(tmp_path / "images", 3)
    command = [sys.executable, "-m", "jobs.enrich", "--images", str(tmp_path / "images")]
    command += ["--output", str(tmp_path / "out"), "--set", "engine.name=connect"]
    command += ["--set", f"engine.remote={connect_server}"]
    first, second = (
        subprocess.run(command, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False)  # noqa: S603
        for _ in range(2)
    )
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("4 images in ")
    assert len(_faces(tmp_path / "out")) >= 3
    assert second.returncode == 0, second.stderr
    assert "nothing new" in second.stdout
