"""The columns of the published table, and what each holds."""

from typing import Final

from pyspark.sql.types import DoubleType, LongType, StringType, TimestampType

from faceattr_udf.spark.marts.layout import Mart

_TEXT, _COUNT, _NUMBER = StringType(), LongType(), DoubleType()

AUDIENCE: Final = Mart(
    "People by perceived attributes and period; no count of few people can be worked out. Perceived, not truths.",
    {
        "period_start": "First day of the period, YYYY-MM-DD, UTC.",
        "catalog": "Value of the column `marts.catalog`; '(other)': catalogs of few people together; 'all': their sum, "
        "where there are several.",
        "attribute": "age_group, gender, ethnicity or emotion; 'all' for a total.",
        "label": "The label that the model finds most likely, or unknown where the attribute was not predicted; 'all' "
        "for a total.",
    },
    {
        "period": (_TEXT, "week or month."),
        "n_people": (_COUNT, "People; each counts once in a period. Null where suppressed."),
        "counted_share": (_NUMBER, "n_people as a share of the catalog's total, not corrected."),
        "share": (
            _NUMBER,
            "Share of the people with known labels, corrected for the model's confusions; null where one of "
            "the catalog's labels is suppressed, below 100 people, and for weights without statistics.",
        ),
        "low": (_NUMBER, "Lower bound of its 95 % interval, with the differences between sources of photographs."),
        "high": (_NUMBER, "Upper bound."),
        "status": (_TEXT, "ok or suppressed."),
        "k": (_COUNT, "The setting publish.k."),
        "model_version": (_TEXT, "Identifies the weights of the detector and of the attribute model."),
        "released_at": (TimestampType(), "When the period was published; it does not change afterwards."),
    },
)
