"""The embedded engine reads large images a few at a time."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Engine
from fakes import content, provider

from faceattr_udf.config import Config, EnrichConfig
from faceattr_udf.spark.enrichment import enrich
from faceattr_udf.spark.enrichment.scan_sizes import mean_content_bytes, rows_per_scan


@pytest.mark.parametrize(("content_bytes", "rows"), [(0, None), (40, None), (41, 2), (50, 2), (100, 1), (1_000_000, 1)])
def test_rows_follow_the_size_of_images(content_bytes: int, rows: int | None) -> None:
    assert rows_per_scan(content_bytes, EnrichConfig(max_batch_rows=10, max_batch_bytes=100)) == rows


def test_mean_size_is_that_of_the_largest_row_group(tmp_path: Path) -> None:
    table = pa.table({"image_id": ["a", "b", "c", "d"], "content": [b"x", b"y", b"z" * 5000, b"w" * 5000]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2, use_dictionary=False)
    (tmp_path / "_delta_log").mkdir()
    (tmp_path / "_delta_log" / "damaged.parquet").write_bytes(b"PAR1")
    (tmp_path / "notes.txt").write_text("no table")
    assert mean_content_bytes(str(tmp_path), "content") == pytest.approx(5000, abs=50)
    assert mean_content_bytes(str(tmp_path / "a.parquet"), "content") == pytest.approx(5000, abs=50)
    assert mean_content_bytes(str(tmp_path), "absent") == 0
    assert mean_content_bytes(str(tmp_path / "none"), "content") == 0


def test_mean_size_of_a_field_in_a_struct(tmp_path: Path) -> None:
    images = pa.array([{"bytes": b"x" * 3000, "path": "p"}])
    pq.write_table(pa.table({"image": images}), tmp_path / "a.parquet", use_dictionary=False, write_statistics=False)
    assert mean_content_bytes(str(tmp_path), "image.bytes") == pytest.approx(3000, abs=200)


def test_large_images_get_the_same_results(sail_engine: Engine, tmp_path: Path) -> None:
    """Seven images, of which two have equal content and one has no id, in scans of two images."""
    ids = ["a", "b", "c", "d", "e", "f", None]
    contents = [content(k % 3, f"{k}" * 400) for k in (0, 1, 2, 1, 4, 5, 6)]
    (tmp_path / "images").mkdir()
    pq.write_table(
        pa.table({"image_id": ids, "content": contents}), tmp_path / "images" / "a.parquet", use_dictionary=False
    )
    rows = {}
    for name, bytes_ in (("large", 2**20), ("small", 1000)):
        config = Config.load(None, [f"enrich.max_batch_bytes={bytes_}"])
        output = str(tmp_path / name)
        run = enrich(
            sail_engine.session,
            config,
            str(tmp_path / "images"),
            output,
            provider=provider(tmp_path / f"seen-{name}"),
        )
        faces = sail_engine.read(f"{output}/faces").select("image_id", "face_index", "age").collect()
        rows[name] = (run.counts, run.n_inferred, sorted(map(tuple, faces)))
    assert rows["small"] == rows["large"]
    assert rows["small"][1] == 6
