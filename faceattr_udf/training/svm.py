"""Training of `embedding_svm`: scikit-learn's SVC on the embedding of `multitask_facenet`, exported as plain arrays."""

from itertools import combinations, product
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from sklearn.svm import SVC

from faceattr_udf.arrays import Float32Array, Int64Array
from faceattr_udf.attributes.predictor import EMBEDDING, NetworkPredictor, years_within_groups
from faceattr_udf.attributes.svm import RbfSvm
from faceattr_udf.datasets.labeled_faces import UNLABELED, LabeledFaces
from faceattr_udf.errors import SchemaError
from faceattr_udf.evaluation.metrics import age_group_index
from faceattr_udf.evaluation.predict import predict_in_batches
from faceattr_udf.labels import AGE_GROUPS, ATTRIBUTES, CLASSES, MAX_AGE
from faceattr_udf.models import MODELS
from faceattr_udf.training.calibrate import fit_class_temperature, source_weights
from faceattr_udf.training.export.record import CLASS_LABELS, LICENSE, write_record
from faceattr_udf.training.log import Log
from faceattr_udf.training.settings import SvmSettings, TrainingSettings
from faceattr_udf.weights import WeightsRecord


def from_sklearn(model: SVC, classes: int) -> RbfSvm:
    """Converts a fitted SVC with an RBF kernel and a numeric gamma.

    Args:
        model: Fitted on labels 0 to classes - 1, each of which occurred.
        classes: Number of classes.
    """
    ends = np.cumsum(model.n_support_)
    members = [slice(end - count, end) for end, count in zip(ends, model.n_support_, strict=True)]
    coefficients = np.zeros((len(model.support_vectors_), len(model.intercept_)), dtype=np.float32)
    if classes == 2:
        # With two classes scikit-learn flips the sign: positive means the second class.
        coefficients[:, 0] = -model.dual_coef_[0]
        intercepts = -model.intercept_
    else:
        intercepts = model.intercept_
        for column, (first, second) in enumerate(combinations(range(classes), 2)):
            coefficients[members[first], column] = model.dual_coef_[second - 1, members[first]]
            coefficients[members[second], column] = model.dual_coef_[first, members[second]]
    vectors, intercepts = (np.asarray(array, dtype=np.float32) for array in (model.support_vectors_, intercepts))
    return RbfSvm(vectors, coefficients, intercepts, float(model.gamma), classes)


def grid_search(
    points: Float32Array,
    labels: Int64Array,
    validation: tuple[Float32Array, Int64Array],
    classes: int,
    settings: SvmSettings,
) -> tuple[RbfSvm, dict[str, float]]:
    """Fits an SVM for every pair of penalty and gamma and returns the one with the highest mean recall on validation.

    Args:
        points: float32 (n, d), embeddings of training faces.
        labels: int64 (n,), 0 to classes - 1.
        validation: Embeddings and labels of validation faces; -1 where unlabeled.
        classes: Number of classes.
        settings: Candidates for penalty and gamma.

    Returns:
        The SVM, and its penalty, gamma, mean recall and number of support vectors.

    Raises:
        SchemaError: A class has no training face.
    """
    present = np.unique(labels)
    if len(present) < classes:
        msg = f"embedding_svm needs training faces of all {classes} classes, but found {len(present)}; add faces"
        raise SchemaError(msg)
    known = validation[1] != UNLABELED
    best: tuple[RbfSvm, dict[str, float]] | None = None
    for penalty, gamma in product(settings.c, settings.gamma):
        model = SVC(C=penalty, gamma=gamma, class_weight="balanced", cache_size=1000)
        svm = from_sklearn(model.fit(points, labels), classes)
        hits = svm.decision_function(validation[0][known]).argmax(axis=1) == validation[1][known]
        recalls = [hits[validation[1][known] == k].mean() for k in np.unique(validation[1][known])]
        score = float(np.mean(recalls)) if recalls else 0.0
        if best is None or score > best[1]["mean_recall"]:
            chosen = {"c": penalty, "gamma": gamma, "mean_recall": score, "support_vectors": len(svm.vectors)}
            best = (svm, chosen)
    assert best is not None  # noqa: S101 - the settings hold at least one penalty and one gamma
    return best


def train_svm(
    faces: LabeledFaces, validation: LabeledFaces, settings: TrainingSettings, log: Log, output: Path
) -> WeightsRecord:
    """Fits one SVM per attribute on embeddings, and writes its arrays and their record.

    Args:
        faces: Training faces, cropped as the embedding's record says.
        validation: Faces that choose penalty and gamma, cropped in the same way.
        settings: Settings of the run.
        log: Receives the choice of each attribute.
        output: Folder of the two files.

    Raises:
        WeightsError: The embedding's weights are missing.
        SchemaError: A class has no training face.
    """
    embedder = NetworkPredictor(MODELS["multitask_facenet"].weights, settings.svm.embedding, threads=2)
    labels = {attribute: _class_indices(faces, attribute) for attribute in ATTRIBUTES}
    random = np.random.default_rng(settings.seed)
    taken = {
        attribute: random.permutation(np.flatnonzero(values != UNLABELED))[: settings.svm.max_faces]
        for attribute, values in labels.items()
    }
    # Only faces that some SVM is trained on are embedded.
    union = np.unique(np.concatenate(list(taken.values())))
    points = predict_in_batches(embedder, faces.take(union))[EMBEDDING]
    held_out = predict_in_batches(embedder, validation)[EMBEDDING]
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    chosen, temperatures = {}, {}
    for attribute in ATTRIBUTES:
        classes = len(AGE_GROUPS) if attribute == "age" else len(CLASSES[attribute])
        held_out_labels = _class_indices(validation, attribute)
        own_points = points[np.searchsorted(union, taken[attribute])]
        svm, chosen[attribute] = grid_search(
            own_points, labels[attribute][taken[attribute]], (held_out, held_out_labels), classes, settings.svm
        )
        known = held_out_labels != UNLABELED
        temperatures[attribute] = fit_class_temperature(
            svm.decision_function(held_out[known]),
            np.eye(classes, dtype=bool)[held_out_labels[known]],
            source_weights(validation.source[known]),
        )
        arrays |= svm.to_arrays(attribute)
        log({"attribute": attribute, **chosen[attribute]})
    arrays["age.years"] = years_within_groups(faces.age_range[faces.has_exact_age(), 0], MAX_AGE + 1)
    backbone = f"{embedder.record.name}-{embedder.record.version}"
    # The embedding's version is part of the file, so that another embedding changes its checksum and the version.
    save_file(arrays, output / f"{settings.name}.safetensors", metadata={"backbone": backbone})
    record = WeightsRecord(
        name=settings.name,
        version="",
        sha256={},
        task="attributes",
        architecture=MODELS["embedding_svm"].architecture,
        input_size=embedder.record.input_size,
        margin=embedder.record.margin,
        normalisation=embedder.record.normalisation,
        classes=CLASS_LABELS,
        embedding=True,
        backbone=backbone,
        temperatures=temperatures,
        licence=LICENSE,
        training={
            "chosen": chosen,
            "parameters": embedder.record.training["parameters"] + sum(array.size for array in arrays.values()),
        },
    )
    return write_record(output, record, ("safetensors",))


def _class_indices(faces: LabeledFaces, attribute: str) -> Int64Array:
    """Returns the class of each face, (n,): -1 where it has no label or a coarse one."""
    if attribute == "age":
        return age_group_index(faces)
    labels = faces.labels[attribute]
    return np.where(labels < len(CLASSES[attribute]), labels, UNLABELED)
