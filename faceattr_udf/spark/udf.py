"""The mapInArrow function that runs in Spark's Python workers: batches of image bytes in, batches of results out.

Arrow rather than pandas, because pandas would change pass-through columns: integers with nulls would become floats.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pyarrow as pa

from faceattr_udf.config import Config
from faceattr_udf.errors import ImageError
from faceattr_udf.images.content_text import decode_text
from faceattr_udf.inference.base import CPU
from faceattr_udf.isolation import Analyzer, IsolatedAnalyzer
from faceattr_udf.results import NO_CONSENT, ImageResult, ImageStatus
from faceattr_udf.spark.devices import task_device
from faceattr_udf.spark.schemas import FaceColumn, arrow_type, face_columns, result_struct

BatchFunction = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class AnalyzerProvider:
    """Loads the analyzer in the workers and names its weights on the driver; pass another one to use other models.

    Attributes:
        load: Returns an analyzer for a configuration, a number of threads and a device. It runs in the workers, so it
            must be picklable.
        model_version: Returns the version of the weights for a configuration. It runs on the driver and must not load
            a network.
    """

    load: Callable[[Config, int, str], Analyzer]
    model_version: Callable[[Config], str]


def load_analyzer(config: Config, threads: int, device: str) -> Analyzer:
    """Loads `FaceAnalyzer` into this process."""
    from faceattr_udf.analyzer import FaceAnalyzer  # noqa: PLC0415  # loads native libraries, which only workers need

    return FaceAnalyzer.from_config(config, threads, device)


def _load(config: Config, threads: int, device: str) -> Analyzer:
    if not config.runtime.isolated:
        return load_analyzer(config, threads, device)
    # The device is resolved here, because the child process has no task context.
    return IsolatedAnalyzer(partial(load_analyzer, config, threads, device), config.runtime.batch_seconds)


def _model_version(config: Config) -> str:
    from faceattr_udf.analyzer import model_version  # noqa: PLC0415  # as above

    return model_version(config)


DEFAULT_PROVIDER = AnalyzerProvider(load=_load, model_version=_model_version)
"""Loads `FaceAnalyzer`, in a child process where `runtime.isolated` says so."""


class AnalyzerPool:
    """The analyzers of one configuration in one process: loaded on first use, each used by one thread at a time.

    A Spark worker process has one thread and needs one analyzer. The embedded engine runs its tasks as threads of one
    process; `size` bounds how many analyzers they hold in memory. Isolated analyzers run in child processes, so those
    threads do not compete for one interpreter lock.

    Args:
        load: Loads an analyzer.
        size: The largest number of analyzers; further threads wait.
    """

    def __init__(self, load: Callable[[], Analyzer], size: int) -> None:
        self._load = load
        self._free: list[Analyzer] = []
        self._lock = threading.Lock()
        self._slots = threading.Semaphore(size)

    @contextmanager
    def borrow(self) -> Iterator[Analyzer]:
        """Gives the calling thread an analyzer for the duration of the context."""
        with self._slots:
            with self._lock:
                analyzer = self._free.pop() if self._free else None
            if analyzer is None:
                analyzer = self._load()
            yield analyzer
            # Not returned when the caller failed, because its state is then unknown.
            with self._lock:
                self._free.append(analyzer)


_MAX_ANALYZERS_PER_GPU: Final = 4
"""Bound for the embedded engine, whose tasks share a GPU: each analyzer takes hundreds of megabytes of its memory."""

# Process-wide, so that all tasks of a worker process share their analyzers: configuration -> device and pool.
_POOLS: dict[tuple[Any, ...], tuple[str, AnalyzerPool]] = {}
_POOLS_LOCK = threading.Lock()


def analyzer_pool(config: Config, provider: AnalyzerProvider, threads: int = 0) -> AnalyzerPool:
    """Returns this process's analyzer pool for a configuration.

    Args:
        config: The configuration.
        provider: Loads the analyzers.
        threads: Threads of each analyzer. 0 means the cores of a Spark task, or 1 outside of tasks.

    Raises:
        EngineError: The task's GPU is hidden from this process.
    """
    threads = threads or config.runtime.threads or _task_cores()
    device = task_device(config.runtime.device)
    size = os.cpu_count() or 1
    if device != CPU:
        size = min(size, _MAX_ANALYZERS_PER_GPU)
    key = (config.model_dump_json(), provider.load, threads)
    with _POOLS_LOCK:
        known = _POOLS.get(key)
        # On an executor with several GPUs the next task may get another one. Replacing the pool frees the previous GPU;
        # otherwise every worker would end up holding memory on every GPU.
        if known is None or known[0] != device:
            _POOLS[key] = known = (device, AnalyzerPool(lambda: provider.load(config, threads, device), size))
        return known[1]


def _task_cores() -> int:
    from pyspark import TaskContext  # noqa: PLC0415

    context = TaskContext.get()
    return context.cpus() if context is not None else 1


@dataclass(frozen=True)
class AnalyzeBatches:
    """The mapInArrow function; returns the columns of `keep` unchanged, followed by those of `result_struct`.

    Attributes:
        config_json: The configuration as JSON; unpickling it does not need pydantic.
        provider: Loads the analyzers.
        keep: The pass-through columns.
        content: The column of images, encoded as `input.content_encoding` says; it is not passed through.
        consent: A boolean column; the content is ignored unless it is true. None means that everyone consents.
        unique: A column; only the first row of each of its values in a partition is kept. None keeps all rows.
    """

    config_json: str
    provider: AnalyzerProvider
    keep: tuple[str, ...]
    content: str
    consent: str | None = None
    unique: str | None = None

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Analyzes the batches of one partition; `enrich.max_batch_*` bound its memory."""
        config = Config.model_validate_json(self.config_json)
        analyzers = analyzer_pool(config, self.provider)
        faces = face_columns(config.output)
        fields = [pa.field(field.name, arrow_type(field.dataType)) for field in result_struct(config.output)]
        seen: set[Any] = set()
        for whole in batches:
            for batch in self._slices(self._first_of_each(whole, seen), config):
                contents = self._contents(batch, config)
                with analyzers.borrow() as analyzer:
                    images = [content for content in contents if not isinstance(content, ImageResult)]
                    results = iter(analyzer.analyze(images))
                described = [c if isinstance(c, ImageResult) else next(results) for c in contents]
                rows = [_row(result, faces) for result in described]
                columns = [batch.column(name) for name in self.keep]
                columns += [pa.array([row[field.name] for row in rows], type=field.type) for field in fields]
                yield pa.RecordBatch.from_arrays(columns, [*self.keep, *(field.name for field in fields)])

    def _first_of_each(self, batch: pa.RecordBatch, seen: set[Any]) -> pa.RecordBatch:
        if self.unique is None:
            return batch
        rows = []
        for row, value in enumerate(batch.column(self.unique).to_pylist()):
            if value not in seen:
                seen.add(value)
                rows.append(row)
        return batch.take(pa.array(rows, type=pa.int64()))

    def _slices(self, batch: pa.RecordBatch, config: Config) -> Iterator[pa.RecordBatch]:
        # The embedded engine may pass a whole file as one batch. Reading sizes copies no bytes.
        first, buffered_bytes = 0, 0
        contents = batch.column(self.content)
        for row in range(batch.num_rows):
            size = contents[row].as_buffer().size if contents[row].is_valid else 0
            full = row - first >= config.enrich.max_batch_rows or buffered_bytes + size > config.enrich.max_batch_bytes
            if full and row > first:
                yield batch.slice(first, row - first)
                first, buffered_bytes = row, 0
            buffered_bytes += size
        if batch.num_rows > first:
            yield batch.slice(first)

    def _contents(self, batch: pa.RecordBatch, config: Config) -> list[bytes | ImageResult | None]:
        """Returns the bytes of every image, or the result of those that are not analyzed."""
        consents = batch.column(self.consent).to_pylist() if self.consent else [True] * batch.num_rows
        contents = batch.column(self.content)
        read = _decoded_text if config.input.content_encoding == "base64" else _as_bytes
        refused = ImageResult(ImageStatus.NOT_CONSENTED, NO_CONSENT)
        return [read(contents[row]) if consent is True else refused for row, consent in enumerate(consents)]


def _as_bytes(content: Any) -> bytes | None:  # noqa: ANN401 - a scalar of any type of bytes
    value: bytes | None = content.as_py()
    return value


def _decoded_text(text: Any) -> bytes | ImageResult | None:  # noqa: ANN401 - a scalar of any type of text
    try:
        return decode_text(text.as_py()) if text.is_valid else None
    except ImageError as error:
        return ImageResult(ImageStatus(error.status), str(error))


def _row(result: ImageResult, faces: Sequence[FaceColumn]) -> dict[str, Any]:
    return {
        "status": str(result.status),
        "error": result.error,
        "width": result.width,
        "height": result.height,
        "n_faces": result.n_faces,
        "faces": [{column.name: column.value(face) for column in faces} for face in result.faces],
    }
