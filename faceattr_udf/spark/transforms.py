"""The product as functions from DataFrame to DataFrame, for anybody's pipeline, notebook or engine."""

from collections.abc import Callable

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention
from pyspark.sql.types import BinaryType, BooleanType, StringType, StructField, StructType

from faceattr_udf.config import Config
from faceattr_udf.errors import SchemaError
from faceattr_udf.spark.schemas import face_struct, require_column, result_struct
from faceattr_udf.spark.udf import DEFAULT_PROVIDER, AnalyzeBatches, AnalyzerProvider

Transform = Callable[[DataFrame], DataFrame]


def analyze_images(config: Config | None = None, provider: AnalyzerProvider = DEFAULT_PROVIDER) -> Transform:
    """Finds and describes the faces of every image.

    The result is computed anew whenever it is evaluated: write it, or cache it, before using it twice.

    Args:
        config: What is computed, the names of the columns `content` and, if consent is required, `consent`; None means
            the defaults.
        provider: Where analyzers come from.

    Returns:
        A function for `DataFrame.transform`. Its result has the input's columns except the content, and: status,
        error, width, height, n_faces, faces (array of the columns of a face, largest first), config_id, model_version.

    Raises:
        SchemaError: (by the returned function) The input lacks a column, or already has one of the result's.

    >>> from faceattr_udf.spark.session import start
    >>> spark = start()
    >>> images = spark.createDataFrame([("a", None), ("b", b"no image")], "image_id string, content binary")
    >>> results = images.transform(analyze_images())
    >>> results.select("image_id", "status", "n_faces").orderBy("image_id").show()
    +--------+-----------+-------+
    |image_id|     status|n_faces|
    +--------+-----------+-------+
    |       a|    missing|      0|
    |       b|unsupported|      0|
    +--------+-----------+-------+
    <BLANKLINE>
    """
    config = config or Config()

    def transform(images: DataFrame) -> DataFrame:
        columns = config.input.columns
        schema = images.schema
        require_column("of images", schema, columns.content, BinaryType(), "input.columns.content")
        consent = columns.consent if config.input.require_consent else None
        if consent is not None:
            require_column("of images", schema, consent, BooleanType(), "input.columns.consent")
        kept = [field for field in schema if field.name != columns.content]
        added = [*result_struct(config.output), StructField("config_id", StringType())]
        added.append(StructField("model_version", StringType()))
        clash = sorted({field.name for field in kept} & {field.name for field in added})
        if clash:
            msg = f"the images already have the columns {', '.join(clash)}, which the result adds; rename or drop them"
            raise SchemaError(msg)
        analyze = AnalyzeBatches(
            config_json=config.model_dump_json(),
            provider=provider,
            keep=tuple(field.name for field in kept),
            content=columns.content,
            consent=consent,
        )
        shape = StructType([*kept, *result_struct(config.output)])
        return (
            images.mapInArrow(analyze.__call__, shape)
            .withColumn("config_id", F.lit(config.config_id()))
            .withColumn("model_version", F.lit(provider.model_version(config)))
        )

    return transform


def explode_faces(config: Config | None = None) -> Transform:
    """Turns the result of `analyze_images` into one row per face; images without a face have none.

    Args:
        config: The configuration that `analyze_images` had.

    Returns:
        A function for `DataFrame.transform`: the columns of a face (face_index, bbox, det_confidence, age, ...) follow
        the image's own; status, error, width, height and n_faces are left out.

    >>> from faceattr_udf.spark.session import start
    >>> images = start().createDataFrame([("a", None)], "image_id string, content binary")
    >>> faces = images.transform(analyze_images()).transform(explode_faces())
    >>> faces.select("image_id", "face_index", "gender", "age_group").show()
    +--------+----------+------+---------+
    |image_id|face_index|gender|age_group|
    +--------+----------+------+---------+
    +--------+----------+------+---------+
    <BLANKLINE>
    """
    config = config or Config()

    def transform(results: DataFrame) -> DataFrame:
        image_only = {"status", "error", "width", "height", "n_faces", "faces"}
        own = [name for name in results.columns if name not in image_only]
        faces = results.select(*own, F.explode("faces").alias("_face"))
        return faces.select(
            *own, *(F.col(f"_face.{field.name}").alias(field.name) for field in face_struct(config.output))
        )

    return transform
