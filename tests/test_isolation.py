"""The isolated analyzer, with an analyzer in the child that is scripted by the bytes of each image."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from scripted_analyzer import ScriptedAnalyzer

from faceattr_udf.analyzer import FaceAnalyzer
from faceattr_udf.config import Config
from faceattr_udf.errors import EngineError, WeightsError
from faceattr_udf.isolation import IsolatedAnalyzer
from faceattr_udf.results import ImageResult, ImageStatus
from faceattr_udf.spark.udf import load_analyzer

SECONDS = 30.0


@dataclass(frozen=True)
class DiesOnce:
    """Dies once, on its first call, like a process killed because another one used up the memory."""

    marker: Path

    def analyze(self, contents: Sequence[bytes | None]) -> list[ImageResult]:
        if not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return ScriptedAnalyzer().analyze(contents)


def fail_with_weights_error() -> ScriptedAnalyzer:
    msg = "the weights are gone"
    raise WeightsError(msg)


def fail_with_other_error() -> ScriptedAnalyzer:
    raise ZeroDivisionError


def die_while_loading() -> ScriptedAnalyzer:
    os._exit(3)


@pytest.fixture
def analyzer() -> Iterator[IsolatedAnalyzer]:
    isolated = IsolatedAnalyzer(ScriptedAnalyzer, SECONDS)
    yield isolated
    isolated.close()


def statuses(results: Sequence[ImageResult]) -> list[str]:
    return [str(result.status) for result in results]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_no_images_give_no_results(analyzer: IsolatedAnalyzer) -> None:
    assert analyzer.analyze([]) == []


def test_null_content_reaches_the_analyzer(analyzer: IsolatedAnalyzer) -> None:
    (result,) = analyzer.analyze([None])
    assert (result.status, result.error) == (ImageStatus.MISSING, "no content")


def test_images_are_analyzed_in_one_child_process(analyzer: IsolatedAnalyzer) -> None:
    results = analyzer.analyze([b"a", b"bb"]) + analyzer.analyze([b"ccc"])
    assert [result.width for result in results] == [1, 2, 3]
    assert {result.height for result in results} == {analyzer.pid} != {os.getpid()}


@pytest.mark.parametrize(
    ("poison", "fate"), [(b"die", "died (SIGSEGV)"), (b"exit", "died (exit code 7)")], ids=["crash", "exit"]
)
def test_crash_fails_only_the_image_that_caused_it(analyzer: IsolatedAnalyzer, poison: bytes, fate: str) -> None:
    first = analyzer.pid
    results = analyzer.analyze([b"a", None, poison, b"b", poison])
    assert statuses(results) == ["no_face", "missing", "model_error", "no_face", "model_error"]
    assert results[2].error == f"the process that analyzed this image {fate}"
    assert not alive(first)
    assert statuses(analyzer.analyze([b"c"])) == ["no_face"]


def test_image_that_hangs_is_stopped_at_the_time_limit() -> None:
    analyzer = IsolatedAnalyzer(ScriptedAnalyzer, 1.0)
    results = analyzer.analyze([b"a", b"hang"])
    assert statuses(results) == ["no_face", "model_error"]
    assert results[1].error == "the process that analyzed this image gave no result within 1 s"
    analyzer.close()


def test_images_are_retried_after_a_kill(tmp_path: Path) -> None:
    analyzer = IsolatedAnalyzer(partial(DiesOnce, tmp_path / "killed"), SECONDS)
    assert statuses(analyzer.analyze([b"a", b"b"])) == ["no_face", "no_face"]
    analyzer.close()


def test_new_process_replaces_one_with_a_failed_device(analyzer: IsolatedAnalyzer) -> None:
    first = analyzer.pid
    results = analyzer.analyze([b"a", b"lose", b"b"])
    assert statuses(results) == ["no_face", "model_error", "no_face"]
    assert analyzer.pid != first


def test_output_on_stdout_does_not_corrupt_results(analyzer: IsolatedAnalyzer) -> None:
    assert statuses(analyzer.analyze([b"print", b"a"])) == ["no_face", "no_face"]


def test_analyzer_error_names_its_class_and_no_content(analyzer: IsolatedAnalyzer) -> None:
    with pytest.raises(RuntimeError, match=r"^the analyzer failed \(KeyError\)$"):
        analyzer.analyze([b"raise"])
    assert statuses(analyzer.analyze([b"a"])) == ["no_face"]


def test_loading_errors_are_raised_in_the_parent() -> None:
    with pytest.raises(WeightsError, match="the weights are gone"):
        IsolatedAnalyzer(fail_with_weights_error, SECONDS)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        IsolatedAnalyzer(fail_with_other_error, SECONDS)
    with pytest.raises(EngineError, match=r"died \(exit code 3\) while it loaded the models"):
        IsolatedAnalyzer(die_while_loading, SECONDS)


def test_child_exits_with_its_parent() -> None:
    code = (
        "import os, scripted_analyzer; from faceattr_udf.isolation import IsolatedAnalyzer; "
        "print(IsolatedAnalyzer(scripted_analyzer.ScriptedAnalyzer, 9).pid, flush=True); os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code]
    parent = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=False)  # noqa: S603  # constants
    assert parent.returncode == -signal.SIGKILL
    child = int(parent.stdout)
    deadline = time.monotonic() + SECONDS
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child)


def test_isolated_real_analyzer_gives_equal_results(demo_photos: Path) -> None:
    contents = [(demo_photos / name).read_bytes() for name in ("portrait.jpg", "group/five_friends.jpg")]
    isolated = IsolatedAnalyzer(partial(load_analyzer, Config(), 1, "cpu"), SECONDS)
    theirs, ours = isolated.analyze(contents), FaceAnalyzer.from_config(None).analyze(contents)
    isolated.close()
    assert sum(result.n_faces for result in ours) > 0
    assert repr(theirs) == repr(ours)  # equal in everything, arrays included
