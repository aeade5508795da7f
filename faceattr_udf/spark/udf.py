"""The function that Spark ships to its Python workers: Arrow batches of image bytes in, results out.

It is mapInArrow and not pandas so that the columns passed through stay as they are: an integer column with nulls
remains integers, and a timestamp keeps its zone.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pyarrow as pa

from faceattr_udf.attributes.labels import CLASSES
from faceattr_udf.config import Config
from faceattr_udf.inference.base import CPU
from faceattr_udf.isolation import Analyzer, IsolatedAnalyzer
from faceattr_udf.results import NO_CONSENT, Face, ImageResult, ImageStatus
from faceattr_udf.spark.devices import task_device
from faceattr_udf.spark.schemas import arrow_type, result_struct

BatchFunction = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class AnalyzerProvider:
    """How workers get an analyzer and the driver its name; replaceable, e.g. by other models.

    Attributes:
        load: (configuration, threads, device) -> analyzer; called in the workers, so it must pickle.
        model_version: configuration -> the name of the weights; called on the driver and loads no network.
    """

    load: Callable[[Config, int, str], Analyzer]
    model_version: Callable[[Config], str]


def load_analyzer(config: Config, threads: int, device: str) -> Analyzer:
    """Loads the product's own analyzer into this process."""
    from faceattr_udf.analyzer import FaceAnalyzer  # noqa: PLC0415  # native libraries, where images are analysed only

    return FaceAnalyzer.from_config(config, threads, device)


def _load(config: Config, threads: int, device: str) -> Analyzer:
    if not config.runtime.isolated:
        return load_analyzer(config, threads, device)
    # A child is in no task: the device was found out here.
    return IsolatedAnalyzer(partial(load_analyzer, config, threads, device), config.runtime.batch_seconds)


def _model_version(config: Config) -> str:
    from faceattr_udf.analyzer import model_version  # noqa: PLC0415  # likewise

    return model_version(config)


DEFAULT_PROVIDER = AnalyzerProvider(load=_load, model_version=_model_version)
"""The product's own analyzer."""


class AnalyzerPool:
    """Analyzers of one configuration in one process, each used by one thread at a time and loaded when first needed.

    A Spark worker is a process with one thread and gets one analyzer. The embedded engine runs its tasks as threads of
    one process; they take turns so that no more analyzers are in memory than the machine has cores. An isolated
    analyzer works in a child process, so that those threads do not wait for each other's Python.
    """

    def __init__(self, load: Callable[[], Analyzer], size: int) -> None:
        self._load = load
        self._free: list[Analyzer] = []
        self._lock = threading.Lock()
        self._slots = threading.Semaphore(size)

    @contextmanager
    def borrow(self) -> Iterator[Analyzer]:
        """Lends an analyzer to the calling thread."""
        with self._slots:
            with self._lock:
                analyzer = self._free.pop() if self._free else None
            if analyzer is None:
                analyzer = self._load()
            yield analyzer
            # Not returned when the caller failed: its state is then unknown.
            with self._lock:
                self._free.append(analyzer)


_SHARE_GPU: Final = 4
"""Analyzers of the embedded engine on one GPU, of whose memory each takes hundreds of megabytes for being there."""

_POOLS: dict[tuple[Any, ...], tuple[str, AnalyzerPool]] = {}
_POOLS_LOCK = threading.Lock()


def pool(config: Config, provider: AnalyzerProvider, threads: int = 0) -> AnalyzerPool:
    """Returns this process's pool of a configuration.

    Args:
        config: The configuration.
        provider: Where analyzers come from.
        threads: Threads of each analyzer; 0 means as many cores as Spark gives a task, or 1 where it does not say.

    Raises:
        EngineError: The task's GPU is hidden from this process.
    """
    threads = threads or config.runtime.threads or _task_cores()
    device = task_device(config.runtime.device)
    size = os.cpu_count() or 1
    if device != CPU:
        size = min(size, _SHARE_GPU)
    key = (config.model_dump_json(), provider.load, threads)
    with _POOLS_LOCK:
        known = _POOLS.get(key)
        # An executor with several GPUs may give a worker's next task another one. What is loaded on the last one goes:
        # else every worker would at last hold every GPU.
        if known is None or known[0] != device:
            _POOLS[key] = known = (device, AnalyzerPool(lambda: provider.load(config, threads, device), size))
        return known[1]


def _task_cores() -> int:
    from pyspark import TaskContext  # noqa: PLC0415

    context = TaskContext.get()
    return context.cpus() if context is not None else 1


@dataclass(frozen=True)
class AnalyzeBatches:
    """The mapInArrow function: the columns of `keep` unchanged, and those of `result_struct`.

    Attributes:
        config_json: The configuration, as JSON because pydantic's models need not be importable to unpickle.
        provider: Where analyzers come from.
        keep: Columns that are passed through.
        content: The column of image bytes; it is not passed through.
        consent: A boolean column; where it is not true the content is not looked at. None: everyone consents.
        unique: A column of which only the first row of every value counts. None: all rows count.
    """

    config_json: str
    provider: AnalyzerProvider
    keep: tuple[str, ...]
    content: str
    consent: str | None = None
    unique: str | None = None

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Analyses the batches of one partition; memory is bounded by `enrich.max_batch_*`."""
        config = Config.model_validate_json(self.config_json)
        analyzers = pool(config, self.provider)
        fields = [pa.field(field.name, arrow_type(field.dataType)) for field in result_struct(config.output)]
        seen: set[Any] = set()
        for whole in batches:
            for batch in self._slices(self._first_of_each(whole, seen), config):
                contents = self._contents(batch)
                with analyzers.borrow() as analyzer:
                    results = analyzer.analyze([content for content, asked in contents if asked])
                answers = iter(results)
                refused = ImageResult(ImageStatus.NOT_CONSENTED, NO_CONSENT)
                rows = [_row(next(answers) if asked else refused, config) for _, asked in contents]
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
        # A batch may be a whole file: the bytes are counted without copying them, then copied slice by slice.
        first, held = 0, 0
        contents = batch.column(self.content)
        for row in range(batch.num_rows):
            size = contents[row].as_buffer().size if contents[row].is_valid else 0
            full = row - first >= config.enrich.max_batch_rows or held + size > config.enrich.max_batch_bytes
            if full and row > first:
                yield batch.slice(first, row - first)
                first, held = row, 0
            held += size
        if batch.num_rows > first:
            yield batch.slice(first)

    def _contents(self, batch: pa.RecordBatch) -> list[tuple[bytes | None, bool]]:
        consents = batch.column(self.consent).to_pylist() if self.consent else [True] * batch.num_rows
        contents = batch.column(self.content)
        return [
            (contents[row].as_py(), True) if consent is True else (None, False) for row, consent in enumerate(consents)
        ]


def _row(result: ImageResult, config: Config) -> dict[str, Any]:
    return {
        "status": str(result.status),
        "error": result.error,
        "width": result.width,
        "height": result.height,
        "n_faces": result.n_faces,
        "faces": [_face(face, config) for face in result.faces],
    }


def _face(face: Face, config: Config) -> dict[str, Any]:
    box, quality, age = face.bbox, face.quality, face.age
    row: dict[str, Any] = {
        "face_index": face.face_index,
        "bbox": {name: getattr(box, name) for name in ("x_min", "y_min", "x_max", "y_max")},
        "det_confidence": face.det_confidence,
        "age": age.age if age else None,
        "age_low": age.low if age else None,
        "age_high": age.high if age else None,
        "age_group": age.group if age else None,
        "quality": {name: getattr(quality, name) for name in ("face_px", "blur", "brightness", "yaw", "pitch", "roll")},
    }
    for attribute in CLASSES:
        prediction = getattr(face, attribute)
        row[attribute] = prediction.label if prediction else None
        row[f"{attribute}_confidence"] = prediction.confidence if prediction else None
        row[f"{attribute}_probs"] = list(prediction.probs.items()) if prediction else None
    if config.output.landmarks:
        row["landmarks"] = [{"x": float(x), "y": float(y)} for x, y in face.landmarks]
    if config.output.crops:
        row["crop"] = face.crop
    if config.output.embeddings:
        row["embedding"] = None if face.embedding is None else face.embedding.tolist()
    return row
