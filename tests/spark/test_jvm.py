"""The memory that a local Spark session's heap is a part of."""

from pathlib import Path

import pytest

from faceattr_udf.spark import jvm


def test_a_container_may_have_less_memory_than_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(jvm, "_LIMITS", (limit, tmp_path / "absent"))
    whole = jvm.machine_memory()
    assert whole > 2**28
    limit.write_text("max\n", encoding="ascii")
    assert jvm.machine_memory() == whole
    limit.write_text(f"{2**28}\n", encoding="ascii")
    assert jvm.machine_memory() == 2**28


def test_memory_is_unknown_where_nothing_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jvm, "_LIMITS", ())
    monkeypatch.delattr("os.sysconf")
    assert jvm.machine_memory() == 0
    assert jvm.jvm_settings("local", 1, 0)["spark.driver.memory"] == "1024m"
