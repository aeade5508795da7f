"""Jars are resolved once, also when several processes start together or one of them is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SPARK_SETTINGS

from faceattr_udf.errors import EngineError
from faceattr_udf.spark import jars

DELTA = "io.delta:delta-spark_4.2_2.13:4.4.0"

# A process with a fake resolver: it logs its start, waits, and makes two jars.
RESOLVING = """
import os, sys, time
from pathlib import Path
from faceattr_udf.spark import jars

calls, seconds = Path(sys.argv[1]), float(sys.argv[2])

def fetch(resolver):
    with calls.open("a") as file:
        file.write("start\\n")
    made = []
    for name in ("a.jar", "b.jar"):
        time.sleep(seconds)
        made.append(Path(resolver["spark.jars.ivy"]) / name)
        made[-1].write_bytes(b"jar")
    return [str(path) for path in made]

jars._fetch = fetch
print([path.name for path in jars.resolve({"spark.jars.packages": "x:y:1"})])
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for this process and its children."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "faceattr_udf" / "jars"


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, str]]:
    """The requests to a fake resolver, which answers with one jar."""
    asked: list[dict[str, str]] = []
    (tmp_path / "delta.jar").write_bytes(b"jar")

    def fetch(resolver: dict[str, str]) -> list[str]:
        asked.append({key: value for key, value in resolver.items() if key != "spark.jars.ivy"})
        return [str(tmp_path / "delta.jar")]

    monkeypatch.setattr(jars, "_fetch", fetch)
    return asked


def resolving(calls: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RESOLVING, str(calls), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own interpreter and code


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_processes_that_start_together_resolve_once(cache: Path, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    together = [resolving(calls, 0.3) for _ in range(4)]
    assert [process.communicate()[0].strip() for process in together] == ["['a.jar', 'b.jar']"] * 4
    assert calls.read_text().split() == ["start"]
    assert [path.name for path in cache.iterdir() if path.is_dir()] == [next(cache.glob("*/a.jar")).parent.name]


def test_killed_process_leaves_no_lock_and_no_partial_jars(cache: Path, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    killed = resolving(calls, 30)
    wait_for(calls.exists)
    waiting = resolving(calls, 0)
    killed.send_signal(signal.SIGKILL)
    assert waiting.communicate(timeout=60)[0].strip() == "['a.jar', 'b.jar']"
    assert calls.read_text().split() == ["start", "start"]
    assert not list(cache.glob(".partial-*"))
    killed.communicate()


def test_cached_jars_need_no_resolver(cache: Path, fetched: list[dict[str, str]]) -> None:
    first = jars.with_jars({})
    assert jars.with_jars({}) == first
    assert [name["spark.jars.packages"] for name in fetched] == [jars.delta_package()]
    assert Path(first["spark.jars"]).parent.parent == cache


@pytest.mark.parametrize(
    ("settings", "packages"),
    [
        ({}, [DELTA]),
        ({"spark.jars.packages": "org.x:y:1"}, [f"{DELTA},org.x:y:1"]),
        ({"spark.jars.packages": "io.delta:delta-spark_4.2_2.13:4.3.0"}, ["io.delta:delta-spark_4.2_2.13:4.3.0"]),
        ({"spark.jars": "/jars/io.delta_delta-spark_4.2_2.13-4.4.0.jar"}, []),
        ({"spark.jars": "/jars/other.jar"}, [DELTA]),
    ],
)
@pytest.mark.usefixtures("cache")
def test_delta_is_resolved_unless_settings_include_it(
    settings: dict[str, str], packages: list[str], fetched: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jars, "delta_package", lambda: DELTA)
    found = jars.with_jars(settings)
    assert [resolver["spark.jars.packages"] for resolver in fetched] == packages
    assert "spark.jars.packages" not in found
    given = [settings["spark.jars"]] if "spark.jars" in settings else []
    assert found["spark.jars"].split(",")[: len(given)] == given
    assert len(found["spark.jars"].split(",")) == len(given) + len(packages)


@pytest.mark.usefixtures("cache")
def test_delta_among_sparks_own_jars_is_used(
    fetched: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / "delta-spark_4.2_2.13-4.4.0.jar").touch()
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    assert jars.with_jars({"spark.ui.enabled": "false"}) == {"spark.ui.enabled": "false"}
    assert fetched == []


@pytest.mark.usefixtures("cache")
def test_jvm_options_do_not_change_the_cache_key(fetched: list[dict[str, str]]) -> None:
    first = jars.with_jars({})
    second = jars.with_jars({"spark.driver.extraJavaOptions": "-Xss4m"})
    assert second["spark.jars"] == first["spark.jars"]
    assert len(fetched) == 1


def test_resolver_settings_change_the_cache_key(cache: Path, fetched: list[dict[str, str]]) -> None:
    jars.with_jars({})
    mirrored = jars.with_jars({"spark.jars.repositories": "https://mirror", "spark.executor.memory": "1g"})
    assert fetched[1] == {"spark.jars.packages": jars.delta_package(), "spark.jars.repositories": "https://mirror"}
    assert mirrored["spark.executor.memory"] == "1g"
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 2


@pytest.mark.parametrize(
    ("stderr", "sentence"),
    [
        ("JAVA_HOME is not set\nTraceback\n", r"cannot start \(JAVA_HOME is not set\); it needs Java 17 or 21"),
        (
            ":: problems summary ::\n\tSERVER ERROR: Bad Gateway\n\t\t[FAILED] x\n\n\t\tdownload failed: a#b;1!b.jar\n",
            r"x:y:1 cannot be fetched \(download failed: a#b;1!b\.jar\); the first start needs the network",
        ),
        ("\n", r"x:y:1 cannot be fetched \(the resolver gave no reason\)"),
    ],
)
@pytest.mark.usefixtures("cache")
def test_resolver_failure_is_one_sentence_with_its_cause(
    stderr: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = subprocess.CompletedProcess([], 1, "", stderr)
    monkeypatch.setattr(jars.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(EngineError, match=sentence):
        jars.resolve({"spark.jars.packages": "x:y:1"})


@pytest.mark.usefixtures("cache")
def test_failed_resolution_is_not_cached(monkeypatch: pytest.MonkeyPatch, fetched: list[dict[str, str]]) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(jars, "_fetch", lambda _: (_ for _ in ()).throw(EngineError("no network")))
        with pytest.raises(EngineError, match="no network"):
            jars.with_jars({})
    assert jars.with_jars({})["spark.jars"].endswith("delta.jar")
    assert len(fetched) == 1


def test_unwritable_cache_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(EngineError, match=r"jar cache .*file/faceattr_udf/jars cannot be used .* set XDG_CACHE_HOME"):
        jars.with_jars({})


@pytest.mark.slow
@pytest.mark.spark
@pytest.mark.xdist_group("cluster")
def test_three_jobs_started_on_an_empty_cache_succeed(cache: Path, tmp_path: Path) -> None:
    """As cron starts them on a new machine. The cache is filled from the network."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"a picture")
    settings = [f"engine.settings.{key}={value}" for key, value in SPARK_SETTINGS.items()]
    settings += ["engine.name=spark", "engine.master=local[1]"]
    chosen = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "jobs.ingest", "--input", str(tmp_path / "photos"), *chosen]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_"))}
    jobs = [
        subprocess.Popen(  # noqa: S603 - our own interpreter and job
            [*command, "--images", str(tmp_path / f"images_{number}")],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(3)
    ]
    printed = [job.communicate()[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0, 0], "\n".join(printed)
    assert all("1 new" in text for text in printed)
    (resolved,) = (path for path in cache.iterdir() if path.is_dir())
    assert any(jar.name.startswith("io.delta_delta-spark") for jar in resolved.iterdir())
