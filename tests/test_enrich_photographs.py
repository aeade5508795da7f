"""Ingests and enriches the demo's photographs with the shipped weights, on every engine."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cells import cells
from conftest import Engine
from pyspark.sql.types import BinaryType
from shared_data import SHARED, needs_shared

from faceattr_udf.analyzer import FaceAnalyzer
from faceattr_udf.labels import CLASSES
from faceattr_udf.models import MODELS
from faceattr_udf.weights import is_shipped, load_record
from jobs import enrich, ingest

STATUSES = {
    "astronaut.png": "ok",
    "black_and_white.jpg": "no_face",
    "cat.png": "no_face",
    "coffee.png": "no_face",
    "drawing.jpg": "no_face",
    "group/five_friends.jpg": "ok",
    "portrait.jpg": "ok",
    "transparent.png": "ok",
}


@dataclass(frozen=True)
class Output:
    """An engine and the folder of the tables that it wrote."""

    engine: Engine
    folder: Path
    photos: Path

    def run(self) -> None:
        options = [word for setting in self.engine.settings for word in ("--set", setting)]
        images = str(self.folder / "images")
        assert ingest.main(["--input", str(self.photos), "--images", images, *options]) == 0
        options += ["--set", "enrich.wave_images=5", "--set", "attributes.min_confidence=0"]  # every face has labels
        assert enrich.main(["--images", images, "--output", str(self.folder), *options]) == 0

    def table(self, name: str) -> list[dict[str, Any]]:
        rows = [row.asDict(recursive=True) for row in self.engine.read(self.folder / name).collect()]
        return sorted(rows, key=lambda row: tuple(row.get(k) or 0 for k in ("started_at", "image_id", "face_index")))

    def cells(self) -> dict[str, list[dict[str, Any]]]:
        """Returns the rows of the first run, without the names of the engine and of its folder."""
        tables = {n: cells(self.engine.read(self.folder / n), "engine", "images") for n in ("faces", "image_results")}
        return tables | {"runs": cells(self.engine.read(self.folder / "runs"), "engine", "images")[:1]}


def _output(engine: Engine, factory: pytest.TempPathFactory, photos: Path) -> Output:
    output = Output(engine, factory.mktemp(engine.name), photos)
    output.run()
    return output


@pytest.fixture(scope="module")
def sail_output(sail_engine: Engine, tmp_path_factory: pytest.TempPathFactory, demo_photos: Path) -> Output:
    return _output(sail_engine, tmp_path_factory, demo_photos)


@pytest.fixture(scope="module")
def spark_output(spark_engine: Engine, tmp_path_factory: pytest.TempPathFactory, demo_photos: Path) -> Output:
    return _output(spark_engine, tmp_path_factory, demo_photos)


@pytest.fixture(scope="module")
def connect_output(connect_engine: Engine, tmp_path_factory: pytest.TempPathFactory, demo_photos: Path) -> Output:
    return _output(connect_engine, tmp_path_factory, demo_photos)


JVM_ENGINES = [
    pytest.param("spark", marks=pytest.mark.spark),
    pytest.param("connect", marks=[pytest.mark.spark, pytest.mark.slow]),
]


@pytest.fixture(params=["sail", *JVM_ENGINES])
def output(request: pytest.FixtureRequest) -> Output:
    found: Output = request.getfixturevalue(f"{request.param}_output")
    return found


@pytest.fixture(params=JVM_ENGINES)
def jvm_output(request: pytest.FixtureRequest) -> Output:
    found: Output = request.getfixturevalue(f"{request.param}_output")
    return found


def _numbers(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _numbers(child, f"{path}.{key}")
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _numbers(child, f"{path}[{index}]")
    elif isinstance(value, float):
        yield path, value


def _texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _texts(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_texts(child) for child in value]
    return "number" if isinstance(value, float) else value


def test_every_photograph_and_every_face_gets_a_row(output: Output) -> None:
    results, faces = output.table("image_results"), output.table("faces")
    assert {row["image_id"]: row["status"] for row in results} == STATUSES
    assert sum(row["n_faces"] for row in results) == len(faces)
    found = {row["image_id"]: row["n_faces"] for row in results}
    assert found["group/five_friends.jpg"] == 5
    for row in faces:
        assert row["age_low"] <= row["age"] <= row["age_high"]
        for name, labels in CLASSES.items():
            assert set(row[f"{name}_probs"]) == set(labels)
            assert sum(row[f"{name}_probs"].values()) == pytest.approx(1, abs=1e-3)
            assert row[f"{name}_probs"][row[name]] == pytest.approx(row[f"{name}_confidence"])
        assert row["path"].endswith(row["image_id"])


def test_no_image_bytes_are_written(output: Output) -> None:
    for name in ("faces", "image_results", "runs"):
        assert not [
            field.name for field in output.engine.read(output.folder / name).schema if field.dataType == BinaryType()
        ]
    photos = sum(path.stat().st_size for path in output.photos.rglob("*.*"))
    written = sum(f.stat().st_size for n in ("faces", "image_results") for f in (output.folder / n).rglob("*.parquet"))
    assert written < photos / 10
    assert not (output.folder / "_staging").exists()


def test_runs_table_describes_the_run(output: Output) -> None:
    run = output.table("runs")[0]
    n_faces = len(output.table("faces"))
    assert (run["state"], run["n_images"], run["n_inferred"], run["n_faces"]) == ("completed", 8, 8, n_faces)
    assert run["counts"] == {"ok": 4, "no_face": 4}
    assert run["images_per_second"] > 0
    assert json.loads(run["config"])["enrich"]["wave_images"] == 5


def test_second_run_infers_nothing(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    before = output.table("faces"), output.table("image_results")
    output.run()
    assert "0 new, 0 changed, 8 unchanged images" in (printed := capsys.readouterr().out)
    assert "nothing new" in printed
    assert (output.table("faces"), output.table("image_results")) == before
    last = output.table("runs")[-1]
    assert (last["state"], last["n_images"], last["n_inferred"]) == ("completed", 0, 0)


def test_engines_write_equal_tables(sail_output: Output, jvm_output: Output) -> None:
    sail, other = sail_output.cells(), jvm_output.cells()
    assert _texts(sail) == _texts(other)
    # Engines form different batches, and on some processors the last bits of a network's sums depend on the batch size.
    # With one photograph per batch the results are exactly equal: tests/spark/test_cluster.py checks that.
    assert dict(_numbers(sail)) == pytest.approx(dict(_numbers(other)), rel=1e-5, abs=1e-5)


@needs_shared
def test_at_least_80_percent_of_annotated_faces_are_found() -> None:
    boxes = {row["file"]: row["faces"] for row in json.loads((SHARED / "photos" / "photos.json").read_text())}
    names = [name for name, faces in boxes.items() if faces and all(face["label"] == "face" for face in faces)]
    results = FaceAnalyzer.from_config(None).analyze([(SHARED / "photos" / name).read_bytes() for name in names])
    assert sum(result.n_faces for result in results) >= 0.8 * sum(len(boxes[name]) for name in names)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(
            model,
            marks=pytest.mark.skipif(
                not is_shipped(spec.weights), reason=f"train the weights with conf/train/{model}.toml"
            ),
        )
        for model, spec in MODELS.items()
        if model != "default"
    ],
)
def test_every_attribute_model_enriches_photographs(
    model: str, sail_engine: Engine, tmp_path: Path, demo_photos: Path
) -> None:
    (tmp_path / "photos").mkdir()
    for photo in ("portrait.jpg", "group/five_friends.jpg"):
        shutil.copy(demo_photos / photo, tmp_path / "photos")
    images, output = str(tmp_path / "images"), tmp_path / "out"
    assert ingest.main(["--input", str(tmp_path / "photos"), "--images", images]) == 0
    has_embedding = load_record(MODELS[model].weights).embedding
    settings = [f"attributes.model={model}", f"output.embeddings={str(has_embedding).lower()}"]
    options = [word for setting in settings for word in ("--set", setting)]
    assert enrich.main(["--images", images, "--output", str(output), *options]) == 0
    faces = [row.asDict(recursive=True) for row in sail_engine.read(output / "faces").collect()]
    assert len(faces) == 6
    for face in faces:
        assert load_record(MODELS[model].weights).model_version in face["model_version"]
        assert face["age_low"] <= face["age"] <= face["age_high"]
        assert (face["gender"] is None) == (model == "separate_grey")
        for attribute in ("ethnicity", "emotion"):
            assert sum(face[f"{attribute}_probs"].values()) == pytest.approx(1.0, abs=1e-3)
        if has_embedding:
            assert sum(value * value for value in face["embedding"]) == pytest.approx(1.0, abs=1e-3)
