"""DataFrame transforms: `analyze_images` adds the faces of every image, `explode_faces` makes a row of each face."""

from collections.abc import Callable

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention
from pyspark.sql.types import BooleanType, StringType, StructField, StructType

from faceattr_udf.config import Config
from faceattr_udf.errors import SchemaError
from faceattr_udf.spark.input_columns import require_content
from faceattr_udf.spark.schemas import face_struct, require_column, result_struct
from faceattr_udf.spark.udf import DEFAULT_PROVIDER, AnalyzeBatches, AnalyzerProvider

Transform = Callable[[DataFrame], DataFrame]


def analyze_images(config: Config | None = None, provider: AnalyzerProvider = DEFAULT_PROVIDER) -> Transform:
    """Finds and describes the faces of every image.

    Every action on the result runs the inference again: write the result, or cache it, before using it twice.

    Args:
        config: Decides what is computed and names the columns of content and, if it is required, of consent. None means
            the defaults.
        provider: Loads the analyzers.

    Returns:
        A function for `DataFrame.transform`. Its result has the input's columns except the content, followed by status,
        error, width, height, n_faces, faces (an array of structs, largest face first), config_id and model_version. The
        function raises `SchemaError` if the input lacks a column or already has a column of the result.

    >>> from faceattr_udf.spark import analyze_images, start
    >>> spark = start()
    >>> images = spark.createDataFrame([("a", None), ("b", b"not an image")], "image_id string, content binary")
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
        require_content(schema, "of images", config.input)
        consent = columns.consent if config.input.require_consent else None
        if consent is not None:
            require_column("of images", schema, consent, BooleanType(), "input.columns.consent")
        kept = [field for field in schema if field.name != columns.content]
        added = [*result_struct(config.output), StructField("config_id", StringType())]
        added.append(StructField("model_version", StringType()))
        taken = {field.name.casefold() for field in added}  # engines ignore case
        clash = sorted(field.name for field in kept if field.name.casefold() in taken)
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
    """Turns the result of `analyze_images` into one row per face; images without faces give no row.

    Args:
        config: The configuration given to `analyze_images`.

    Returns:
        A function for `DataFrame.transform`. Its result has the image's own columns, followed by those of the face
        (face_index, bbox, det_confidence, age, ...); status, error, width, height and n_faces are dropped.

    >>> from faceattr_udf.spark import explode_faces, start
    >>> from pyspark.sql.types import ArrayType
    >>> schema = StructType().add("image_id", "string").add("faces", ArrayType(face_struct(Config().output)))
    >>> faces = [{"face_index": 0, "age": 31.5, "gender": "female"}, {"face_index": 1, "age": 44.0, "gender": "male"}]
    >>> results = start().createDataFrame([("a.jpg", faces), ("b.jpg", [])], schema)
    >>> results.transform(explode_faces()).select("image_id", "face_index", "age", "gender").show()
    +--------+----------+----+------+
    |image_id|face_index| age|gender|
    +--------+----------+----+------+
    |   a.jpg|         0|31.5|female|
    |   a.jpg|         1|44.0|  male|
    +--------+----------+----+------+
    <BLANKLINE>
    """
    config = config or Config()

    def transform(results: DataFrame) -> DataFrame:
        image_only = result_struct(config.output).fieldNames()
        own = [name for name in results.columns if name not in image_only]
        faces = results.select(*own, F.explode("faces").alias("_face"))
        return faces.select(
            *own, *(F.col(f"_face.{field.name}").alias(field.name) for field in face_struct(config.output))
        )

    return transform
