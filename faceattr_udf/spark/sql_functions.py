"""The table functions `detect_faces` and `detect_faces_of`, for those who write SQL only.

They are registered without Arrow: the embedded engine refuses Arrow table functions over a lateral join or a TABLE
argument. Rows then reach Python one at a time, so `detect_faces_of` gathers them into batches itself.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from pyspark.sql import SparkSession
from pyspark.sql.functions import udtf
from pyspark.sql.types import StringType, StructField, StructType

from faceattr_udf.config import Config
from faceattr_udf.errors import EngineError, ImageError, SchemaError
from faceattr_udf.images.content_text import decode_text
from faceattr_udf.results import NO_CONSENT, ImageResult, ImageStatus
from faceattr_udf.spark.own_session import adopted
from faceattr_udf.spark.schemas import face_columns, face_struct
from faceattr_udf.spark.udf import DEFAULT_PROVIDER, AnalyzerPool, AnalyzerProvider, analyzer_pool

ROW_FUNCTION: Final = "detect_faces"
TABLE_FUNCTION: Final = "detect_faces_of"

_BATCH_ROWS: Final = 64
"""Enough for the networks' batches; `enrich.max_batch_rows` may ask for fewer."""

_FIRST_SPARK: Final = 4
"""Spark 3.5 has table functions in Python, but neither named arguments nor TABLE arguments as here."""


def register_sql_functions(
    spark: SparkSession, config: Config | None = None, provider: AnalyzerProvider = DEFAULT_PROVIDER
) -> None:
    """Registers `detect_faces` and `detect_faces_of` in a session, for SQL.

    - `detect_faces(content [, all_images => false] [, consent => null])`, used with LATERAL, returns the faces of one
      image at a time.
    - `detect_faces_of(TABLE(...) [, all_images => false])` takes a table with the columns image_id and content, and
      returns image_id and the faces. It analyzes up to 64 images together, which is faster.

    Both return the columns of a face as in the faces table, then status and error. With `all_images => true` an image
    without faces has one row, in which the columns of a face are null. Use this in place of LEFT JOIN LATERAL, for
    which the embedded engine leaves out images without faces. If `input.require_consent` is true, images are analyzed
    only where `consent`, or the table's column of that name, is true. Every query runs the inference again: write its
    result to a table.

    Args:
        spark: A session of the embedded engine, or of Spark 4 or later; its workers need the package.
        config: Decides what is computed. None means the defaults.
        provider: Loads the analyzers.

    Raises:
        EngineError: The engine has no such functions.

    >>> from faceattr_udf.spark import register_sql_functions, start
    >>> spark = start()
    >>> register_sql_functions(spark)
    >>> images = spark.createDataFrame([("a", None), ("b", b"not an image")], "image_id string, content binary")
    >>> images.createOrReplaceTempView("images")
    >>> spark.sql("SELECT image_id, face_index, status FROM detect_faces_of(TABLE(images), all_images => true)").show()
    +--------+----------+-----------+
    |image_id|face_index|     status|
    +--------+----------+-----------+
    |       a|      NULL|    missing|
    |       b|      NULL|unsupported|
    +--------+----------+-----------+
    <BLANKLINE>
    """
    config = config or Config()
    version = str(spark.version)
    if int(version.partition(".")[0]) < _FIRST_SPARK:
        msg = (
            f"Spark {version} cannot register {ROW_FUNCTION} and {TABLE_FUNCTION}, which need Spark 4.0 or later; use "
            "faceattr enrich, or analyze_images on a DataFrame"
        )
        raise EngineError(msg)
    config_json = config.model_dump_json()
    face = [*face_struct(config.output), StructField("status", StringType()), StructField("error", StringType())]
    of_table = [StructField("image_id", StringType()), *face]
    with adopted(spark, config):  # it decides which class of function is made
        for name, handler, fields in (
            (ROW_FUNCTION, _row_handler(config_json, provider), face),
            (TABLE_FUNCTION, _table_handler(config_json, provider), of_table),
        ):
            function: Any = udtf(handler, returnType=StructType(fields), useArrow=False)
            spark.udtf.register(name, function)


def _row_handler(config_json: str, provider: AnalyzerProvider) -> type:
    """Returns the class of `detect_faces`; one without arguments, because engines create its instances."""

    class DetectFaces:
        def __init__(self) -> None:
            self._batches = FaceBatches(config_json, provider)

        def eval(
            self,
            content: Any,  # noqa: ANN401 - the parameters have the names of SQL and the types that it passes
            all_images: Any = False,  # noqa: ANN401
            consent: Any = None,  # noqa: ANN401
        ) -> Iterator[tuple[Any, ...]]:
            for _, row in self._batches.faces([(None, content, consent)], bool(all_images)):
                yield row

    return DetectFaces


def _table_handler(config_json: str, provider: AnalyzerProvider) -> type:
    """Returns the class of `detect_faces_of`."""

    class DetectFacesOf:
        def __init__(self) -> None:
            self._batches = FaceBatches(config_json, provider)
            self._all_images = False

        def eval(self, row: Any, all_images: Any = False) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401
            self._all_images = bool(all_images)
            yield from self._analyzed(self._batches.add(row))

        def terminate(self) -> Iterator[tuple[Any, ...]]:
            yield from self._analyzed(self._batches.rest())

        def _analyzed(self, images: Sequence["ImageRow"]) -> Iterator[tuple[Any, ...]]:
            for image_id, face in self._batches.faces(images, self._all_images):
                yield (image_id, *face)

    return DetectFacesOf


ImageRow = tuple[Any, Any, Any]
"""image_id, content and consent."""


class FaceBatches:
    """Gathers images into batches, and describes the faces of a batch as rows of SQL.

    Args:
        config_json: The configuration as JSON.
        provider: Loads the analyzers, once per process.
    """

    def __init__(self, config_json: str, provider: AnalyzerProvider) -> None:
        self._config = Config.model_validate_json(config_json)
        self._provider = provider
        self._columns = face_columns(self._config.output)
        self._most_rows = min(_BATCH_ROWS, self._config.enrich.max_batch_rows)
        self._waiting: list[ImageRow] = []
        self._waiting_bytes = 0

    def add(self, row: Any) -> list[ImageRow]:  # noqa: ANN401 - a row of any table
        """Takes one row of the TABLE argument.

        Returns:
            The images of a batch if it is full, otherwise none.

        Raises:
            SchemaError: The table lacks image_id or content, or consent where it is required.
        """
        needed = ["image_id", "content", *(["consent"] if self._config.input.require_consent else [])]
        lacking = [name for name in needed if name not in row.__fields__]
        if lacking:
            msg = (
                f"the TABLE argument of {TABLE_FUNCTION} has no column {' and no '.join(lacking)}; give its "
                "columns these names, such as jpeg AS content"
            )
            raise SchemaError(msg)
        image_id, content = row["image_id"], row["content"]
        size = len(content) if content is not None else 0
        full = self.rest() if self._waiting_bytes + size > self._config.enrich.max_batch_bytes else []
        consent = row["consent"] if "consent" in row.__fields__ else None
        self._waiting.append((None if image_id is None else str(image_id), content, consent))
        self._waiting_bytes += size
        return full or (self.rest() if len(self._waiting) >= self._most_rows else [])

    def rest(self) -> list[ImageRow]:
        """Returns the images that wait for a batch."""
        images, self._waiting, self._waiting_bytes = self._waiting, [], 0
        return images

    def faces(self, images: Sequence[ImageRow], all_images: bool) -> Iterator[tuple[Any, tuple[Any, ...]]]:
        """Analyzes images together.

        Args:
            images: The images.
            all_images: Whether an image without faces gets a row.

        Yields:
            image_id, and the values of a row.
        """
        if not images:
            return
        contents = [self._content(content, consent) for _, content, consent in images]
        with self._analyzers().borrow() as analyzer:
            results = iter(analyzer.analyze([content for content in contents if not isinstance(content, ImageResult)]))
            described = [content if isinstance(content, ImageResult) else next(results) for content in contents]
        for (image_id, _, _), result in zip(images, described, strict=True):
            told = (str(result.status), result.error)
            for face in result.faces:
                yield image_id, (*(_plain(column.value(face)) for column in self._columns), *told)
            if all_images and not result.faces:
                yield image_id, (*(None for _ in self._columns), *told)

    def _analyzers(self) -> AnalyzerPool:
        return analyzer_pool(self._config, self._provider)

    def _content(self, content: Any, consent: Any) -> bytes | ImageResult | None:  # noqa: ANN401 - what SQL passes
        options = self._config.input
        if options.require_consent and consent is not True:
            return ImageResult(ImageStatus.NOT_CONSENTED, NO_CONSENT)
        if content is None or isinstance(content, bytes):
            return content
        if isinstance(content, bytearray | memoryview):
            return bytes(content)
        if isinstance(content, str) and options.content_encoding == "base64":
            try:
                return decode_text(content)
            except ImageError as error:
                return ImageResult(ImageStatus(error.status), str(error))
        msg = f'content is {type(content).__name__} instead of binary; for base64 set input.content_encoding = "base64"'
        raise SchemaError(msg)


def _plain(value: Any) -> Any:  # noqa: ANN401 - one of several column types
    """Returns a column's value as rows of SQL have it: a map as a dict instead of pairs."""
    return dict(value) if isinstance(value, list) and value and isinstance(value[0], tuple) else value
