"""An images table and an output folder on one engine, with finished runs to go on from."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from conftest import Engine
from fakes import content, provider

from faceattr_udf.spark.enrichment.run import enrich
from faceattr_udf.spark.runs import Run

SCHEMA = "image_id string, content binary, content_sha256 string, path string, captured_at timestamp, subject_id int"
NIGHT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Killed(BaseException):
    """Not an Exception: as with a real kill, nothing is tidied up."""


def image(image_id: str | None, data: bytes | None, *, hashed: bool = True) -> tuple[Any, ...]:
    digest = sha256(data).hexdigest() if data is not None and hashed else None
    return (image_id, data, digest, f"/x/{image_id}", NIGHT, None if image_id == "b" else 7)


PICTURES = [
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

    def write(self, rows: list[tuple[Any, ...]], schema: str = SCHEMA, form: str = "delta") -> None:
        frame = self.engine.frame(rows, schema)
        frame.write.format(form).mode("overwrite").save(str(self.folder / "images"))

    def run(self, *overrides: str, version: str = "fake-1", checkpoint: Callable[[str], None] = lambda _: None) -> Run:
        config = self.engine.config(*overrides)
        session, out = self.engine.session, str(self.folder / "out")
        return enrich(
            session,
            config,
            str(self.folder / "images"),
            out,
            provider=provider(self.seen, version),
            checkpoint=checkpoint,
        )

    def copy(self, folder: Path, engine: Engine | None = None) -> "Workspace":
        """The same elsewhere, perhaps for another engine: Delta's paths are relative to its table."""
        shutil.copytree(self.folder, folder)
        return Workspace(engine or self.engine, folder)

    def table(self, name: str) -> list[dict[str, Any]]:
        """Rows as plain data in a fixed order, without what differs from run to run."""
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
    """A finished run over `PICTURES` in two waves. To be read or copied, not to be written to."""
    workspace = Workspace(sail_engine, tmp_path_factory.mktemp("finished"))
    with pytest.MonkeyPatch.context() as patch:
        sail_engine.select(patch)
        workspace.write(PICTURES)
        return workspace, workspace.run(TWO_WAVES)


@pytest.fixture
def finished(engine: Engine, tmp_path: Path, finished_run: tuple[Workspace, Run]) -> Workspace:
    """A copy of the finished run, to go on from; the embedded engine wrote it, because engines write equal tables."""
    return finished_run[0].copy(tmp_path / "finished", engine)


@pytest.fixture(scope="session")
def nights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A finished run of the real job whose images then changed, and the undisturbed run after it; for any engine."""
    from kill_nights import make

    return make(tmp_path_factory.mktemp("nights"), "sail", images=36)


def killed_at(point: str, nth: int = 1) -> Callable[[str], None]:
    passed: list[str] = []

    def checkpoint(name: str) -> None:
        passed.append(name)
        if passed.count(point) == nth and name == point:
            raise Killed

    return checkpoint


def statuses(workspace: Workspace) -> dict[str, str]:
    return {row["image_id"]: row["status"] for row in workspace.table("image_results")}
