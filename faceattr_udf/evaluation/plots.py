"""The report as pictures: what is confused with what, how far probabilities hold, and for whom the model is worst."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

from faceattr_udf.attributes.labels import AGE_GROUPS, CLASSES
from faceattr_udf.datasets.labelled_faces import UNLABELLED, LabelledFaces
from faceattr_udf.evaluation.metrics import Probabilities, age_group_index, age_group_probabilities, expected_age
from faceattr_udf.evaluation.report import SMALLEST_GROUP

mpl.use("Agg")  # no screen where this runs
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_BINS = 10
_BLUE, _GREY, _RED = "#30638e", "#9a9a9a", "#b23a48"


def draw_all(probabilities: Probabilities, faces: LabelledFaces, report: dict[str, Any], folder: Path) -> list[Path]:
    """Draws every picture that the labels allow.

    Args:
        probabilities: As a predictor gives them.
        faces: The labels.
        report: Of `report.report`, of the same faces.
        folder: Made if it is not there.

    Returns:
        The PNG files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tasks = _tasks(probabilities, faces)
    pictures: dict[str, Callable[[], Figure | None]] = {
        "confusion": lambda: _confusion(tasks),
        "reliability": lambda: _reliability(tasks),
        "abstention": lambda: _abstention(tasks),
        "age_error": lambda: _age_error(probabilities, faces),
        "groups": lambda: _groups(report["by_group"]),
    }
    written = []
    for name, draw in pictures.items():
        figure = draw()
        if figure is not None:
            path = folder / f"{name}.png"
            figure.savefig(path, dpi=110, bbox_inches="tight")
            plt.close(figure)
            written.append(path)
    return written


class _Task:
    """One attribute as classes; age by its ten-year groups."""

    def __init__(self, name: str, labels: list[str], truth: npt.NDArray[np.int64], probabilities: Any) -> None:  # noqa: ANN401
        self.name, self.labels, self.truth = name, labels, truth
        self.predicted = probabilities.argmax(axis=1)
        self.confidence = probabilities.max(axis=1)
        self.hits = self.predicted == truth


def _tasks(probabilities: Probabilities, faces: LabelledFaces) -> list[_Task]:
    tasks = []
    for name, values in probabilities.items():
        if name == "age":
            truth, labels, classes = age_group_index(faces), list(AGE_GROUPS), age_group_probabilities(values)
        elif name in CLASSES:
            truth, labels, classes = faces.labels[name], list(CLASSES[name]), values
        else:
            continue
        known = truth != UNLABELLED
        if known.any():
            tasks.append(_Task(name, labels, truth[known], classes[known]))
    return tasks


def _panels(count: int, height: float = 4.2) -> tuple[Figure, list[Axes]]:
    figure, axes = plt.subplots(1, count, figsize=(4.6 * count, height), layout="constrained", squeeze=False)
    return figure, list(axes[0])


def _confusion(tasks: list[_Task]) -> Figure | None:
    if not tasks:
        return None
    figure, axes = _panels(len(tasks))
    for task, ax in zip(tasks, axes, strict=True):
        size = len(task.labels)
        counts = np.zeros((size, size))
        np.add.at(counts, (task.truth, task.predicted), 1)
        totals = counts.sum(axis=1, keepdims=True)
        shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
        ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            if totals[row, 0]:
                colour = "white" if share > 0.55 else "black"
                ax.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=8, color=colour)
        ax.set_xticks(range(size), task.labels, rotation=60, ha="right", fontsize=8)
        ax.set_yticks(range(size), task.labels, fontsize=8)
        ax.set(title=f"{task.name} (n = {len(task.truth):,})", xlabel="predicted")
    axes[0].set_ylabel("labelled")
    figure.suptitle("Of the faces labelled so, per cent predicted so")
    return figure


def _reliability(tasks: list[_Task]) -> Figure | None:
    if not tasks:
        return None
    figure, axes = _panels(len(tasks))
    for task, ax in zip(tasks, axes, strict=True):
        bins = np.minimum((task.confidence * _BINS).astype(int), _BINS - 1)
        points = [
            (task.confidence[bins == k].mean(), task.hits[bins == k].mean(), (bins == k).mean())
            for k in range(_BINS)
            if (bins == k).any()
        ]
        x, y, share = np.array(points).T
        ax.plot([0, 1], [0, 1], color=_GREY, linewidth=1)
        ax.plot(x, y, color=_BLUE, linewidth=1)
        ax.scatter(x, y, s=20 + 400 * share, color=_BLUE, alpha=0.7)
        ax.set(title=task.name, xlabel="confidence", xlim=(0, 1), ylim=(0, 1))
    axes[0].set_ylabel("share that is right")
    figure.suptitle("How far the probabilities hold (the larger the dot, the more faces)")
    return figure


def _abstention(tasks: list[_Task]) -> Figure | None:
    if not tasks:
        return None
    figure, axes = _panels(1, 4.6)
    for task in tasks:
        order = np.argsort(-task.confidence, kind="stable")
        covered = np.arange(1, len(order) + 1)
        accuracy = np.cumsum(task.hits[order]) / covered
        shown = covered >= min(50, len(order))  # the first few faces are mostly chance
        name = "age group" if task.name == "age" else task.name
        axes[0].plot(100 * covered[shown] / len(order), 100 * accuracy[shown], label=name)
    axes[0].set(xlabel="faces that get a label, %", ylabel="of these, right, %", xlim=(0, 100), ylim=(None, 101))
    axes[0].set_title("What abstaining below a confidence buys")
    axes[0].legend(frameon=False)
    axes[0].grid(alpha=0.3)
    return figure


def _age_error(probabilities: Probabilities, faces: LabelledFaces) -> Figure | None:
    exact = faces.exactly_aged()
    if "age" not in probabilities or not exact.any():
        return None
    figure, axes = _panels(1, 4.6)
    truth, age = faces.age_range[exact, 0], expected_age(probabilities["age"][exact])
    decades = np.minimum(truth // 10, len(AGE_GROUPS) - 1).astype(int)
    errors = [(age - truth)[decades == k] for k in range(len(AGE_GROUPS))]
    labels = [f"{name}\nn = {len(error):,}" for name, error in zip(AGE_GROUPS, errors, strict=True)]
    present = [k for k, error in enumerate(errors) if len(error)]
    axes[0].axhline(0, color=_GREY, linewidth=1)
    box = axes[0].boxplot(
        [errors[k] for k in present], positions=present, widths=0.6, showfliers=False, whis=(10, 90), patch_artist=True
    )
    for patch in box["boxes"]:
        patch.set(facecolor="#c9d8e6", edgecolor=_BLUE)
    axes[0].set_xticks(range(len(labels)), labels, fontsize=8)
    axes[0].set(ylabel="predicted minus labelled age, years", xlabel="labelled age")
    axes[0].set_title("Error by age (box: middle half; whiskers: middle 80 %)")
    axes[0].grid(axis="y", alpha=0.3)
    return figure


def _groups(rows: list[dict[str, Any]]) -> Figure | None:
    figures = [
        ("gender_accuracy", "gender, right %", 100.0),
        ("ethnicity_accuracy", "ethnicity, right %", 100.0),
        ("age_mae", "age, mean error in years", 1.0),
    ]
    names = ("age_group", "gender", "ethnicity")
    combined = [row for row in rows if all(row[name] != "all" for name in names) and row["n"] >= SMALLEST_GROUP]
    single = [row for row in rows if sum(row[name] != "all" for name in names) == 1 and row["n"] >= SMALLEST_GROUP]
    shown = single + combined
    if not shown:
        return None
    figure, axes = _panels(len(figures), 0.17 * len(shown) + 1.5)
    labels = [f"{', '.join(row[n] for n in names if row[n] != 'all')} ({row['n']})" for row in shown]
    for (figure_name, title, scale), ax in zip(figures, axes, strict=True):
        for place, row in enumerate(shown):
            if row[figure_name]:
                value, low, high = (scale * row[figure_name][key] for key in ("value", "low", "high"))
                ax.barh(place, value, color=_BLUE if place < len(single) else "#8fb0cc")
                ax.plot([low, high], [place, place], color=_RED, linewidth=1.2)
        ax.set_yticks(range(len(labels)), labels if ax is axes[0] else [], fontsize=6)
        ax.set(title=title, ylim=(len(shown) - 0.4, -0.6))
        ax.grid(axis="x", alpha=0.3)
    figure.suptitle(f"Groups of {SMALLEST_GROUP} or more labelled faces, with 95 % intervals")
    return figure
