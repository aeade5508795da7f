"""What `faceattr evaluate` writes about shares: the statistics that correct them, and how well that works."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from faceattr_udf.cli.text_table import text_table

if TYPE_CHECKING:
    import pyarrow as pa

    from faceattr_udf.datasets.labeled_faces import LabeledFaces
    from faceattr_udf.evaluation.metrics import Probabilities
    from faceattr_udf.weights import WeightsRecord


def without_ids(table: "pa.Table", ids: set[str]) -> "pa.Table":
    """Returns the rows of a table of labeled faces whose image_id is not among these."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not ids:
        return table
    return table.filter(pc.invert(pc.is_in(table["image_id"], value_set=pa.array(sorted(ids), pa.string()))))


def write_statistics(
    path: Path, record: "WeightsRecord", probabilities: "Probabilities", faces: "LabeledFaces"
) -> None:
    """Writes the statistics of all attributes that have enough faces of every label, and names the others."""
    from faceattr_udf.evaluation.quantify import cases, statistics_of
    from faceattr_udf.shares.calibrate import MIN_FACES
    from faceattr_udf.shares.calibration_file import write_calibration

    found = cases(probabilities, faces)
    measured = statistics_of(found)
    write_calibration(path, record.model_version, measured)
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    click.echo(f"{path} holds {', '.join(measured) or 'no attribute'}; its checksum for {record.name}.json: {checksum}")
    if lacking := [attribute for attribute in found if attribute not in measured]:
        click.echo(f"not in it, because a label has fewer than {MIN_FACES} faces: {', '.join(lacking)}")


def write_proof(
    path: Path, record: "WeightsRecord", predicted: "Mapping[str, tuple[Probabilities, LabeledFaces]]"
) -> None:
    """Measures corrected shares, writes all figures and prints those of the default method."""
    from faceattr_udf.evaluation.quantify import cases
    from faceattr_udf.evaluation.share_proof import prove

    found = {name: cases(probabilities, faces) for name, (probabilities, faces) in predicted.items()}
    results = prove(found["faces"], found.get("unseen", {}), lambda name: click.echo(f"shares of {name}", err=True))
    content = {"model_version": record.model_version, "attributes": results}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for title, rows in proof_tables(results).items():
        click.echo(f"\n{title}\n{rows}")
    click.echo(f"\n{path} holds all figures")


def proof_tables(results: "Mapping[str, Any]") -> dict[str, str]:
    """Returns title -> table, one for mixes of the calibration's sources and one for other sources."""
    from faceattr_udf.shares.statistics import METHODS

    same, other = [], []
    for attribute, of_attribute in results.items():
        for method in METHODS:
            of_method = of_attribute[method]
            for experiment in ("halves", "resampled"):
                same += [
                    (attribute, method, experiment, f"{scored['faces']:,}", *_errors(scored), *_covered(scored))
                    for scored in of_method[experiment].values()
                    if scored is not None
                ]
            other += [
                (attribute, method, name, f"{scored['faces']:,}", *_errors(scored), *_wide(scored))
                for name, scored in of_method["sources"].items()
            ]
    errors = ("raw", "mean prob.", "corrected", "ratio")
    return {
        "errors in points, and coverage of 95 % intervals, %": text_table(
            ("attribute", "method", "experiment", "faces", *errors, "interval", "audience", "without model", "poor"),
            same,
        ),
        "photographs of another source": text_table(
            (
                "attribute",
                "method",
                "calibration -> catalogue",
                "faces",
                *errors,
                "interval",
                "transfer",
                "+- points",
                "transfer or poor",
                "poor",
            ),
            other,
        ),
    }


def _errors(scored: "Mapping[str, Any]") -> tuple[str, ...]:
    return (*(f"{scored['error'][name]:.2f}" for name in ("raw", "soft", "corrected")), f"{scored['ratio']:.2f}")


def _covered(scored: "Mapping[str, Any]") -> tuple[str, ...]:
    coverage = scored["coverage"]
    return (*(f"{coverage[name]:.1f}" for name in ("catalogue", "audience", "sample_only")), f"{scored['poor']:.1f}")


def _wide(scored: "Mapping[str, Any]") -> tuple[str, ...]:
    coverage, width = scored["coverage"], scored["half_width_transfer"]
    transfer = f"{coverage['transfer']:.1f}" if "transfer" in coverage else "-"
    return (
        f"{coverage['catalogue']:.1f}",
        transfer,
        "-" if width is None else f"{width:.1f}",
        f"{coverage['transfer_or_poor']:.1f}",
        f"{scored['poor']:.1f}",
    )
