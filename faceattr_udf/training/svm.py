"""Training of `embedding_svm`: scikit-learn's SVC on the embedding of `multitask_facenet`, kept as plain arrays."""

from collections.abc import Callable
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from sklearn.svm import SVC

from faceattr_udf.attributes.labels import AGE_GROUPS, ATTRIBUTES, CLASSES, MAX_AGE
from faceattr_udf.attributes.predictor import EMBEDDING, GraphPredictor, year_shares
from faceattr_udf.attributes.svm import RbfSvm
from faceattr_udf.datasets.labelled_faces import UNLABELLED, LabelledFaces
from faceattr_udf.errors import SchemaError
from faceattr_udf.evaluation.metrics import age_group_index
from faceattr_udf.evaluation.predict import predict_in_batches
from faceattr_udf.training.calibrate import class_temperature
from faceattr_udf.training.export.openvino_graph import write_record
from faceattr_udf.training.export.save import CLASS_LABELS, LICENCE, TRAINING_DATA
from faceattr_udf.training.settings import TrainingSettings
from faceattr_udf.weights import WeightsRecord

FloatArray = npt.NDArray[np.float32]
Log = Callable[[dict[str, Any]], None]


def from_sklearn(model: SVC, classes: int) -> RbfSvm:
    """Takes the arrays out of a fitted SVC with an RBF kernel and a number as gamma.

    Args:
        model: Fitted on labels 0 to classes - 1, all of which occurred.
        classes: How many.
    """
    ends = np.cumsum(model.n_support_)
    members = [slice(end - count, end) for end, count in zip(ends, model.n_support_, strict=True)]
    coefficients = np.zeros((len(model.support_vectors_), len(model.intercept_)), dtype=np.float32)
    if classes == 2:
        # Of two classes scikit-learn turns the sign: positive means the second.
        coefficients[:, 0] = -model.dual_coef_[0]
        intercepts = -model.intercept_
    else:
        intercepts = model.intercept_
        for column, (first, second) in enumerate(combinations(range(classes), 2)):
            coefficients[members[first], column] = model.dual_coef_[second - 1, members[first]]
            coefficients[members[second], column] = model.dual_coef_[first, members[second]]
    vectors, intercepts = (np.asarray(array, dtype=np.float32) for array in (model.support_vectors_, intercepts))
    return RbfSvm(vectors, coefficients, intercepts, float(model.gamma), classes)


def fit(
    points: FloatArray,
    labels: npt.NDArray[np.int64],
    validation: tuple[FloatArray, npt.NDArray[np.int64]],
    classes: int,
    settings: TrainingSettings,
) -> tuple[RbfSvm, dict[str, float]]:
    """Fits an SVM for every pair of penalty and gamma, and keeps the one with the highest mean recall on validation.

    Args:
        points: float32 (n, d), of training faces.
        labels: int64 (n,), 0 to classes - 1.
        validation: The same of validation faces; -1 where unlabelled.
        classes: How many.
        settings: Penalties and widths.

    Returns:
        The machine and what was chosen.

    Raises:
        SchemaError: A class has no training face.
    """
    present = np.unique(labels)
    if len(present) < classes:
        msg = f"embedding_svm needs training faces of each of {classes} classes, these have {len(present)}; add some"
        raise SchemaError(msg)
    known = validation[1] != UNLABELLED
    best: tuple[RbfSvm, dict[str, float]] | None = None
    for penalty, gamma in product(settings.svm.c, settings.svm.gamma):
        model = SVC(C=penalty, gamma=gamma, class_weight="balanced", cache_size=1000)
        machine = from_sklearn(model.fit(points, labels), classes)
        hits = machine.decide(validation[0][known]).argmax(axis=1) == validation[1][known]
        recalls = [hits[validation[1][known] == k].mean() for k in np.unique(validation[1][known])]
        score = float(np.mean(recalls)) if recalls else 0.0
        if best is None or score > best[1]["mean_recall"]:
            figures = {"c": penalty, "gamma": gamma, "mean_recall": score, "support_vectors": len(machine.vectors)}
            best = (machine, figures)
    assert best is not None  # noqa: S101 - the settings hold at least one penalty and one gamma
    return best


def labels_of(faces: LabelledFaces, attribute: str) -> npt.NDArray[np.int64]:
    """What the machine of an attribute learns."""
    return age_group_index(faces) if attribute == "age" else faces.labels[attribute]


def train_svm(
    faces: LabelledFaces, validation: LabelledFaces, settings: TrainingSettings, log: Log, output: Path
) -> WeightsRecord:
    """Fits one machine per attribute on embeddings, and writes arrays and record.

    Args:
        faces: Training faces, cut as the embedding's record says; so are the others.
        validation: Chooses penalty and gamma.
        settings: Of the run.
        log: Takes the figures of each attribute.
        output: Folder of the two files.

    Raises:
        WeightsError: The embedding's weights are missing.
        SchemaError: A class has no training face.
    """
    embedder = GraphPredictor("attributes_multitask_facenet", settings.svm.embedding, threads=2)
    labels = {attribute: labels_of(faces, attribute) for attribute in ATTRIBUTES}
    random = np.random.default_rng(settings.seed)
    taken = {
        attribute: random.permutation(np.flatnonzero(values != UNLABELLED))[: settings.svm.faces]
        for attribute, values in labels.items()
    }
    # Only faces that some machine learns from go through the network.
    union = np.unique(np.concatenate(list(taken.values())))
    points = predict_in_batches(embedder, faces.take(union))[EMBEDDING]
    held_out = predict_in_batches(embedder, validation)[EMBEDDING]
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    chosen, temperature = {}, {}
    for attribute in ATTRIBUTES:
        classes = len(AGE_GROUPS) if attribute == "age" else len(CLASSES[attribute])
        held_out_labels = labels_of(validation, attribute)
        mine = points[np.searchsorted(union, taken[attribute])]
        machine, chosen[attribute] = fit(
            mine, labels[attribute][taken[attribute]], (held_out, held_out_labels), classes, settings
        )
        temperature[attribute] = class_temperature(machine.decide(held_out), held_out_labels)
        arrays |= machine.arrays(attribute)
        log({"attribute": attribute, **chosen[attribute]})
    arrays["age.years"] = year_shares(faces.age_range[faces.exactly_aged(), 0], MAX_AGE + 1)
    backbone = f"{embedder.record.name}-{embedder.record.version}"
    # The embedding's version is among the bytes, so that another embedding makes another version.
    save_file(arrays, output / f"{settings.name}.safetensors", metadata={"backbone": backbone})
    record = WeightsRecord(
        name=settings.name,
        version="",
        sha256={},
        task="attributes",
        architecture="faceattr_udf.attributes.svm.RbfSvm",
        input_size=embedder.record.input_size,
        margin=embedder.record.margin,
        normalisation=embedder.record.normalisation,
        classes=CLASS_LABELS,
        embedding=True,
        backbone=backbone,
        temperatures=temperature,
        licence=LICENCE,
        training_data=TRAINING_DATA,
        training={
            "chosen": chosen,
            "parameters": embedder.record.training["parameters"] + sum(array.size for array in arrays.values()),
        },
    )
    return write_record(output, record, ("safetensors",))
