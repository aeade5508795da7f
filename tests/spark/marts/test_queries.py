"""Ready queries: each gives on every engine what the documentation prints."""

from pathlib import Path

import pytest
from conftest import Engine
from marts_data import night, read, shipped_calibration, write
from write_results import RESULTS, printed

from faceattr_udf.spark.marts.build import build_marts
from faceattr_udf.spark.marts.layout import MARTS
from faceattr_udf.spark.marts.queries import queries, register_views


@pytest.mark.on_spark
def test_queries_give_the_printed_results(engine: Engine, tmp_path: Path) -> None:
    assert register_views(engine.session, str(tmp_path), engine.config()) == []
    write(engine, tmp_path, night())
    build_marts(engine.session, engine.config(), str(tmp_path), shipped_calibration())
    assert register_views(engine.session, str(tmp_path), engine.config()) == ["faces", "image_results", *MARTS]
    texts = queries()
    assert {path.stem for path in RESULTS.glob("*.txt")} == texts.keys()
    for name, sql in texts.items():
        assert printed(engine.session, sql) == (RESULTS / f"{name}.txt").read_text(encoding="utf-8"), name
    # The query over sums gives what the mart holds for the same faces.
    corrected = {row["label"]: row for row in engine.session.sql(texts["corrected_share"]).collect()}
    key = ("shoes", "week", "2026-03-02", "ethnicity")
    shares = [
        row
        for row in read(engine, tmp_path, "shares")
        if (row["catalog"], row["period"], row["period_start"], row["attribute"]) == key
    ]
    assert len(shares) == len(corrected) == 6
    for row in shares:
        found = corrected[row["label"]]
        assert float(found["low"]) == pytest.approx(100 * row["low"], abs=0.051)
        assert float(found["high"]) == pytest.approx(100 * row["high"], abs=0.051)
