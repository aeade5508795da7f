"""Where the marts are, the columns of each, and which of them identify a row."""

from dataclasses import dataclass
from typing import Final

from pyspark.sql.types import DoubleType, LongType, StringType, StructField, StructType, TimestampType

from faceattr_udf.spark.locations import TableRef, join

_TEXT, _COUNT, _NUMBER = StringType(), LongType(), DoubleType()

_CATALOG: Final = (
    "Value of the column `marts.catalog`; 'unknown' where it is null, 'all' where faces has no such column."
)
_SLICE: Final = "Values of the columns `marts.slices`, joined by ' / '; 'all' without such columns."
_MODEL: Final = "Identifies the weights of the detector and of the attribute model; versions are never summed."

_KEYS: Final = {
    "catalog": _CATALOG,
    "day": "YYYY-MM-DD, UTC, of the column `marts.date`, or of `processed_at` where faces has no such column; "
    "'unknown' where it is null.",
    "slice": _SLICE,
    "quality_band": "Shorter side of the face's box: small (below 40 pixels), medium (to 80), large, or unknown.",
    "model_version": _MODEL,
    "config_id": "Identifies the settings that decide what is computed.",
}
_IMAGE_KEYS: Final = {name: text for name, text in _KEYS.items() if name != "quality_band"}
_ATTRIBUTE: Final = "age_group, gender, ethnicity or emotion."
_METHOD: Final = "acc: what is corrected are counts of labels. pacc: means of probabilities."
_SCORE_LABEL: Final = "A label, as the model scores it."
_WEIGHT_KEYS: Final = {"model_version": _MODEL, "attribute": _ATTRIBUTE, "method": _METHOD}
_STATISTICS: Final = "Which calibration faces the figures come from: pooled, or those of one quality band."


@dataclass(frozen=True)
class Mart:
    """One mart.

    Attributes:
        comment: What a row is.
        keys: Column -> description, of the columns that identify a row; none is ever null.
        values: Column -> (type, description), of the other columns.
    """

    comment: str
    keys: dict[str, str]
    values: dict[str, tuple[LongType | DoubleType | StringType | TimestampType, str]]

    @property
    def schema(self) -> StructType:
        """The columns; keys are text."""
        keys = [StructField(name, _TEXT) for name in self.keys]
        return StructType([*keys, *(StructField(name, type_) for name, (type_, _) in self.values.items())])

    @property
    def comments(self) -> dict[str, str]:
        """Column -> description."""
        return {**self.keys, **{name: text for name, (_, text) in self.values.items()}}


BY_DAY: Final = {
    "share_totals": Mart(
        "Faces by catalog, day, slice, size, model and settings.",
        _KEYS,
        {
            "n_faces": (_COUNT, "Faces."),
            "n_photographs": (_COUNT, "Images with such faces; not additive over quality bands."),
            "n_abstained_gender": (_COUNT, "Faces whose gender is null."),
            "n_abstained_ethnicity": (_COUNT, "Faces whose ethnicity is null."),
            "n_abstained_emotion": (_COUNT, "Faces whose emotion is null."),
            "n_minors": (_COUNT, "Faces with a perceived age below 18 years, or with `minor`."),
        },
    ),
    "share_stats": Mart(
        "Sums over faces that add up over days, catalogs and slices; corrected shares are linear in `score`.",
        {**_KEYS, "attribute": _ATTRIBUTE, "method": _METHOD, "score_label": _SCORE_LABEL},
        {
            "n_faces": (_COUNT, "Faces for which the model decides for this label, also where it abstains."),
            "sum_p": (_NUMBER, "Sum of the label's probabilities; null where the faces have none."),
            "score": (_NUMBER, "What is corrected: n_faces for the method acc, sum_p for pacc."),
        },
    ),
    "share_products": Mart(
        "Sums over photographs of products of scores, for the sampling error of an audience; they add up, too.",
        {
            **_KEYS,
            "attribute": _ATTRIBUTE,
            "method": _METHOD,
            "score_label": _SCORE_LABEL,
            "score_label2": "The other label; each pair has one row.",
        },
        {"sum_pp": (_NUMBER, "Sum over photographs of the product of both labels' scores in the photograph.")},
    ),
    "share_cells": Mart(
        "Faces by most likely label and confidence, for the check whether the calibration fits.",
        {
            **_KEYS,
            "attribute": _ATTRIBUTE,
            "cell_label": "The most likely label.",
            "part": "Third of the calibration's confidences: low, middle or high.",
        },
        {"n_faces": (_COUNT, "Faces.")},
    ),
    "audience": Mart(
        "Faces by perceived attributes: not truths about people, and not corrected.",
        {
            **_KEYS,
            "age_group": "Perceived ten-year group, or unknown where the model abstains.",
            "gender": "Perceived gender, or unknown.",
            "ethnicity": "Perceived ethnicity, or unknown.",
            "emotion": "Perceived facial expression, or unknown.",
        },
        {"n_faces": (_COUNT, "Faces.")},
    ),
    "photographs": Mart(
        "Photographs by how many people they show, and whom.",
        {
            **_IMAGE_KEYS,
            "crowd": "Number of faces: 0, 1, 2, 3-5, 6-10 or 11+.",
            "composition": "with_children (a perceived age below 18, or `minor`), else mixed, women or men; unknown "
            "where a gender is null; nobody without faces.",
        },
        {"n_photographs": (_COUNT, "Images that were read."), "n_faces": (_COUNT, "Their faces.")},
    ),
    "coverage": Mart(
        "Images by what became of them, and the quality of their faces.",
        {
            **_IMAGE_KEYS,
            "status": "What became of the image.",
            "reason": "Kind of error, or none.",
        },
        {
            "n_images": (
                _COUNT,
                "Images. Where no face was found, catalog, day and slice are unknown, unless they are "
                "'all' or the day of processing.",
            ),
            "n_faces": (_COUNT, "Their faces."),
            **{
                f"{name}_p{percent}": (_NUMBER, f"{percent} % quantile of quality.{name}; null without faces.")
                for name in ("face_px", "blur", "brightness")
                for percent in (10, 50, 90)
            },
        },
    ),
}
"""Name -> mart with one row per day and key; rebuilt for days that changed."""

SHARES: Final = Mart(
    "Perceived shares of labels by catalog and period, raw and corrected for the model's confusions, with intervals.",
    {
        "catalog": f"{_CATALOG} 'all' also for all catalogs together.",
        "period": "day, week (Monday to Sunday), month or all.",
        "period_start": "First day of the period, YYYY-MM-DD; 'all' or 'unknown'.",
        "slice": _SLICE,
        "model_version": _MODEL,
        "attribute": _ATTRIBUTE,
        "label": "A label.",
    },
    {
        "raw_share": (_NUMBER, "Share of faces for which the model decides for the label; carries the model's errors."),
        "soft_share": (_NUMBER, "Mean probability of the label; null where faces have none."),
        "share": (_NUMBER, "Corrected share, 0 to 1; shares sum to 1. The raw one where nothing can be corrected."),
        "low": (_NUMBER, "Lower bound of the 95 % interval for photographs like those of the calibration."),
        "high": (_NUMBER, "Upper bound."),
        "low_transfer": (
            _NUMBER,
            "Lower bound that allows for photographs of another source; null where the calibration "
            "has too few sources to tell.",
        ),
        "high_transfer": (_NUMBER, "Upper bound, likewise."),
        "se_sample": (_NUMBER, "Standard error from these faces."),
        "se_model": (_NUMBER, "Standard error from the calibration's faces."),
        "n_faces": (_NUMBER, "Faces with this attribute."),
        "population": (
            _TEXT,
            "catalogue: the interval is for exactly these faces. audience: for the people of whom these "
            "photographs are a sample.",
        ),
        "method": (_TEXT, "acc or pacc as corrected; none where nothing can be corrected."),
        "fit_tv": (
            _NUMBER,
            "Total variation distance between the confidences of these faces and those that the "
            "calibration expects, 0 to 1.",
        ),
        "fit": (
            _TEXT,
            "good, poor (the photographs differ from the calibration's: do not trust low and high), or unknown.",
        ),
        "calibration_id": (_TEXT, "Identifies the calibration; null without one."),
    },
)

WEIGHTS: Final = {
    "label_weights": Mart(
        "share of label = sum of weight * score over score labels, divided by the number of faces.",
        {
            **_WEIGHT_KEYS,
            "quality_band": _KEYS["quality_band"],
            "score_label": _SCORE_LABEL,
            "label": "A label whose share is estimated.",
        },
        {
            "statistics": (_TEXT, f"{_STATISTICS} Faces with equal statistics are one group."),
            "weight": (_NUMBER, "Entry of the inverse of the confusion matrix."),
            "calibration_id": (_TEXT, "Identifies the calibration."),
        },
    ),
    "label_weights_var": Mart(
        "Terms of a corrected share's variance, by true label.",
        {
            **_WEIGHT_KEYS,
            "statistics": _STATISTICS,
            "label": "A label whose share is estimated.",
            "true_label": "A label whose faces contribute to the variance.",
        },
        {
            "var_model": (_NUMBER, "Times the true label's squared share: variance from the calibration's faces."),
            "var_scores": (_NUMBER, "Times the true label's share, divided by the faces: variance from these faces."),
            "var_transfer": (
                _NUMBER,
                "Times the true label's squared share: variance between sources; null if unknown.",
            ),
            "t_transfer": (_NUMBER, "Student's t of the 95 % interval between sources; null if unknown."),
        },
    ),
    "label_cells": Mart(
        "How often faces of a label have a most likely label and a confidence in the calibration.",
        {
            "model_version": _MODEL,
            "attribute": _ATTRIBUTE,
            "true_label": "The faces' label.",
            "cell_label": "The most likely label.",
            "part": "Third of the confidences: low, middle or high.",
        },
        {
            "rate": (_NUMBER, "Share of the label's faces."),
            "n_calibration": (_COUNT, "The label's faces in the calibration."),
        },
    ),
}
"""Name -> table of calibration figures; replaced as a whole when the calibration changes."""

STATE: Final = Mart(
    "The days that the marts hold. A day whose fingerprint differs from that of its faces and images is built again.",
    {"day": _KEYS["day"]},
    {
        "settings_id": (_TEXT, "Identifies the settings, columns and calibration that the day was built with."),
        "n_rows": (_COUNT, "Rows of faces and image_results."),
        "fingerprint": (_TEXT, "Sums of hashes of these rows, whatever their order."),
        "built_at": (TimestampType(), "When the day was built, UTC."),
    },
)

MARTS: Final = {**BY_DAY, "shares": SHARES, **WEIGHTS, "marts_state": STATE}
"""Every table of the folder `marts`."""


def marts_folder(output: str) -> str:
    """Returns the folder of the marts of an output folder, which also holds the lease of their builds."""
    return join(output, "marts")


def mart_refs(output: str) -> dict[str, TableRef]:
    """Returns the references of all marts of an output folder."""
    return {name: TableRef(join(marts_folder(output), name), "delta") for name in MARTS}
