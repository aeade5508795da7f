"""Images that crash or hang the process that analyzes them, in a whole run."""

from pathlib import Path

import fakes
from conftest import Engine

from faceattr_udf.spark.enrichment.run import enrich


def test_images_that_crash_the_analyzer_fail_alone(engine: Engine, tmp_path: Path) -> None:
    contents = {f"good-{index}": b"x" * (index + 1) for index in range(12)}
    contents |= {"crash-1": b"die", "crash-2": b"die ", "exit": b"exit", "hang": b"hang"}
    images = str(tmp_path / "images")
    engine.frame(list(contents.items()), "image_id string, content binary").write.format("delta").save(images)
    config = engine.config("runtime.batch_seconds=3", "enrich.max_batch_rows=8", "enrich.wave_images=10")

    run = enrich(engine.session, config, images, str(tmp_path / "out"), provider=fakes.scripted_provider())

    assert (run.state, run.counts) == ("completed", {"no_face": 12, "model_error": 4})
    rows = {row.image_id: row for row in engine.read(tmp_path / "out" / "image_results").collect()}
    assert rows.keys() == contents.keys()
    assert {rows[name].width for name in contents if name.startswith("good")} == set(range(1, 13))
    assert rows["hang"].error == "the process that analyzed this image gave no result within 3 s"
    assert {rows[name].error for name in ("crash-1", "crash-2")} == {
        "the process that analyzed this image died (SIGSEGV)"
    }
    assert rows["exit"].error == "the process that analyzed this image died (exit code 7)"

    again = enrich(engine.session, config, images, str(tmp_path / "out"), provider=fakes.scripted_provider())
    assert again.n_inferred == 0
