"""Wrong input stops a job before it writes anything: one sentence names it and the fix, and the exit code is 2."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Engine

from faceattr_udf.spark import session
from faceattr_udf.training.export.record import PACKAGE_WEIGHTS
from jobs import enrich, ingest

SCHEMA = "image_id string, content binary"


@pytest.fixture
def images(sail_engine: Engine, tmp_path: Path) -> Path:
    return write(sail_engine, tmp_path / "images", [("a", None)], SCHEMA)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def refused(images: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Returns a function that runs `enrich`, which must refuse, and returns its error message."""

    def run(*arguments: str, images: Path | str = images) -> str:
        assert enrich.main(["--images", str(images), "--output", str(output), *arguments]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        (sentence,) = captured.err.splitlines()
        assert sentence.startswith("enrich: ")
        assert not output.exists()
        return sentence

    return run


def write(engine: Engine, location: Path, rows: list[tuple[object, ...]], schema: str) -> Path:
    engine.frame(rows, schema).write.format("delta").mode("overwrite").save(str(location))
    return location


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("detector.min_face_sise=40", "unknown key detector.min_face_sise = 40; did you mean detector.min_face_size?"),
        ("detector.min_face_size=big", "detector.min_face_size = 'big' is wrong: Input should be a valid integer"),
        ("detector.min_face_size=3", "detector.min_face_size = 3 is wrong: Input should be greater than or equal to"),
        ("engine.name=flink", "engine.name = 'flink' is wrong: Input should be 'sail', 'spark' or 'connect'"),
        ("engine.name=connect", "engine.name 'connect' needs engine.remote"),
        ("min_face_size=40", "--set 'min_face_size=40' is not of the form section.key=value"),
    ],
)
def test_wrong_setting_is_refused(refused: Callable[..., str], override: str, named: str) -> None:
    assert named in refused("--set", override)


def test_missing_configuration_file_is_refused(refused: Callable[..., str]) -> None:
    assert "nowhere.toml cannot be read" in refused("--config", "nowhere.toml")


@pytest.mark.parametrize("images", ["no/such/table", "/no/such/table"])
def test_missing_images_table_is_refused(refused: Callable[..., str], images: str) -> None:
    assert f"table {images} does not exist; name a Delta table or Parquet folder" in refused(images=images)


def test_missing_catalog_table_is_refused(refused: Callable[..., str]) -> None:
    assert "table shop.nothing does not exist" in refused(images="shop.nothing")


@pytest.mark.parametrize(
    ("schema", "overrides", "named"),
    [
        ("image_id string, picture binary", [], "it has image_id, picture); set input.columns.content"),
        ("image_id double, content binary", [], "column 'image_id' of table"),
        ("image_id string, content string", [], 'is text; set input.content_encoding = "base64" if it is base64'),
        ("image_id string, content int", [], "instead of binary; cast it in the table or set input.columns"),
        (SCHEMA, ["input.require_consent=true"], "has no column 'consent'"),
        (SCHEMA, ['input.columns.pass_through=["age"]'], "pass_through names age, which the faces table already has"),
    ],
)
def test_images_table_with_wrong_columns_is_refused(
    refused: Callable[..., str],
    sail_engine: Engine,
    tmp_path: Path,
    schema: str,
    overrides: list[str],
    named: str,
) -> None:
    other = write(sail_engine, tmp_path / "other", [], schema)
    arguments = [word for override in overrides for word in ("--set", override)]
    assert named in refused(*arguments, images=other)


def test_missing_weights_are_refused(refused: Callable[..., str]) -> None:
    sentence = refused("--set", "attributes.weights=/nowhere")
    assert "weights file attributes_default.json is missing from /nowhere; reinstall" in sentence


def test_altered_weights_are_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    for file in PACKAGE_WEIGHTS.glob("attributes_default.*"):
        shutil.copy(file, folder)
    with (folder / "attributes_default.bin").open("ab") as file:
        file.write(b"more")
    sentence = refused("--set", f"attributes.weights={folder}")
    assert "attributes_default.bin has checksum" in sentence
    assert "restore the file that belongs to the record" in sentence


def test_embeddings_of_a_model_without_them_are_refused(refused: Callable[..., str]) -> None:
    assert "set output.embeddings = false" in refused("--set", "output.embeddings=true")


def test_model_without_weights_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    sentence = refused("--set", "attributes.model=embedding_svm", "--set", f"attributes.weights={tmp_path}")
    assert f"weights file attributes_embedding_svm.json is missing from {tmp_path}" in sentence


def test_output_tables_with_other_columns_are_not_changed(
    sail_engine: Engine, images: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(sail_engine, output / "faces", [("a", 1)], "image_id string, years int")
    assert enrich.main(["--images", str(images), "--output", str(output)]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "years is not expected" in sentence
    assert sentence.endswith("use the configuration that the table was written with, or name another output")
    assert [path.name for path in output.iterdir()] == ["faces"]
    assert sail_engine.read(output / "faces").count() == 1


def test_output_folder_that_the_engine_cannot_write_is_refused(images: Path, tmp_path: Path) -> None:
    output = tmp_path / "my tables"
    assert enrich.main(["--images", str(images), "--output", str(output)]) == 2
    assert not output.exists()


def test_missing_embedded_engine_names_its_extra(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_embedded", {})
    monkeypatch.setitem(sys.modules, "pysail.spark", None)
    assert "engine sail is not installed; install the extra faceattr_udf[sail]" in refused()


def test_unreachable_connect_server_is_named(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_CONNECT_SECONDS", 0.5)
    arguments = ["--set", "engine.name=connect", "--set", "engine.remote=sc://127.0.0.1:9"]
    assert "the Spark Connect server sc://127.0.0.1:9 cannot be used" in refused(*arguments)


def test_spark_without_java_is_refused(images: Path, output: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "dirname", "env", "ps", "cat", "uname"):  # what Spark's own scripts need, and no java
        if found := shutil.which(tool):
            (tools / tool).symlink_to(found)
    environment = {name: value for name, value in os.environ.items() if name not in {"JAVA_HOME", "SPARK_HOME"}}
    command = [sys.executable, "-m", "jobs.enrich", "--images", str(images), "--output", str(output)]
    finished = subprocess.run(  # noqa: S603
        [*command, "--set", "engine.name=spark"],
        env=environment | {"PATH": str(tools)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 2
    sentence = finished.stderr.splitlines()[-1]
    assert sentence.startswith("enrich: engine spark cannot start")
    assert "it needs Java 17 or 21: java is not on the PATH; install" in sentence
    assert not output.exists()


def test_missing_input_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "images"
    assert ingest.main(["--input", str(tmp_path / "nowhere"), "--images", str(table)]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("ingest: folder ")
    assert sentence.endswith("nowhere does not exist; set --input to a folder of images")
    assert not table.exists()
