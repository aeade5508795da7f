"""Minors: what the analyzer keeps of their faces, and that nothing else reaches any table or file."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import Engine
from fakes import Version
from hypothesis import given
from hypothesis import strategies as st
from pyspark import cloudpickle
from test_analyzer import BrightSquares, ByBrightness, picture
from workspaces import CAPTURED_AT, SCHEMA

from faceattr_udf.analyzer import FaceAnalyzer
from faceattr_udf.attributes.decisions import decide_age, probability_below, protect_minor
from faceattr_udf.config import Config
from faceattr_udf.errors import ConfigError
from faceattr_udf.results import AgePrediction, BoundingBox, ClassPrediction, Face, Quality
from faceattr_udf.spark.enrichment import EnrichmentRun
from faceattr_udf.spark.schemas import face_columns
from faceattr_udf.spark.udf import AnalyzerProvider

KEPT_ALWAYS = {"face_index", "bbox", "det_confidence", "quality", "minor"}
EVERYTHING = ["output.landmarks=true", "output.crops=true", "output.embeddings=true"]


class ByShade(ByBrightness):
    """Predicts half of the probability below 18 for dark crops, and none of it for bright ones."""

    def predict(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        outputs = super().predict(crops)
        dark = crops.mean(axis=(1, 2, 3)) < 128
        outputs["age"] = np.zeros((len(crops), 101), dtype=np.float32)
        outputs["age"][:, 40] = np.where(dark, 0.5, 1.0)
        outputs["age"][:, 17] = np.where(dark, 0.5, 0.0)
        return outputs


@dataclass(frozen=True)
class LoadByShade:
    def __call__(self, config: Config, threads: int, device: str) -> FaceAnalyzer:  # noqa: ARG002
        return FaceAnalyzer(config, BrightSquares(), ByShade(embedding=True))


def settings(*overrides: str) -> Config:
    return Config.load(None, ["attributes.min_confidence=0", *EVERYTHING, *overrides])


def faces(config: Config, shade: int, n: int = 1) -> Sequence[Face]:
    (result,) = FaceAnalyzer(config, BrightSquares(), ByShade(embedding=True)).analyze([picture(n, shade=shade)])
    return result.faces


def values(face: Face) -> dict[str, Any]:
    """Returns the columns of a face that are not null."""
    columns = {column.name: column.value(face) for column in face_columns(settings().output)}
    return {name: value for name, value in columns.items() if value is not None}


def test_face_of_a_minor_keeps_only_its_age_group() -> None:
    (face,) = faces(settings("minors.age=18"), shade=50)
    assert values(face).keys() == KEPT_ALWAYS | {"age_group"}
    assert face.minor is True
    assert face.age == AgePrediction(age=None, low=None, high=None, group="20-29", group_probs=None)


def test_face_of_an_adult_keeps_everything() -> None:
    (face,) = faces(settings("minors.age=18"), shade=200)
    (unprotected,) = faces(settings(), shade=200)
    assert face.minor is False
    assert unprotected.minor is None
    assert values(face).keys() == values(unprotected).keys() | {"minor"}
    assert repr(dataclasses.replace(face, minor=None)) == repr(unprotected)


@pytest.mark.parametrize(
    ("keep", "columns"),
    [
        ("[]", set()),
        ('["age"]', {"age", "age_low", "age_high"}),
        ('["age", "age_group"]', {"age", "age_low", "age_high", "age_group"}),
        ('["gender", "age_group"]', {"gender", "gender_confidence", "gender_probs", "age_group"}),
    ],
)
def test_configured_columns_are_kept(keep: str, columns: set[str]) -> None:
    (face,) = faces(settings("minors.age=18", f"minors.keep={keep}"), shade=50)
    assert values(face).keys() == KEPT_ALWAYS | columns


def test_threshold_is_exclusive() -> None:
    assert faces(settings("minors.age=18", "minors.probability=0.5"), shade=50)[0].minor is False
    assert faces(settings("minors.age=18", "minors.probability=0.49"), shade=50)[0].minor is True
    assert faces(settings("minors.age=17"), shade=50)[0].minor is False


def test_face_that_is_too_small_to_answer_is_protected_all_the_same() -> None:
    (face,) = faces(settings("minors.age=18", "attributes.min_face_px=1000"), shade=50)
    assert values(face).keys() == KEPT_ALWAYS
    assert face.minor is True


def test_age_must_be_predicted() -> None:
    with pytest.raises(ConfigError, match=r"minors\.age = 18, but attributes\.predict does not list age"):
        settings("minors.age=18", 'attributes.predict=["gender"]')
    predictor = ByBrightness(embedding=True)
    predictor.record = predictor.record.model_copy(update={"classes": {"gender": ["female", "male"]}})
    with pytest.raises(ConfigError, match="does not predict age, without which minors cannot be told"):
        FaceAnalyzer(settings("minors.age=18"), BrightSquares(), predictor)


def test_config_id_changes_only_with_protection() -> None:
    plain = settings().config_id()
    assert settings("minors.age=0", "minors.probability=0.3", "minors.keep=[]").config_id() == plain
    changed = [
        settings("minors.age=18", *more).config_id() for more in ([], ["minors.probability=0.3"], ["minors.keep=[]"])
    ]
    assert len({plain, *changed}) == 4


PROBABILITIES = st.lists(st.floats(0.0, 1.0, width=32), min_size=101, max_size=101).filter(lambda row: sum(row) > 0.01)


@given(PROBABILITIES, st.integers(1, 30))
def test_probability_below_is_a_probability_that_rises_with_the_age(row: list[float], age: int) -> None:
    weights = np.array(row, dtype=np.float32)
    low, high = probability_below(weights, age), probability_below(weights, age + 1)
    assert -1e-9 <= low <= high <= 1 + 1e-9
    assert probability_below(weights, 101) == pytest.approx(1.0)


@given(PROBABILITIES, st.sets(st.sampled_from(["age", "age_group", "gender", "ethnicity", "emotion"])))
def test_no_field_survives_that_is_not_kept(row: list[float], keep: set[str]) -> None:
    answer = ClassPrediction("a", 1.0, {"a": 1.0})
    face = Face(
        face_index=0,
        bbox=BoundingBox(0.0, 0.0, 1.0, 1.0),
        det_confidence=0.5,
        quality=Quality(1.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        landmarks=np.zeros((5, 2), np.float32),
        age=decide_age(np.array(row), large_enough=True),
        gender=answer,
        ethnicity=answer,
        emotion=answer,
        crop=b"jpeg",
        embedding=np.ones(3, np.float32),
    )
    kept = values(protect_minor(face, keep))
    allowed = set(KEPT_ALWAYS)
    allowed |= {"age", "age_low", "age_high"} if "age" in keep else set()
    allowed |= keep & {"age_group"}
    for name in keep & {"gender", "ethnicity", "emotion"}:
        allowed |= {name, f"{name}_confidence", f"{name}_probs"}
    assert kept.keys() == allowed


def run(engine: Engine, folder: Path, *overrides: str, on_step: Any = lambda _: None) -> Any:
    import test_analyzer

    # Worker processes cannot import the tests' modules.
    cloudpickle.register_pickle_by_value(test_analyzer)
    cloudpickle.register_pickle_by_value(__import__(__name__))
    provider = AnalyzerProvider(LoadByShade(), Version("shade-1"))
    config = engine.config("attributes.min_confidence=0", *EVERYTHING, *overrides)
    images, output = str(folder / "images"), str(folder / "out")
    return EnrichmentRun(engine.session, config, images, output, provider=provider, on_step=on_step).execute()


def write(engine: Engine, folder: Path, shades: dict[str, int]) -> None:
    rows = [(name, picture(2, shade=shade), None, f"/x/{name}", CAPTURED_AT, 7) for name, shade in shades.items()]
    engine.frame(rows, SCHEMA).write.format("delta").mode("overwrite").save(str(folder / "images"))


def table(engine: Engine, folder: Path) -> list[dict[str, Any]]:
    rows = [row.asDict(recursive=True) for row in engine.read(folder / "out" / "faces").collect()]
    return sorted(rows, key=lambda row: (row["image_id"], row["face_index"]))


PROVENANCE = {"image_id", "path", "captured_at", "subject_id", "config_id", "model_version", "run_id", "processed_at"}


@pytest.mark.on_spark(slow=True)
def test_nothing_of_minors_reaches_tables_or_staging(engine: Engine, tmp_path: Path) -> None:
    # b has the content of a, so that its faces are copies.
    write(engine, tmp_path, {"a": 50, "b": 50, "c": 200})
    staged: list[dict[str, Any]] = []

    def open_staged(step: str) -> None:
        if step == "staged":
            for file in (tmp_path / "out" / "_staging").rglob("*.parquet"):
                for row in pq.read_table(file).to_pylist():
                    staged.extend(row.get("faces", [row] if "minor" in row else []))

    done = run(engine, tmp_path, "minors.age=18", on_step=open_staged)
    rows = table(engine, tmp_path)
    assert [(row["image_id"], row["minor"]) for row in rows] == [
        *(("a", True), ("a", True), ("b", True), ("b", True)),
        *(("c", False), ("c", False)),
    ]
    assert (done.n_faces, done.n_minors) == (6, 4)
    minors = [row for row in [*rows, *staged] if row["minor"]]
    assert len(minors) >= 4 + 2
    for row in minors:
        kept = {name for name, value in row.items() if value is not None and not name.startswith("__faceattr_")}
        assert kept - PROVENANCE == KEPT_ALWAYS | {"age_group"}
    assert all(row["embedding"] and row["crop"] and row["landmarks"] for row in rows if not row["minor"])
    # A copy of a minor's face that comes later is protected too, and without protection everything is there.
    write(engine, tmp_path, {"a": 50, "b": 50, "c": 200, "d": 50})
    later = run(engine, tmp_path, "minors.age=18")
    assert (later.n_inferred, later.n_minors) == (0, 2)
    assert [row["gender"] for row in table(engine, tmp_path) if row["image_id"] == "d"] == [None, None]
    assert run(engine, tmp_path).n_minors == 0
    assert all(row["gender"] and row["minor"] is None for row in table(engine, tmp_path))
    counted = [row["n_minors"] for row in engine.read(tmp_path / "out" / "runs").orderBy("started_at").collect()]
    assert counted == [4, 2, None]
