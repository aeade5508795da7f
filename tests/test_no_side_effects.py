"""What looks at images opens no connection, starts no program, runs no text and writes no file."""

import ast
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Engine
from odd_images import encode, odd_images, quadrants
from pyspark import cloudpickle

from faceattr_udf.config import Config
from faceattr_udf.spark.schemas import result_struct
from faceattr_udf.spark.udf import DEFAULT_PROVIDER, AnalyzeBatches, Analyzer, AnalyzerProvider

ROOT = Path(__file__).parents[1]
HOOK = ROOT / "tests" / "audit_hook.py"
MARK = "here the looking begins or ends"
DEEDS = ("socket.", "subprocess.", "os.", "pty.")

# Texts that a careless program would run: as the content, and within a picture.
TEXTS = [
    b"__import__('os').system('touch PWNED')",
    b"$(touch PWNED); `touch PWNED` | touch PWNED",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(PWNED) (w) file closefile showpage\n%%EOF\n",
    b"<svg xmlns='http://www.w3.org/2000/svg'><image href='http://127.0.0.1:9/x'/></svg>",
    b"http://127.0.0.1:9/x.jpg",
    b"file:///etc/hostname",
    b"cos\nsystem\n(S'touch PWNED'\ntR.",
]


def contents() -> list[bytes | None]:
    exif = quadrants().getexif()
    exif[0x010E] = TEXTS[0].decode()
    in_picture = encode(quadrants(), "JPEG", exif=exif, comment=TEXTS[1])
    return [*TEXTS, in_picture, *(case.content for case in odd_images())]


LOOK = """
import sys
import pyarrow as pa
import pyarrow.parquet as pq
from faceattr_udf.config import Config
from faceattr_udf.spark.udf import DEFAULT_PROVIDER, AnalyzeBatches, pool

source, answers = sys.argv[1:]
config = Config.load(None, ["runtime.isolated=false"])  # in this process, which is watched between the marks
with pool(config, DEFAULT_PROVIDER).borrow():
    pass  # to load is not to look
batches = pq.read_table(source).to_batches()
compile("0", "MARK", "eval")
found = list(AnalyzeBatches(config.model_dump_json(), DEFAULT_PROVIDER, ("image_id",), "content")(iter(batches)))
compile("0", "MARK", "eval")
pq.write_table(pa.Table.from_batches(found), answers)
""".replace("MARK", MARK)


def audited(folder: Path, command: Sequence[str]) -> list[list[list[str]]]:
    """Runs a command, and returns what each of its processes did."""
    log = folder / "audit"
    log.mkdir()
    hooks = folder / "hooks"
    hooks.mkdir()
    shutil.copy(HOOK, hooks / "sitecustomize.py")  # Python imports this in every process
    paths = os.pathsep.join([str(hooks), str(ROOT)])
    # Libraries that send statistics leave it in CI; they shall not anywhere.
    inherited = {key: value for key, value in os.environ.items() if key not in {"CI", "TF_BUILD", "JENKINS_URL"}}
    finished = subprocess.run(  # noqa: S603 - this interpreter and this test's own text
        [sys.executable, *command],
        env=inherited | {"PYTHONPATH": paths, "FACEATTR_AUDIT": str(log), "HOME": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert not (folder / "PWNED").exists()
    return [[json.loads(line) for line in path.read_text().splitlines()] for path in log.iterdir()]


def suspicious(events: list[list[str]]) -> list[list[str]]:
    """Events that nothing that looks at images has a reason for."""
    return [event for event in events if not _allowed(*event)]


def _allowed(event: str, *detail: str) -> bool:
    match event:
        case "subprocess.Popen":
            return detail[0] == sys.executable  # a worker may keep the analyzer in a process of its own
        case "compile" | "exec":
            return detail[0] == MARK or detail[0].startswith("<frozen ") or Path(detail[0]).is_file()  # an import
        case "pickle.find_class":
            return True  # Spark's own way to bring functions to workers; weights are tested on their own
        case "socket.connect" | "socket.bind":
            return not detail[1].startswith("(") or "'127.0.0.1'" in detail[1] or "'localhost'" in detail[1]
        case "socket.getaddrinfo":
            return detail[0] in {"127.0.0.1", "localhost"}
        case _:
            return False


def test_analysis_has_no_side_effects(tmp_path: Path) -> None:
    source, answers = tmp_path / "images.parquet", tmp_path / "answers.parquet"
    images = contents()
    pq.write_table(pa.table({"image_id": [str(i) for i in range(len(images))], "content": images}), source)
    processes = audited(tmp_path, ["-c", LOOK, str(source), str(answers)])
    (events,) = (process for process in processes if ["compile", MARK] in process)
    statuses = pq.read_table(answers).column("status").to_pylist()
    assert len(statuses) == len(images)
    assert {"missing", "corrupt", "unsupported", "too_large"} < set(statuses)
    begin, end = (index for index, event in enumerate(events) if event == ["compile", MARK])
    assert suspicious(events[begin:end]) == []
    for process in processes:
        assert [event for event in suspicious(process) if event[0].startswith(DEEDS)] == []


@pytest.mark.parametrize(
    ("deed", "event"),
    [
        ("import socket; socket.socket(type=socket.SOCK_DGRAM).connect(('192.0.2.1', 9))", "socket.connect"),
        ("import subprocess; subprocess.run(['true'])", "subprocess.Popen"),
        ("import os; os.system('true')", "os.system"),
        ("import os; os.posix_spawn('/bin/true', ['true'], {})", "os.posix_spawn"),
        ("eval('1 + 1')", "compile"),
        ("open('left behind', 'w')", "open"),
        ("pass", None),
    ],
)
def test_audit_hook_sees_every_forbidden_action(deed: str, event: str | None, tmp_path: Path) -> None:
    (tmp_path / "deed.py").write_text(deed + "\n")
    events = [each for process in audited(tmp_path, [str(tmp_path / "deed.py")]) for each in process]
    kinds = {kind for kind, *_ in suspicious(events)}
    assert event in kinds if event else not kinds


def write_images(folder: Path, images: list[bytes | None]) -> Path:
    (folder / "images").mkdir()
    table = pa.table({"image_id": [f"$(touch PWNED) {i}" for i in range(len(images))], "content": images})
    pq.write_table(table, folder / "images" / "part.parquet")
    return folder / "images"


def test_run_connects_only_to_its_engine(tmp_path: Path) -> None:
    write_images(tmp_path, [encode(quadrants(), "JPEG"), *TEXTS, None])
    processes = audited(tmp_path, ["-m", "jobs.enrich", "--images", "images", "--output", "out"])
    events = [event for process in processes for event in process]
    assert (tmp_path / "out" / "image_results").is_dir()
    assert ["exec", str(ROOT / "jobs" / "enrich.py")] in events
    assert [event for event in suspicious(events) if event[0].startswith(DEEDS)] == []


@dataclass(frozen=True)
class AuditedLoad:
    """Loads the product's analyzer, in a worker that from then on writes down what it does."""

    log: str
    driver: int
    hook: str

    def __call__(self, config: Config, threads: int, device: str) -> Analyzer:
        if os.getpid() != self.driver:
            os.environ["FACEATTR_AUDIT"] = self.log
            runpy.run_path(self.hook)
        return DEFAULT_PROVIDER.load(config, threads, device)


@pytest.mark.spark
def test_spark_worker_has_no_side_effects(
    spark_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the tests' modules
    spark_engine.select(monkeypatch)
    config, log = spark_engine.config(), tmp_path / "audit"
    log.mkdir()
    load = AuditedLoad(str(log), os.getpid(), str(HOOK))
    provider = AnalyzerProvider(load, DEFAULT_PROVIDER.model_version)
    images = spark_engine.frame([(encode(quadrants(), "JPEG"),), *((text,) for text in TEXTS)], "content binary")
    look = AnalyzeBatches(config.model_dump_json(), provider, (), "content")
    statuses = images.mapInArrow(look.__call__, result_struct(config.output)).select("status").collect()
    assert len(statuses) == len(TEXTS) + 1
    processes = [[json.loads(line) for line in path.read_text().splitlines()] for path in log.iterdir()]
    assert processes
    assert all(process for process in processes)
    assert [event for events in processes for event in suspicious(events) if event[0].startswith(DEEDS)] == []


SOURCES = [path for folder in ("faceattr_udf", "jobs", ".ci") for path in (ROOT / folder).rglob("*.py")]


def test_the_linter_looks_for_what_is_unsafe_and_every_exception_has_a_reason() -> None:
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "S" in rules["select"]
    ignored = [*rules["ignore"], *(code for codes in rules["per-file-ignores"].values() for code in codes)]
    assert {code for code in ignored if re.match(r"S\d|S$", code)} == {"S101"}  # that asserts are for tests
    lacking = [
        f"{path.name}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (noqa := re.search(r"# noqa: ([A-Z0-9, ]+)(.*)", line))
        and re.search(r"\bS\d", noqa[1])
        and not re.search(r"\w", noqa[2])
    ]
    assert lacking == []


def test_no_text_is_run_and_no_shell_started_anywhere() -> None:
    """What the linter's rules let through: they judge single calls."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom) and path.name != "runtime.py":
                assert not ast.unparse(node).startswith(("import openvino", "from openvino")), f"{path}: telemetry"
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"eval", "exec", "compile", "os.system", "os.popen", "__import__"}, path
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert given.get("shell", "False") == "False", path
                assert called != "torch.load" or given.get("weights_only") == "True", path
                assert called not in {"np.load", "numpy.load"} or given.get("allow_pickle", "False") == "False", path
                assert called not in {"pickle.load", "pickle.loads", "joblib.load"}, path
