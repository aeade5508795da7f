"""Plots of an evaluation report: confusion, calibration, accuracy against coverage, age error and group metrics."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

from faceattr_udf.arrays import Int64Array
from faceattr_udf.datasets.labeled_faces import UNLABELED, LabeledFaces
from faceattr_udf.evaluation.metrics import (
    Mask,
    Probabilities,
    age_group_index,
    age_group_probabilities,
    expected_age,
    is_right,
)
from faceattr_udf.evaluation.report import MIN_GROUP_SIZE, dimensions_of, grouping_of, label_of
from faceattr_udf.evaluation.sources import source_name
from faceattr_udf.labels import AGE_GROUPS, CLASSES, LABELS

_BINS = 10
_BLUE, _LIGHT_BLUE, _GRAY, _RED = "#30638e", "#8fb0cc", "#9a9a9a", "#b23a48"
# The accuracy over fewer faces than this is mostly chance.
_MIN_COVERED = 50


def draw_all(probabilities: Probabilities, faces: LabeledFaces, report: dict[str, Any], folder: Path) -> list[Path]:
    """Draws every plot that the labels allow.

    Args:
        probabilities: A predictor's output for all faces.
        faces: The labels.
        report: The result of `report.report` for the same faces.
        folder: Where the plots go; created if needed.

    Returns:
        The PNG files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tasks = _tasks(probabilities, faces)
    plots: dict[str, Callable[[], Figure | None]] = {
        "confusion": lambda: _confusion(tasks),
        "reliability": lambda: _reliability(tasks),
        "abstention": lambda: _abstention(tasks),
        "age_error": lambda: _age_error(probabilities, faces),
        "groups": lambda: _groups(report["by_group"]),
    }
    written = []
    for name, draw in plots.items():
        figure = draw()
        if figure is not None:
            path = folder / f"{name}.png"
            figure.savefig(path, dpi=110, bbox_inches="tight")
            written.append(path)
    return written


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """The labeled faces of one attribute; age by its ten-year groups.

    Attributes:
        name: For titles.
        labels: Names of all labels; the first ones are the classes.
        truth: int64 (n,), index into `labels`.
        predicted: int64 (n,), the most probable class.
        hits: bool (n,), whether it is right.
        confidence: (n,), its probability.
        source: str (n,).
    """

    name: str
    labels: tuple[str, ...]
    truth: Int64Array
    predicted: Int64Array
    hits: Mask
    confidence: npt.NDArray[np.floating]
    source: npt.NDArray[np.str_]


def _tasks(probabilities: Probabilities, faces: LabeledFaces) -> list[_Task]:
    tasks = []
    labels: tuple[str, ...]
    for name, values in probabilities.items():
        if name == "age":
            title, truth, labels, classes = (
                "age group",
                age_group_index(faces),
                AGE_GROUPS,
                age_group_probabilities(values),
            )
        elif name in CLASSES:
            title, truth, labels, classes = name, faces.labels[name], LABELS[name], values
        else:
            continue
        known = truth != UNLABELED
        if known.any():
            truth, predicted = truth[known], classes[known].argmax(axis=1)
            hits = predicted == truth if name == "age" else is_right(name, predicted, truth)
            confidence = classes[known].max(axis=1)
            tasks.append(_Task(title, labels, truth, predicted, hits, confidence, faces.source[known]))
    return tasks


def _panels(count: int, height: float = 4.2) -> tuple[Figure, list[Axes]]:
    # A Figure without pyplot needs no display and leaves no global state.
    figure = Figure(figsize=(4.6 * count, height), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _confusion(tasks: list[_Task]) -> Figure | None:
    if not tasks:
        return None
    figure, axes = _panels(len(tasks))
    for task, ax in zip(tasks, axes, strict=True):
        shares = confusion_matrix(task.truth, task.predicted, labels=range(len(task.labels)), normalize="true")
        display = ConfusionMatrixDisplay(100 * shares, display_labels=task.labels)
        display.plot(
            ax=ax,
            cmap="Blues",
            colorbar=False,
            values_format=".0f",
            im_kw={"vmin": 0, "vmax": 100},
            text_kw={"fontsize": 8},
        )
        for row in set(range(len(task.labels))) - set(task.truth):
            for text in display.text_[row]:
                text.set_text("")  # no face has this label
        ax.set_xticks(ax.get_xticks(), task.labels, rotation=60, ha="right", fontsize=8)
        ax.tick_params(axis="y", labelsize=8)
        ax.set(title=f"{task.name} (n = {len(task.truth):,})", xlabel="predicted", ylabel="")
    axes[0].set_ylabel("labeled")
    figure.suptitle("Confusion matrices, % of each labeled class")
    return figure


def _reliability(tasks: list[_Task]) -> Figure | None:
    if not tasks:
        return None
    figure, axes = _panels(len(tasks))
    for task, ax in zip(tasks, axes, strict=True):
        share = np.full(len(task.hits), 1.0 / len(task.hits))
        ax.hist(task.confidence, bins=_BINS, range=(0, 1), weights=share, color=_LIGHT_BLUE, label="Share of faces")
        CalibrationDisplay.from_predictions(
            task.hits, np.clip(task.confidence, 0.0, 1.0), n_bins=_BINS, ax=ax, name="Model", color=_BLUE
        )
        ax.set(title=task.name, xlabel="confidence", ylabel="", xlim=(0, 1), ylim=(0, 1.02))
        ax.legend(loc="upper left", frameon=False, fontsize=8)
    axes[0].set_ylabel("accuracy")
    figure.suptitle("Calibration: accuracy of predictions by their confidence")
    return figure


def _abstention(tasks: list[_Task]) -> Figure | None:
    if not tasks:
        return None
    figure, axes = _panels(len(tasks))
    sources = np.unique(np.concatenate([task.source for task in tasks])).tolist()
    for task, ax in zip(tasks, axes, strict=True):
        for source in np.unique(task.source).tolist():
            own = task.source == source
            order = np.argsort(-task.confidence[own], kind="stable")
            covered = np.arange(1, len(order) + 1)
            accuracy = np.cumsum(task.hits[own][order]) / covered
            shown = covered >= min(_MIN_COVERED, len(order))
            name = f"{source_name(source)} ({len(order):,})"
            ax.plot(100 * covered[shown] / len(order), 100 * accuracy[shown], f"C{sources.index(source)}", label=name)
        ax.set(title=task.name, xlabel="coverage: most confident faces, %", xlim=(0, 100), ylim=(None, 101))
        ax.legend(frameon=False, fontsize=8)
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("accuracy on these faces, %")
    figure.suptitle("Accuracy when the model may abstain, by source (faces)")
    return figure


def _age_error(probabilities: Probabilities, faces: LabeledFaces) -> Figure | None:
    exact = faces.has_exact_age()
    if "age" not in probabilities or not exact.any():
        return None
    figure, (ax,) = _panels(1, 4.6)
    truth, age = faces.age_range[exact, 0], expected_age(probabilities["age"][exact])
    decades = np.minimum(truth // 10, len(AGE_GROUPS) - 1).astype(int)
    errors = [(age - truth)[decades == k] for k in range(len(AGE_GROUPS))]
    labels = [f"{name}\n({len(error):,})" for name, error in zip(AGE_GROUPS, errors, strict=True)]
    present = [k for k, error in enumerate(errors) if len(error)]
    ax.axhline(0, color=_GRAY, linewidth=1)
    box = ax.boxplot(
        [errors[k] for k in present], positions=present, widths=0.6, showfliers=False, whis=(10, 90), patch_artist=True
    )
    for patch in box["boxes"]:
        patch.set(facecolor="#c9d8e6", edgecolor=_BLUE)
    ax.set_xticks(range(len(labels)), labels, fontsize=8)
    ax.set(ylabel="predicted minus labeled age, years", xlabel="labeled age (faces)")
    ax.set_title("Age error (boxes: quartiles; whiskers: 10 to 90 %)", fontsize=11)
    ax.grid(axis="y", alpha=0.3)
    return figure


def _groups(rows: list[dict[str, Any]]) -> Figure | None:
    metrics = [
        ("gender_accuracy", "gender, accuracy in %", 100.0),
        ("ethnicity_accuracy", "ethnicity, accuracy in %", 100.0),
        ("age_mae", "age, mean error in years", 1.0),
    ]
    large = [row for row in rows if row["n"] >= MIN_GROUP_SIZE]
    single = [row for row in large if len(dimensions_of(row)) == 1]
    shown = single + [row for row in large if grouping_of(row) == "combined"]
    if not shown:
        return None
    figure, axes = _panels(len(metrics), 0.17 * len(shown) + 1.5)
    labels = [f"{label_of(row)} ({row['n']})" for row in shown]
    for (metric, title, scale), ax in zip(metrics, axes, strict=True):
        for position, row in enumerate(shown):
            if row[metric]:
                value, low, high = (scale * row[metric][key] for key in ("value", "low", "high"))
                ax.barh(position, value, color=_BLUE if position < len(single) else _LIGHT_BLUE)
                ax.plot([low, high], [position, position], color=_RED, linewidth=1.2)
        ax.set_yticks(range(len(labels)), labels if ax is axes[0] else [], fontsize=6)
        ax.set(title=title, ylim=(len(shown) - 0.4, -0.6))
        ax.grid(axis="x", alpha=0.3)
    figure.suptitle(f"Groups of {MIN_GROUP_SIZE} or more faces, with 95 % confidence intervals")
    return figure
