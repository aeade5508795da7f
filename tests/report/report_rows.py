"""Rows of all tables as the report reads them, made by hand."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from faceattr_udf.labels import AGE_GROUPS, CLASSES
from faceattr_udf.report.inputs import ReportInputs, Scope

MODEL = "mtcnn-test+default-1"
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
HOSTILE = "<script>'\"&\u202e{{ 7*7 }}</b>"
RTL = "\u0645\u062c\u0645\u0648\u0639\u0629"
Row = dict[str, Any]


def total(n_faces: int = 400, band: str = "large", **values: Any) -> Row:
    abstained = {"n_abstained_gender": 20, "n_abstained_ethnicity": 80, "n_abstained_emotion": 160, "n_minors": 40}
    return {"model_version": MODEL, "quality_band": band, "n_faces": n_faces, **abstained} | values


def share(attribute: str, label: str, raw: float, corrected: float, **values: Any) -> Row:
    return {
        "model_version": MODEL,
        "attribute": attribute,
        "label": label,
        "raw_share": raw,
        "share": corrected,
        "low": corrected - 0.02,
        "high": corrected + 0.02,
        "low_transfer": corrected - 0.1,
        "high_transfer": corrected + 0.1,
        "n_faces": 1000.0,
        "method": "acc",
        "fit": "good",
    } | values


def run(day: int = 1, **values: Any) -> Row:
    started = datetime(2026, 11, day, 1, tzinfo=UTC)
    return {
        "state": "completed",
        "started_at": started,
        "finished_at": started + timedelta(minutes=5),
        "n_images": 500,
        "n_faces": 1000,
        "n_inferred": 400,
        "images_per_second": 10.0,
        "model_version": MODEL,
        "purpose": "audience_statistics",
    } | values


def drift(day: int, metric: str = "night", label: str = "", **values: Any) -> Row:
    return {
        "run_id": f"run-{day}",
        "metric": metric,
        "label": label,
        "value": 1000.0,
        "reference": None,
        "change": None,
        "t": None,
        "threshold": None,
        "alarm": False,
        "kind": None,
        "reason": None,
        "accepted": False,
        "started_at": datetime(2026, 11, day, 1, tzinfo=UTC),
    } | values


def inputs(**changes: Any) -> ReportInputs:
    """Returns an output folder with everything: 1,000 faces of two catalogs, twelve runs, the last night alarmed."""
    ages = [share("age_group", label, 0.125, 0.125) for label in AGE_GROUPS]
    others = [
        share(name, label, 1 / len(labels), 1 / len(labels)) for name, labels in CLASSES.items() for label in labels
    ]
    moved = {"reference": 0.5, "change": -0.2, "value": 0.3, "t": -6.5, "threshold": 4.2, "alarm": True}
    quiet = {"reference": 0.5, "change": 0.01, "value": 0.51, "t": 0.6, "threshold": 4.2}
    nights = [drift(day) for day in range(1, 12)]
    nights += [
        drift(12, alarm=True, kind="photography"),
        drift(12, "brightness", kind="photography", **moved),
        drift(12, "share", "gender/female", **quiet),
        drift(12, "confidence", "ethnicity", **quiet),
    ]
    quantiles = {f"{name}_{part}": value for name in ("face_px", "blur", "brightness") for part, value in QUANTILES}
    return replace(
        ReportInputs(
            totals=[total(), total(350, "medium"), total(250, "small")],
            days=[{"model_version": MODEL, "first": "2026-11-01", "last": "2026-11-12", "n_undated": 0, "n_future": 0}],
            catalogs=[
                {"model_version": MODEL, "catalog": "shoes", "n_faces": 600},
                {"model_version": MODEL, "catalog": "hats", "n_faces": 400},
            ],
            n_catalogs=2,
            audience=[
                {"model_version": MODEL, "age_group": age, "gender": gender, "n_faces": faces}
                for age in AGE_GROUPS
                for gender, faces in (("female", 65), ("male", 50), ("unknown", 10))
            ],
            photographs=[
                {"model_version": MODEL, "crowd": crowd, "composition": kind, "n_photographs": n, "n_faces": n * faces}
                for crowd, kind, n, faces in (
                    ("0", "nobody", 50, 0),
                    ("1", "women", 200, 1),
                    ("1", "men", 150, 1),
                    ("2", "mixed", 75, 2),
                    ("6-10", "with_children", 50, 10),
                )
            ],
            coverage=[
                {"model_version": MODEL, "status": status, "reason": reason, "n_images": n, "n_faces": 0}
                for status, reason, n in (("ok", "none", 475), ("no_face", "none", 50), ("corrupt", "header", 3))
            ],
            quality=[{"model_version": MODEL, **quantiles}],
            shares=[*ages, *others],
            runs=[run(day) for day in range(1, 13)],
            drift=nights,
            built_at=datetime(2026, 11, 12, 2, tzinfo=UTC),
        ),
        **changes,
    )


QUANTILES = (("p10", 0.2), ("p50", 0.5), ("p90", 0.7))


def group(value: float, n: int = 200, **named: str) -> Row:
    measured = {"n": n, "value": value, "low": value - 0.02, "high": value + 0.02}
    everyone = {"age_group": "all", "gender": "all", "ethnicity": "all"}
    return {**everyone, **named, "n": n, "gender_accuracy": measured, "age_mae": measured | {"value": 4.0}}


GROUPS = [
    group(0.81, age_group="0-9"),
    group(0.97, age_group="20-29"),
    group(0.95, gender="female"),
    group(0.9, ethnicity="asian"),
]


def scope(**changes: Any) -> Scope:
    attributes = ("age", "gender", "ethnicity", "emotion")
    return replace(Scope(attributes, 10, NOW, attribute_model="default-1", groups=GROUPS), **changes)
