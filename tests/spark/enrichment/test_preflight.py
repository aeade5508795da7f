"""Models that do not load stop a run before it writes anything."""

import os
from pathlib import Path

import pytest
import torch
from conftest import Engine
from fakes import content, loads, recording_provider

from faceattr_udf.errors import EngineError
from faceattr_udf.spark.enrichment.preflight import check_models
from faceattr_udf.spark.enrichment.run import enrich


@pytest.fixture
def images(engine: Engine, tmp_path: Path) -> str:
    path = str(tmp_path / "images")
    engine.frame([("a", content(1))], "image_id string, content binary").write.format("delta").save(path)
    return path


@pytest.mark.on_spark
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_missing_gpu_stops_a_run_before_it_creates_tables(engine: Engine, images: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r'sees 0 GPUs, .*set runtime\.device = "cpu"') as caught:
        enrich(engine.session, engine.config("runtime.device=cuda"), images, str(tmp_path / "out"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.on_spark
@pytest.mark.parametrize(("asked", "device"), [("auto", "cpu"), ("cpu", "cpu"), ("cuda", "cuda:0")])
def test_driver_never_loads_networks_for_a_gpu(engine: Engine, tmp_path: Path, asked: str, device: str) -> None:
    check_models(engine.session, engine.config(f"runtime.device={asked}"), recording_provider(tmp_path / "seen"))
    ((process, loaded),) = loads(tmp_path / "seen")
    assert loaded == device
    # The embedded engine's tasks are threads of its driver.
    assert (process != os.getpid()) is (asked == "cuda" and engine.name == "spark")
