"""What the benchmark of the engine counts, from logs written here; and its tables."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from faceattr_udf.benchmarks.engine_meter import (
    completed_stages,
    measured,
    merges,
    next_version,
    written_per_changed_row,
)
from faceattr_udf.benchmarks.stub_analyzer import STUB, write_stub_table
from faceattr_udf.config import Config


def write_lines(path: Path, *lines: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))


def commit(operation: str, **metrics: object) -> dict[str, object]:
    return {"commitInfo": {"operation": operation, "operationMetrics": metrics}}


def test_workers_that_ended_are_counted() -> None:
    code = "import time\nwhile time.process_time() < 0.5: pass"
    with measured(None) as cost:
        subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603  # the interpreter of this test
    assert cost.cpu_seconds["workers"] >= 0.5
    with measured(None) as cost:
        pass
    assert cost.cpu_seconds["workers"] < 0.5


def test_merges_are_counted_from_a_version_on(tmp_path: Path) -> None:
    log = tmp_path / "_delta_log"
    write_lines(log / f"{0:020}.json", commit("MERGE", numTargetRowsInserted=7, numTargetRowsCopied=5))
    # One engine writes numbers, the other text.
    first = commit("MERGE", numTargetRowsUpdated="2", numTargetRowsCopied="96", numTargetFilesRemoved="3")
    write_lines(log / f"{1:020}.json", first, {"add": {"path": "x"}})
    write_lines(log / f"{2:020}.json", commit("WRITE", numTargetRowsCopied=1000))
    write_lines(
        log / f"{3:020}.json", {"metaData": {}}, commit("MERGE", numTargetRowsInserted=2, numTargetFilesAdded=1)
    )
    assert next_version(tmp_path) == 4
    counted = {"inserted": 2, "updated": 2, "deleted": 0, "copied": 96, "files_added": 1, "files_removed": 3}
    assert merges(tmp_path, 1) == counted
    assert written_per_changed_row(counted) == 25.0
    assert merges(tmp_path)["inserted"] == 9
    assert written_per_changed_row(merges(tmp_path, 4)) is None
    assert next_version(tmp_path / "nothing") == 0


def test_stages_are_counted_from_a_position_on(tmp_path: Path) -> None:
    def stage(tasks: int, **metrics: int) -> dict[str, object]:
        sums = [{"Name": f"internal.metrics.{name}", "Value": value} for name, value in metrics.items()]
        return {"Event": "SparkListenerStageCompleted", "Stage Info": {"Number of Tasks": tasks, "Accumulables": sums}}

    log = tmp_path / "local-1.inprogress"
    write_lines(log, stage(9, **{"input.bytesRead": 900}), {"Event": "SparkListenerTaskEnd"})
    start = log.stat().st_size
    with log.open("a") as file:
        file.write(json.dumps(stage(4, **{"input.bytesRead": 100, "input.recordsRead": 1})) + "\n")
        file.write(json.dumps(stage(2)) + "\n")
        file.write(json.dumps(stage(5))[:40])  # not yet written to its end
    assert list(completed_stages(tmp_path, start)) == [(4, 100), (2, 0)]
    assert len(list(completed_stages(tmp_path))) == 3


@pytest.mark.parametrize("in_order", [True, False])
def test_stub_tables_have_rows_that_change(in_order: bool, tmp_path: Path) -> None:
    old, new = (
        pq.read_table(
            write_stub_table(
                tmp_path / str(version), 1_000, content_bytes=50, in_order=in_order, every=100, version=version
            )
        ).to_pylist()
        for version in range(2)
    )
    ids = [row["image_id"] for row in old]
    assert (ids == sorted(ids)) is in_order
    assert len(set(ids)) == len({row["content_sha256"] for row in old}) == 1_000
    assert ids == [row["image_id"] for row in new]
    assert [number for number, pair in enumerate(zip(old, new, strict=True)) if pair[0] != pair[1]] == [
        *range(0, 1_000, 100)
    ]
    assert {len(row["content"]) for row in old} == {50}
    results = STUB.load(Config(), 1, "cpu").analyze([row["content"] for row in old])
    assert 600 < sum(len(result.faces) for result in results) < 800
