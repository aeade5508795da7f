"""The UDF, called as Spark calls it: batches in, batches out, without an engine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest

from faceattr_udf.config import Config
from faceattr_udf.results import ImageResult, ImageStatus
from faceattr_udf.spark.udf import AnalyzeBatches, AnalyzerPool, AnalyzerProvider, analyzer_pool


@dataclass
class Recorder:
    """An analyzer that remembers what it was given."""

    calls: list[list[bytes | None]] = field(default_factory=list)

    def analyze(self, contents: Sequence[bytes | None]) -> list[ImageResult]:
        self.calls.append(list(contents))
        return [ImageResult(ImageStatus.MISSING if c is None else ImageStatus.NO_FACE) for c in contents]


@dataclass
class Loader:
    analyzer: Recorder = field(default_factory=Recorder)
    threads: list[int] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)

    def load(self, config: Config, threads: int, device: str) -> Recorder:  # noqa: ARG002
        self.threads.append(threads)
        self.devices.append(device)
        return self.analyzer

    @property
    def provider(self) -> AnalyzerProvider:
        return AnalyzerProvider(self.load, lambda _: "recorder-1")


@pytest.fixture
def loader() -> Loader:
    return Loader()


def run(loader: Loader, batches: Sequence[pa.RecordBatch], *overrides: str, **options: Any) -> list[dict[str, Any]]:
    config = Config.load(None, overrides)
    options = {"keep": ("image_id",), "content": "content", **options}
    analyze = AnalyzeBatches(config_json=config.model_dump_json(), provider=loader.provider, **options)
    return [row for batch in analyze(iter(batches)) for row in batch.to_pylist()]


def images(*contents: bytes | str | None, type_: pa.DataType | None = None, **columns: list[Any]) -> pa.RecordBatch:
    ids = pa.array([str(index) for index in range(len(contents))])
    content = pa.array(contents, type=type_ or pa.binary())
    return pa.RecordBatch.from_pydict({"image_id": ids, "content": content, **columns})


def test_no_batches_load_nothing(loader: Loader) -> None:
    assert run(loader, []) == []
    assert loader.threads == []


def test_empty_batch_gives_no_rows_and_loads_nothing(loader: Loader) -> None:
    assert run(loader, [images()]) == []
    assert loader.threads == []


def test_null_content_gives_a_row(loader: Loader) -> None:
    (row,) = run(loader, [images(None)])
    assert (row["image_id"], row["status"], row["n_faces"], row["faces"]) == ("0", "missing", 0, [])
    assert loader.analyzer.calls == [[None]]


def test_content_is_not_in_the_output(loader: Loader) -> None:
    (row,) = run(loader, [images(b"x")])
    assert set(row) == {"image_id", "status", "error", "width", "height", "n_faces", "faces"}


@pytest.mark.parametrize("type_", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_binary_types_of_all_engines_are_read(loader: Loader, type_: pa.DataType) -> None:
    assert len(run(loader, [images(b"x", None, b"yy", type_=type_)])) == 3
    assert loader.analyzer.calls == [[b"x", None, b"yy"]]


def test_batches_are_bounded_by_rows_and_by_bytes(loader: Loader) -> None:
    contents = [b"1" * 10, b"2" * 10, b"3" * 25, None, b"4", b"5", b"6"]
    rows = run(loader, [images(*contents)], "enrich.max_batch_bytes=20", "enrich.max_batch_rows=3")
    assert [row["image_id"] for row in rows] == list("0123456")
    # The third is larger than the bound, so it is alone in its batch.
    assert [[len(c or b"") for c in call] for call in loader.analyzer.calls] == [[10, 10], [25], [0, 1, 1], [1]]


def test_analyzer_is_loaded_once_per_process(loader: Loader) -> None:
    for _ in range(3):
        run(loader, [images(b"a"), images(b"b", b"c")])
    assert loader.threads == [1]
    assert len(loader.analyzer.calls) == 6


def test_configured_threads_reach_the_analyzer(loader: Loader) -> None:
    run(loader, [images(b"a")], "runtime.threads=3")
    assert loader.threads == [3]


def test_threads_default_to_the_task_s_cores(loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    class Context:
        def cpus(self) -> int:
            return 4

        def resources(self) -> dict[str, Any]:
            return {}

    monkeypatch.setattr("pyspark.TaskContext.get", Context)
    run(loader, [images(b"a")])
    assert loader.threads == [4]


@pytest.mark.parametrize("consents", [[True, False, None]])
def test_images_without_consent_are_not_analyzed(loader: Loader, consents: list[bool | None]) -> None:
    batch = images(b"a", b"b", b"c", consent=consents)
    rows = run(loader, [batch], consent="consent")
    assert [row["status"] for row in rows] == ["no_face", "not_consented", "not_consented"]
    assert [row["error"] for row in rows] == [None, "no consent", "no consent"]
    assert loader.analyzer.calls == [[b"a"]]


def test_first_row_of_each_key_is_kept_across_batches(loader: Loader) -> None:
    first = pa.RecordBatch.from_pydict({"image_id": ["a", "a", "b"], "content": [b"1", b"2", b"3"]})
    second = pa.RecordBatch.from_pydict({"image_id": ["b", "c"], "content": [b"4", b"5"]})
    assert [row["image_id"] for row in run(loader, [first, second], unique="image_id")] == ["a", "b", "c"]
    assert loader.analyzer.calls == [[b"1", b"3"], [b"5"]]


def test_pass_through_columns_keep_their_types(loader: Loader) -> None:
    batch = images(b"a", b"b", number=pa.array([1, None], pa.int32()), when=pa.array([0, 1], pa.timestamp("us", "UTC")))
    config = Config().model_dump_json()
    analyze = AnalyzeBatches(config, loader.provider, ("number", "when"), "content")
    (result,) = analyze(iter([batch]))
    assert result.schema.field("number").type == pa.int32()
    assert result.schema.field("when").type == pa.timestamp("us", "UTC")
    assert result.column("number").to_pylist() == [1, None]


def test_analyzer_is_discarded_after_a_failure() -> None:
    made: Iterator[Recorder] = (Recorder() for _ in range(5))
    analyzers = AnalyzerPool(lambda: next(made), 1)
    with analyzers.borrow() as first:
        pass
    with analyzers.borrow() as again:
        assert again is first
    with pytest.raises(RuntimeError), analyzers.borrow():
        raise RuntimeError
    with analyzers.borrow() as other:
        assert other is not first


def test_each_config_has_its_own_pool(loader: Loader) -> None:
    provider = AnalyzerProvider(loader.load, lambda _: "")
    one, two = Config(), Config.load(None, ["detector.min_face_size=40"])
    assert analyzer_pool(one, provider, 1) is analyzer_pool(one, provider, 1)
    assert analyzer_pool(one, provider, 1) is not analyzer_pool(two, provider, 1)


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string()])
def test_base64_text_is_decoded_and_urls_are_told(loader: Loader, type_: pa.DataType) -> None:
    batch = images("YWJj", None, "https://host/a.jpg", "not base64!", "data:image/png;base64,ZGVm", type_=type_)
    rows = run(loader, [batch], "input.content_encoding=base64")
    assert [row["status"] for row in rows] == ["no_face", "missing", "unsupported", "corrupt", "no_face"]
    assert loader.analyzer.calls == [[b"abc", None, b"def"]]
    assert rows[2]["error"].startswith("the content is a URL")


def test_text_needs_no_decoding_without_consent(loader: Loader) -> None:
    batch = images("https://host/a.jpg", "YWJj", type_=pa.string(), consent=[False, True])
    rows = run(loader, [batch], "input.content_encoding=base64", consent="consent")
    assert [row["status"] for row in rows] == ["not_consented", "no_face"]
