"""Counts people: each once in a period, by one face."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.config import Config
from faceattr_udf.errors import ConfigError
from faceattr_udf.publishing.periods import Period, PeriodKind, first_day
from faceattr_udf.publishing.release import UNKNOWN
from faceattr_udf.shares.calibration_file import LABELS
from faceattr_udf.spark.catalog_names import quoted
from faceattr_udf.spark.marts.scores import scored
from faceattr_udf.spark.marts.sources import Places, placed_faces

Counts = dict[str, dict[str, dict[str, int]]]
"""Attribute -> catalog -> label -> people."""


@dataclass(frozen=True)
class People:
    """The faces that may count.

    A photograph counts by its largest face, because a subject is in it once and the faces beside are others'. A person
    counts by the first of their photographs in the period: one face, as the correction of shares expects.

    Attributes:
        faces: From `placed_faces`, the largest face of every photograph.
        persons: image_id, day, person.
        has_subjects: Whether photographs name their subject; else each photograph counts as a person.
    """

    faces: DataFrame
    persons: DataFrame
    has_subjects: bool

    @classmethod
    def of(cls, faces: DataFrame, config: Config) -> "People":
        """Checks the configured columns.

        Raises:
            ConfigError: A column that the user names is not in the faces.
        """
        places, subject = Places.of(faces.schema, config.marts), config.consent.subject
        has_subjects = subject in faces.columns
        if not has_subjects and "subject" in config.consent.model_fields_set:
            msg = (
                f"consent.subject names {subject!r}, which the faces do not have (they have "
                f"{', '.join(faces.columns)}); pass it through with input.columns.pass_through"
            )
            raise ConfigError(msg)
        largest = faces.where(F.col("face_index") == 0)
        person = _person(subject if has_subjects else None).alias("person")
        persons = largest.select("image_id", places.day.alias("day"), person)
        return cls(placed_faces(largest, places), persons, has_subjects)

    def periods(self, kind: PeriodKind) -> list[Period]:
        """Returns the periods of all faces with a known day."""
        processed = F.date_format(F.max("processed_at"), "yyyy-MM-dd").alias("processed")
        found: dict[date, tuple[date, set[str]]] = {}
        for row in self.faces.groupBy("day", "model_version").agg(processed).collect():
            start = first_day(row["day"], kind)
            if start is not None:
                last, versions = found.get(start, (date.min, set[str]()))
                own = date.fromisoformat(row["processed"]) if row["processed"] else date.min
                found[start] = max(last, own), versions | {row["model_version"]}
        return [Period(start, last, tuple(sorted(versions))) for start, (last, versions) in found.items()]

    def counts(self, starts: Collection[date], kind: PeriodKind, attributes: Collection[str]) -> Mapping[date, Counts]:
        """Returns the people of periods; a label that is null counts as `UNKNOWN`."""
        spark = self.faces.sparkSession
        days = [row["day"] for row in self.persons.select("day").distinct().collect()]
        chosen = [
            (day, start.isoformat()) for day in days if (start := first_day(day, kind)) is not None and start in starts
        ]
        periods = F.broadcast(spark.createDataFrame(chosen, "day string, period_start string"))
        first = (
            self.persons.join(periods, "day").groupBy("period_start", "person").agg(F.min("image_id").alias("image_id"))
        )
        faces = self.faces.join(first.select("image_id", "period_start"), "image_id")
        rows = scored(faces.withColumn("day", F.col("period_start")))
        places = [
            F.struct(F.lit(name).alias("attribute"), F.col(f"place_{name}").alias("place")) for name in attributes
        ]
        each = rows.select("day", "catalog", F.explode(F.array(*places)).alias("s"))
        counted = each.groupBy("day", "catalog", "s.attribute", "s.place").agg(F.count(F.lit(1)).alias("n")).collect()
        found: dict[date, Counts] = {start: {name: {} for name in attributes} for start in starts}
        for row in counted:
            label = UNKNOWN if row["place"] is None else LABELS[row["attribute"]][row["place"]]
            labels = found[date.fromisoformat(row["day"])][row["attribute"]].setdefault(row["catalog"], {})
            labels[label] = int(row["n"])
        return found


def _person(subject: str | None) -> Column:
    image = F.concat(F.lit("image:"), F.col("image_id"))
    if subject is None:
        return image
    name = F.col(quoted(subject)).cast("string")
    return F.when(name.isNull() | (F.trim(name) == ""), image).otherwise(F.concat(F.lit("subject:"), name))
