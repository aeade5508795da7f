"""The device of a task, with fake tasks: neither Spark nor a GPU is needed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from pyspark import TaskContext
from pyspark.resource import ResourceInformation

from faceattr_udf.config import Config
from faceattr_udf.errors import EngineError
from faceattr_udf.spark.devices import task_device, visible_index
from faceattr_udf.spark.udf import AnalyzerProvider, analyzer_pool

Enter = Callable[..., None]


@dataclass(frozen=True)
class Task:
    gpus: tuple[str, ...] | None

    def cpus(self) -> int:
        return 1

    def resources(self) -> dict[str, ResourceInformation]:
        others = {"fpga": ResourceInformation("fpga", ["7"])}
        return others if self.gpus is None else {**others, "gpu": ResourceInformation("gpu", list(self.gpus))}


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch) -> Enter:
    """Puts this process into a task with these GPUs; None: a task whose resources have no entry for GPUs."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def entered(gpus: tuple[str, ...] | None) -> None:
        monkeypatch.setattr(TaskContext, "get", lambda: Task(gpus))

    return entered


@pytest.mark.parametrize(("asked", "device"), [("auto", "cpu"), ("cpu", "cpu"), ("cuda", "cuda:0")])
def test_auto_is_the_cpu_outside_of_tasks(monkeypatch: pytest.MonkeyPatch, asked: Any, device: str) -> None:
    monkeypatch.setattr(TaskContext, "get", lambda: None)
    assert task_device(asked) == device


@pytest.mark.parametrize("gpus", [None, ()])
@pytest.mark.parametrize(("asked", "device"), [("auto", "cpu"), ("cpu", "cpu"), ("cuda", "cuda:0")])
def test_task_without_gpu(enter: Enter, gpus: tuple[str, ...] | None, asked: Any, device: str) -> None:
    enter(gpus)
    assert task_device(asked) == device


@pytest.mark.parametrize(("asked", "device"), [("auto", "cuda:2"), ("cpu", "cpu"), ("cuda", "cuda:2")])
def test_task_uses_its_first_gpu(enter: Enter, asked: Any, device: str) -> None:
    enter(("2", "3"))
    assert task_device(asked) == device


@pytest.mark.parametrize(
    ("address", "visible", "index"),
    [
        ("2", None, 2),
        ("2", "2", 0),  # the process sees only the machine's third GPU
        ("2", "0,2,3", 1),
        ("0", "2, 0", 1),
        ("0", "3", 0),  # a container renumbers the GPUs that it sees
        ("1", "GPU-aa,GPU-bb", 1),
        ("GPU-bb", "GPU-aa,GPU-bb", 1),
    ],
)
def test_index_is_among_visible_gpus(address: str, visible: str | None, index: int) -> None:
    assert visible_index(address, visible) == index


@pytest.mark.parametrize(
    ("address", "visible"), [("2", "0,1"), ("0", ""), ("0", " "), ("GPU-aa", None), ("GPU-aa", "GPU-bb"), ("-1", None)]
)
def test_invisible_gpu_is_named_in_the_error(address: str, visible: str | None) -> None:
    with pytest.raises(EngineError, match=f"Spark assigned GPU '{address}' to a task.*CUDA_VISIBLE_DEVICES"):
        visible_index(address, visible)


def test_cuda_visible_devices_of_the_process_is_used(enter: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(("3",))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3")
    assert task_device("auto") == "cuda:1"


@dataclass
class Loads:
    devices: list[str] = field(default_factory=list)

    def load(self, config: Config, threads: int, device: str) -> Any:  # noqa: ARG002
        self.devices.append(device)
        return object()


def test_tasks_on_one_gpu_share_an_analyzer(enter: Enter) -> None:
    loads = Loads()
    provider = AnalyzerProvider(loads.load, lambda _: "")
    for gpus in [("0",), ("0",), ("1",), ("1",), ("0",), None]:
        enter(gpus)
        with analyzer_pool(Config(), provider).borrow():
            pass
    assert loads.devices == ["cuda:0", "cuda:1", "cuda:0", "cpu"]


def test_analyzer_on_previous_gpu_is_freed(enter: Enter) -> None:
    gone = []

    class Analyzer:
        def __del__(self) -> None:
            gone.append(True)

    provider = AnalyzerProvider(lambda *_: Analyzer(), lambda _: "")  # type: ignore[arg-type, return-value]
    for gpus in (("0",), ("1",)):
        enter(gpus)
        with analyzer_pool(Config(), provider).borrow():
            pass
    assert gone == [True]
