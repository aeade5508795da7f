"""Darkened, gray and other-mix nights of really analyzed photographs alarm, each with its kind."""

import io
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Engine
from PIL import Image, ImageEnhance
from shared_data import SHARED, needs_shared

from faceattr_udf import FaceAnalyzer
from faceattr_udf.config import OutputConfig
from faceattr_udf.drift.nights import Kind, NightReport
from faceattr_udf.results import Face
from faceattr_udf.spark.drift import judge_run
from faceattr_udf.spark.schemas import RUNS, arrow_type, face_columns

pytestmark = [needs_shared, pytest.mark.slow]

QUIET_NIGHTS = 28
FACES = 1500
"""Faces of a night, drawn with replacement: a pool of photographs is analyzed once."""

Change = Callable[[Image.Image], Image.Image]


def _plain(image: Image.Image) -> Image.Image:
    return image


def _dark(image: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(0.4)


def _gray(image: Image.Image) -> Image.Image:
    return image.convert("L").convert("RGB")


class Pool:
    """Photographs with labels, and their faces as rows of the faces table."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows = rows
        self._analyzer = FaceAnalyzer.from_config()

    def faces(self, change: Change, rows: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Face]]:
        """Returns the largest face of every photograph in which one is found."""
        contents = []
        for row in rows:
            file = io.BytesIO()
            change(Image.open(io.BytesIO(row["image"])).convert("RGB")).save(file, "JPEG", quality=92)
            contents.append(file.getvalue())
        results = self._analyzer.analyze(contents)
        return [(row, result.faces[0]) for row, result in zip(rows, results, strict=True) if result.faces]


def _table(faces: Sequence[Face]) -> pa.Table:
    columns = face_columns(OutputConfig())
    arrays = [pa.array([column.value(face) for face in faces], arrow_type(column.type)) for column in columns]
    return pa.Table.from_arrays(arrays, [column.name for column in columns])


@pytest.fixture(scope="module")
def judged(sail_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, NightReport]:
    """Returns what became of five nights after quiet ones of the same photographs, each judged on its own."""
    rng = np.random.default_rng(1)
    rows = pq.read_table(SHARED / "faces-test.parquet", filters=[("source", "=", "utkface")]).to_pylist()
    pool = Pool([rows[index] for index in rng.permutation(len(rows))[:800]])
    plain = pool.faces(_plain, pool.rows)
    others = [face for row, face in plain if row["ethnicity"] in {"asian", "indian"} and row["gender"] == "female"]
    faces = {
        "quiet": [face for _, face in plain],
        "dark": [face for _, face in pool.faces(_dark, pool.rows[:400])],
        "gray": [face for _, face in pool.faces(_gray, pool.rows[:400])],
        "mix": [face for _, face in plain] + others * 3,
        "women": [face for row, face in plain if row["gender"] == "female"],
    }
    tables = {name: _table(of_name) for name, of_name in faces.items()}
    reports = {}
    for name in tables:
        folder = tmp_path_factory.mktemp(name)
        nights = ["quiet"] * QUIET_NIGHTS + [name]
        _write(sail_engine, folder, [tables[night].take(rng.integers(0, len(faces[night]), FACES)) for night in nights])
        reports[name] = judge_run(sail_engine.session, sail_engine.config(), str(folder))
    return reports


def _write(engine: Engine, folder: Path, nights: Sequence[pa.Table]) -> None:
    faces, results, runs = [], [], []
    for number, night in enumerate(nights):
        started = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number)
        ids = pa.array([f"{number}-{index}" for index in range(len(night))])
        own = {"image_id": ids, "run_id": pa.array([f"r{number:03}"] * len(night))}
        for name, values in own.items():
            night = night.append_column(name, values)  # noqa: PLW2901
        faces.append(night)
        ones = pa.array([1] * len(night), pa.int32())
        results.append(pa.table({**own, "status": pa.array(["ok"] * len(night)), "n_faces": ones}))
        run = {"run_id": f"r{number:03}", "state": "completed", "started_at": started, "finished_at": started}
        run |= {"n_faces": len(night), "model_version": "m", "config_id": "c"}
        runs.append(tuple(run.get(column) for column in RUNS.fieldNames()))
    for name, tables in (("faces", faces), ("image_results", results)):
        pq.write_table(pa.concat_tables(tables), folder / f"{name}.parquet")
        frame = engine.session.read.parquet((folder / f"{name}.parquet").as_uri())
        frame.write.format("delta").save(str(folder / name))
    engine.session.createDataFrame(runs, RUNS).write.format("delta").save(str(folder / "runs"))


@pytest.mark.parametrize(
    ("night", "kind"),
    [
        ("quiet", None),
        ("dark", Kind.PHOTOGRAPHY),
        ("gray", Kind.PHOTOGRAPHY),
        ("mix", Kind.MIX),
        ("women", Kind.MIX),
    ],
)
def test_night_alarms_with_its_kind(judged: Mapping[str, NightReport], night: str, kind: Kind | None) -> None:
    assert judged[night].reason is None
    assert judged[night].kind is kind, judged[night].sentence()
