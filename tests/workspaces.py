"""Workspaces: an images table and an output folder on one engine, empty or with a finished run."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from conftest import Engine
from fakes import content, provider

from faceattr_udf.spark.enrichment import EnrichmentRun
from faceattr_udf.spark.runs import Run

SCHEMA = "image_id string, content binary, content_sha256 string, path string, captured_at timestamp, subject_id int"
CAPTURED_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Killed(BaseException):
    """Not an Exception, so that nothing is cleaned up, as after a real kill."""


def image(image_id: str | None, data: bytes | None, *, hashed: bool = True) -> tuple[Any, ...]:
    digest = sha256(data).hexdigest() if data is not None and hashed else None
    return (image_id, data, digest, f"/x/{image_id}", CAPTURED_AT, None if image_id == "b" else 7)


IMAGES = [
    image("a", content(2)),
    image("b", content(1, "b")),
    image("c", content(0)),
    image("d", None),
    image("e", b"garbage"),
    image("f", b""),
    image("it's \\ ünicode", content(1, "quote")),
    image("g", content(3, "no hash"), hashed=False),
    image("z", content(2)),
]


TWO_WAVES = "enrich.wave_images=5"


class Workspace:
    """An images table and an output folder on one engine."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.seen = folder / "seen"

    def write(self, rows: list[tuple[Any, ...]], schema: str = SCHEMA, table_format: str = "delta") -> None:
        frame = self.engine.frame(rows, schema)
        frame.write.format(table_format).mode("overwrite").save(str(self.folder / "images"))

    def run(self, *overrides: str, version: str = "fake-1", on_step: Callable[[str], None] = lambda _: None) -> Run:
        """Runs enrichment; `on_step` is called between commits, for example to fail there."""
        images, output = str(self.folder / "images"), str(self.folder / "out")
        analyzers = provider(self.seen, version)
        run = EnrichmentRun(
            self.engine.session, self.engine.config(*overrides), images, output, provider=analyzers, on_step=on_step
        )
        return run.execute()

    def copy(self, folder: Path, engine: Engine | None = None) -> "Workspace":
        """Copies the workspace, also for another engine: paths in a Delta table are relative."""
        shutil.copytree(self.folder, folder)
        return Workspace(engine or self.engine, folder)

    def table(self, name: str) -> list[dict[str, Any]]:
        """Returns the rows as plain data, sorted, without the columns that differ between runs."""
        rows = [row.asDict(recursive=True) for row in self.engine.read(self.folder / "out" / name).collect()]
        rows = [{key: row[key] for key in row if key not in {"run_id", "processed_at"}} for row in rows]
        return sorted(rows, key=lambda row: (row["image_id"], row.get("face_index", 0)))

    def tables(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        return self.table("faces"), self.table("image_results")


@pytest.fixture
def workspace(engine: Engine, tmp_path: Path) -> Workspace:
    return Workspace(engine, tmp_path)


@pytest.fixture(scope="session")
def finished_run(sail_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Run]:
    """Returns a finished run over `IMAGES` in two waves; read or copy it, but do not write to it."""
    workspace = Workspace(sail_engine, tmp_path_factory.mktemp("finished"))
    with pytest.MonkeyPatch.context() as patch:
        sail_engine.select(patch)
        workspace.write(IMAGES)
        return workspace, workspace.run(TWO_WAVES)


@pytest.fixture
def finished(engine: Engine, tmp_path: Path, finished_run: tuple[Workspace, Run]) -> Workspace:
    """Returns a copy of the finished run; the embedded engine wrote it, because all engines write equal tables."""
    return finished_run[0].copy(tmp_path / "finished", engine)


@pytest.fixture(scope="session")
def prepared_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Returns a finished run of the job whose images have changed since, and the expected output of the next run."""
    from kill_runs import prepare_runs

    return prepare_runs(tmp_path_factory.mktemp("runs"), "sail", images=36)


def killed_at(step: str, nth: int = 1) -> Callable[[str], None]:
    """Returns an `on_step` that kills the run when it reaches a step for the nth time."""
    reached: list[str] = []

    def on_step(name: str) -> None:
        reached.append(name)
        if reached.count(step) == nth and name == step:
            raise Killed

    return on_step


def statuses(workspace: Workspace) -> dict[str, str]:
    return {row["image_id"]: row["status"] for row in workspace.table("image_results")}
