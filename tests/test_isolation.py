"""The analyzer in a process of its own, with an analyzer that does what the bytes say."""

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
from obedient import Obedient

from faceattr_udf.analyzer import FaceAnalyzer
from faceattr_udf.config import Config
from faceattr_udf.errors import EngineError, WeightsError
from faceattr_udf.isolation import IsolatedAnalyzer
from faceattr_udf.results import ImageResult, ImageStatus
from faceattr_udf.spark.udf import load_analyzer

SECONDS = 30.0


@dataclass(frozen=True)
class Once:
    """Dies on the first image of all, and on none after it: what takes the memory may be another process."""

    left: Path

    def analyze(self, contents: Sequence[bytes | None]) -> list[ImageResult]:
        if not self.left.exists():
            self.left.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Obedient().analyze(contents)


def fail_with_a_sentence() -> Obedient:
    msg = "the weights are gone"
    raise WeightsError(msg)


def fail_with_anything() -> Obedient:
    raise ZeroDivisionError


def die_while_loading() -> Obedient:
    os._exit(3)


@pytest.fixture
def analyzer() -> Iterator[IsolatedAnalyzer]:
    made = IsolatedAnalyzer(Obedient, SECONDS)
    yield made
    made.close()


def statuses(results: Sequence[ImageResult]) -> list[str]:
    return [str(result.status) for result in results]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_nothing_asks_nothing(analyzer: IsolatedAnalyzer) -> None:
    assert analyzer.analyze([]) == []


def test_a_null_reaches_the_analyzer(analyzer: IsolatedAnalyzer) -> None:
    (result,) = analyzer.analyze([None])
    assert (result.status, result.error) == (ImageStatus.MISSING, "no content")


def test_images_are_analysed_in_one_other_process(analyzer: IsolatedAnalyzer) -> None:
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
    assert results[2].error == f"the process that analysed this image {fate}"
    assert not alive(first)
    assert statuses(analyzer.analyze([b"c"])) == ["no_face"]


def test_image_that_hangs_is_stopped_after_its_time() -> None:
    analyzer = IsolatedAnalyzer(Obedient, 1.0)
    results = analyzer.analyze([b"a", b"hang"])
    assert statuses(results) == ["no_face", "model_error"]
    assert results[1].error == "the process that analysed this image gave no result within 1 s"
    analyzer.close()


def test_image_beside_a_killed_one_gets_its_result(tmp_path: Path) -> None:
    analyzer = IsolatedAnalyzer(partial(Once, tmp_path / "killed"), SECONDS)
    assert statuses(analyzer.analyze([b"a", b"b"])) == ["no_face", "no_face"]
    analyzer.close()


def test_a_lost_device_is_looked_for_by_a_new_process(analyzer: IsolatedAnalyzer) -> None:
    first = analyzer.pid
    results = analyzer.analyze([b"a", b"lose", b"b"])
    assert statuses(results) == ["no_face", "model_error", "no_face"]
    assert analyzer.pid != first


def test_what_a_library_prints_is_no_answer(analyzer: IsolatedAnalyzer) -> None:
    assert statuses(analyzer.analyze([b"print", b"a"])) == ["no_face", "no_face"]


def test_an_error_of_the_analyzer_names_its_class_and_no_content(analyzer: IsolatedAnalyzer) -> None:
    with pytest.raises(RuntimeError, match=r"^the analyzer failed \(KeyError\)$"):
        analyzer.analyze([b"raise"])
    assert statuses(analyzer.analyze([b"a"])) == ["no_face"]


def test_what_is_wrong_with_the_weights_is_said_here() -> None:
    with pytest.raises(WeightsError, match="the weights are gone"):
        IsolatedAnalyzer(fail_with_a_sentence, SECONDS)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        IsolatedAnalyzer(fail_with_anything, SECONDS)
    with pytest.raises(EngineError, match=r"died \(exit code 3\) while it loaded the models"):
        IsolatedAnalyzer(die_while_loading, SECONDS)


def test_child_ends_with_its_parent() -> None:
    code = (
        "import os, obedient; from faceattr_udf.isolation import IsolatedAnalyzer; "
        "print(IsolatedAnalyzer(obedient.Obedient, 9).pid, flush=True); os.kill(os.getpid(), 9)"
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


def test_the_real_analyzer_gives_the_same_results_isolated(demo_photos: Path) -> None:
    contents = [(demo_photos / name).read_bytes() for name in ("portrait.jpg", "group/five_friends.jpg")]
    isolated = IsolatedAnalyzer(partial(load_analyzer, Config(), 1, "cpu"), SECONDS)
    theirs, ours = isolated.analyze(contents), FaceAnalyzer.from_config(None).analyze(contents)
    isolated.close()
    assert sum(result.n_faces for result in ours) > 0
    assert repr(theirs) == repr(ours)  # equal in everything, arrays included
