"""Tests that analyzing images opens no connection, starts no program, executes no content and writes no file."""

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
MARKER = "start or end of the analysis"
ACTIONS = ("socket.", "subprocess.", "os.", "pty.")
"""Prefixes of the audit events that are forbidden even while a process starts."""

# Texts that a careless program would execute, used as file contents and as metadata.
TEXTS = [
    b"__import__('os').system('touch PWNED')",
    b"$(touch PWNED); `touch PWNED` | touch PWNED",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(PWNED) (w) file closefile showpage\n%%EOF\n",
    b"<svg xmlns='http://www.w3.org/2000/svg'><image href='http://127.0.0.1:9/x'/></svg>",
    b"http://127.0.0.1:9/x.jpg",
    b"file:///etc/hostname",
    b"cos\nsystem\n(S'touch PWNED'\ntR.",
]


def malicious_images() -> list[bytes | None]:
    exif = quadrants().getexif()
    exif[0x010E] = TEXTS[0].decode()
    with_metadata = encode(quadrants(), "JPEG", exif=exif, comment=TEXTS[1])
    return [*TEXTS, with_metadata, *(case.content for case in odd_images())]


ANALYZE = """
import sys
import pyarrow as pa
import pyarrow.parquet as pq
from faceattr_udf.config import Config
from faceattr_udf.spark.udf import DEFAULT_PROVIDER, AnalyzeBatches, analyzer_pool

source, results = sys.argv[1:]
config = Config.load(None, ["runtime.isolated=false"])  # in this process, whose events are checked between the markers
with analyzer_pool(config, DEFAULT_PROVIDER).borrow():
    pass  # loads the model before the first marker
batches = pq.read_table(source).to_batches()
compile("0", "MARKER", "eval")
found = list(AnalyzeBatches(config.model_dump_json(), DEFAULT_PROVIDER, ("image_id",), "content")(iter(batches)))
compile("0", "MARKER", "eval")
pq.write_table(pa.Table.from_batches(found), results)
""".replace("MARKER", MARKER)


def audit_events(folder: Path, command: Sequence[str]) -> list[list[list[str]]]:
    """Runs a Python command and returns the audit events of each of its processes."""
    log = folder / "audit"
    log.mkdir()
    hooks = folder / "hooks"
    hooks.mkdir()
    shutil.copy(HOOK, hooks / "sitecustomize.py")  # Python imports this in every process
    paths = os.pathsep.join([str(hooks), str(ROOT)])
    # Libraries often disable telemetry in CI; the test must fail if they send it elsewhere.
    inherited = {key: value for key, value in os.environ.items() if key not in {"CI", "TF_BUILD", "JENKINS_URL"}}
    finished = subprocess.run(  # noqa: S603 - this interpreter and a command of this test
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
    """Returns the events that analyzing images does not need."""
    return [event for event in events if not _allowed(*event)]


def _allowed(event: str, *detail: str) -> bool:
    match event:
        case "subprocess.Popen":
            return detail[0] == sys.executable  # a worker may run the analyzer in a child process
        case "compile" | "exec":
            return detail[0] == MARKER or detail[0].startswith("<frozen ") or Path(detail[0]).is_file()  # an import
        case "pickle.find_class":
            return True  # Spark sends functions to workers this way; weights have their own tests
        case "socket.connect" | "socket.bind":
            return not detail[1].startswith("(") or "'127.0.0.1'" in detail[1] or "'localhost'" in detail[1]
        case "socket.getaddrinfo":
            return detail[0] in {"127.0.0.1", "localhost"}
        case _:
            return False


def test_analysis_has_no_side_effects(tmp_path: Path) -> None:
    source, results = tmp_path / "images.parquet", tmp_path / "results.parquet"
    images = malicious_images()
    pq.write_table(pa.table({"image_id": [str(i) for i in range(len(images))], "content": images}), source)
    processes = audit_events(tmp_path, ["-c", ANALYZE, str(source), str(results)])
    (events,) = (process for process in processes if ["compile", MARKER] in process)
    statuses = pq.read_table(results).column("status").to_pylist()
    assert len(statuses) == len(images)
    assert {"missing", "corrupt", "unsupported", "too_large"} < set(statuses)
    begin, end = (index for index, event in enumerate(events) if event == ["compile", MARKER])
    assert suspicious(events[begin:end]) == []
    for process in processes:
        assert [event for event in suspicious(process) if event[0].startswith(ACTIONS)] == []


@pytest.mark.parametrize(
    ("action", "event"),
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
def test_audit_hook_sees_every_forbidden_action(action: str, event: str | None, tmp_path: Path) -> None:
    (tmp_path / "action.py").write_text(action + "\n")
    events = [each for process in audit_events(tmp_path, [str(tmp_path / "action.py")]) for each in process]
    names = {name for name, *_ in suspicious(events)}
    assert event in names if event else not names


def write_images(folder: Path, images: list[bytes | None]) -> Path:
    (folder / "images").mkdir()
    table = pa.table({"image_id": [f"$(touch PWNED) {i}" for i in range(len(images))], "content": images})
    pq.write_table(table, folder / "images" / "part.parquet")
    return folder / "images"


def test_run_connects_only_to_its_engine(tmp_path: Path) -> None:
    write_images(tmp_path, [encode(quadrants(), "JPEG"), *TEXTS, None])
    processes = audit_events(tmp_path, ["-m", "jobs.enrich", "--images", "images", "--output", "out"])
    events = [event for process in processes for event in process]
    assert (tmp_path / "out" / "image_results").is_dir()
    assert ["exec", str(ROOT / "jobs" / "enrich.py")] in events
    assert [event for event in suspicious(events) if event[0].startswith(ACTIONS)] == []


@dataclass(frozen=True)
class AuditedLoader:
    """Loads the default analyzer, and installs the audit hook in worker processes."""

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
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests
    spark_engine.select(monkeypatch)
    config, log = spark_engine.config(), tmp_path / "audit"
    log.mkdir()
    load = AuditedLoader(str(log), os.getpid(), str(HOOK))
    provider = AnalyzerProvider(load, DEFAULT_PROVIDER.model_version)
    images = spark_engine.frame([(encode(quadrants(), "JPEG"),), *((text,) for text in TEXTS)], "content binary")
    analyze = AnalyzeBatches(config.model_dump_json(), provider, (), "content")
    statuses = images.mapInArrow(analyze.__call__, result_struct(config.output)).select("status").collect()
    assert len(statuses) == len(TEXTS) + 1
    processes = [[json.loads(line) for line in path.read_text().splitlines()] for path in log.iterdir()]
    assert processes
    assert all(process for process in processes)
    assert [event for events in processes for event in suspicious(events) if event[0].startswith(ACTIONS)] == []


SOURCES = [path for folder in ("faceattr_udf", "jobs", ".ci") for path in (ROOT / folder).rglob("*.py")]


def test_security_rules_are_on_and_every_exception_has_a_reason() -> None:
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "S" in rules["select"]
    ignored = [*rules["ignore"], *(code for codes in rules["per-file-ignores"].values() for code in codes)]
    assert {code for code in ignored if re.match(r"S\d|S$", code)} == {"S101"}  # asserts, which are for tests
    without_reason = [
        f"{path.name}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (noqa := re.search(r"# noqa: ([A-Z0-9, ]+)(.*)", line))
        and re.search(r"\bS\d", noqa[1])
        and not re.search(r"\w", noqa[2])
    ]
    assert without_reason == []


def test_code_runs_no_text_and_no_shell() -> None:
    """Covers what the linter's rules allow, because they check single calls."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert not ast.unparse(node).startswith(("import openvino", "from openvino")), f"{path}: telemetry"
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"eval", "exec", "compile", "os.system", "os.popen", "__import__"}, path
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert given.get("shell", "False") == "False", path
                assert called != "torch.load" or given.get("weights_only") == "True", path
                assert called not in {"np.load", "numpy.load"} or given.get("allow_pickle", "False") == "False", path
                assert called not in {"pickle.load", "pickle.loads", "joblib.load"}, path
