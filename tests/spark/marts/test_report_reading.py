"""The report of real marts: its numbers are theirs, it holds no ids, and wrong arguments end in one sentence."""

import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import Engine
from marts_data import MODEL, night, read, shipped_calibration, write
from own_policy import OWN

from faceattr_udf.report import words
from faceattr_udf.spark.drift.table import DRIFT
from faceattr_udf.spark.marts.build import build_marts
from faceattr_udf.spark.report import read_inputs
from faceattr_udf.spark.schemas import RUNS
from jobs import report

NOW = datetime(2026, 3, 10, tzinfo=UTC)


def add(engine: Engine, location: Path, schema: Any, *rows: dict[str, Any]) -> None:
    values = [tuple(row.get(name) for name in schema.fieldNames()) for row in rows]
    engine.session.createDataFrame(values, schema).write.format("delta").save(str(location))


@pytest.fixture
def lake(sail_engine: Engine, tmp_path: Path) -> Path:
    """An output folder whose marts have two catalogs, with two runs, one of them going on, and a judged night."""
    rows = night(100)
    for face in rows.faces:
        face["catalog"] = "<i>\u0645</i>" if face["catalog"] == "hats" else face["catalog"]
    write(sail_engine, tmp_path, rows)
    build_marts(sail_engine.session, sail_engine.config(), str(tmp_path), shipped_calibration())
    of = {"model_version": MODEL, "config_id": "c", "purpose": "research"}
    done = {"state": "completed", "finished_at": datetime(2026, 3, 9, 2, tzinfo=UTC), "images_per_second": 12.5}
    first = {"run_id": "run-1", "started_at": datetime(2026, 3, 9, 1, tzinfo=UTC), "n_images": 102, "n_faces": 300}
    going = {"run_id": "run-2", "started_at": datetime(2026, 3, 10, 1, tzinfo=UTC), "state": "running"}
    add(sail_engine, tmp_path / "runs", RUNS, of | first | done, of | going)
    own = {"run_id": "run-1", "started_at": first["started_at"], "alarm": False, "accepted": False, "label": ""}
    add(sail_engine, tmp_path / "drift", DRIFT, of | own | {"metric": "night", "value": 300.0, "n": 102})
    return tmp_path


def test_page_has_the_numbers_of_the_marts_and_no_ids(
    sail_engine: Engine, lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = lake / "page.html"
    assert report.main(["--output", str(lake), "--html", str(file)]) == 0
    html = file.read_text(encoding="utf-8").replace(words.SPACE, " ")
    assert [part for part in ("missing", "run-1", "<i>") if part in html] == []
    assert re.findall(r"[0-9]{3}\.jpg", html) == []
    assert html.count("&lt;i&gt;\u0645&lt;/i&gt;")
    shares = [row for row in read(sail_engine, lake, "shares") if (row["period"], row["catalog"]) == ("all", "all")]
    assert len(shares) == 23
    for row in shares:
        name = re.escape(words.label(row["label"]))
        counted, corrected = f"{100 * row['raw_share']:.1f} %", f"{100 * row['share']:.1f} %"
        assert re.search(rf">{name}</th><td>\d+</td><td>{counted}</td><td>{corrected}</td>", html), row["label"]
    for arguments in (["--catalog", "shoes"], ["--month", "2026-02"]):
        assert report.main(["--output", str(lake), "--html", str(file), *arguments]) == 0
        part = file.read_text(encoding="utf-8")
        assert part.count(f">{arguments[1]}<")
        assert part.count("Catalogs</h3>") == (arguments[0] == "--month")
    (lake / "own.toml").write_text(OWN)
    policy = ["--set", f"privacy.policy_file={lake / 'own.toml'}", "--set", 'privacy.jurisdictions=["XX"]']
    assert report.main(["--output", str(lake), "--html", str(file), *policy]) == 0
    restricted = file.read_text(encoding="utf-8").lower()
    assert [word for word in ("emotion", "expression", "surprise", "gender") if word in restricted] == ["gender"]
    capsys.readouterr()
    before = file.read_text(encoding="utf-8")
    for arguments, sentence in (
        (["--catalog", "boots"], "the marts have no faces of the catalog 'boots'; they have '"),
        (["--month", "2026-2"], "the marts have no faces in the month '2026-2'; write it as YYYY-MM"),
    ):
        assert report.main(["--output", str(lake), "--html", str(file), *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"report: {sentence}")
    assert len(file.read_text(encoding="utf-8")) == len(before)


@pytest.mark.on_spark(slow=True)
def test_reading_tells_undated_and_future_days_and_missing_tables(
    engine: Engine, sail_engine: Engine, tmp_path: Path
) -> None:
    rows = night(20)
    rows.faces[0]["captured_at"] = None
    rows.faces[-1]["captured_at"] = datetime(2031, 1, 1, tzinfo=UTC)
    # Written by the fast engine, read by each.
    write(sail_engine, tmp_path, rows)
    build_marts(sail_engine.session, sail_engine.config(), str(tmp_path), shipped_calibration())
    inputs = read_inputs(engine.session, engine.config(), str(tmp_path), now=NOW)
    assert inputs.days == [
        {"model_version": MODEL, "first": "2026-02-27", "last": "2031-01-01", "n_undated": 1, "n_future": 1}
    ]
    assert inputs.missing == ["runs", "drift"]
    assert inputs.runs is inputs.drift is None
    assert inputs.n_catalogs == 2
    assert sum(row["n_faces"] for row in inputs.catalogs or ()) == len(rows.faces)


def test_folder_without_tables_is_refused(
    sail_engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sail_engine.name == "sail"
    assert report.main(["--output", str(tmp_path), "--html", str(tmp_path / "page.html")]) == 2
    assert "there are no tables in" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


def test_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("faceattr_udf.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "altair", None)
    assert report.main(["--output", str(tmp_path), "--html", str(tmp_path / "page.html")]) == 2
    assert "the package altair is not installed; run pip install 'faceattr_udf[report]'" in capsys.readouterr().err
