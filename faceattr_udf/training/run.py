"""One training run from labelled faces to weights: cut, train, calibrate, export, measure what was exported."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from faceattr_udf.attributes.labels import CLASSES
from faceattr_udf.attributes.predictor import AttributePredictor, GraphPredictor, SvmPredictor
from faceattr_udf.datasets.labelled_faces import LabelledFaces, load_faces, read_table
from faceattr_udf.evaluation.predict import predict_in_batches
from faceattr_udf.evaluation.report import report
from faceattr_udf.networks.towers import SMALLEST_PROBABILITY
from faceattr_udf.training.calibrate import temperatures
from faceattr_udf.training.data.augment import ROOM, center_window, source_margin
from faceattr_udf.training.distillation import SoftLabels, soft_labels, where_unlabelled
from faceattr_udf.training.export.openvino_graph import write_record
from faceattr_udf.training.export.save import calibrate, save_weights
from faceattr_udf.training.loop import Log, train, validate
from faceattr_udf.training.registry import SYSTEMS, start
from faceattr_udf.training.search import search_totals
from faceattr_udf.training.settings import TrainingSettings
from faceattr_udf.weights import WeightsRecord, load_record

SPLITS = ("train", "val", "test")
_LOG_LINES = 24
_SAMPLE = 300


def run(
    settings: TrainingSettings, data: Path, output: Path, tell: Callable[[str], None], cache: Path | None = None
) -> WeightsRecord:
    """Trains the configured model; a run that was interrupted goes on from its last checkpoint.

    Args:
        settings: Of the run.
        data: Folder of faces-train, faces-val and faces-test.parquet.
        output: Folder of the weights files and the log, NAME.train.jsonl.
        tell: Takes the lines of the log as they come.
        cache: Folder that keeps cut faces between runs.

    Returns:
        The record of the weights as written.

    Raises:
        FaceattrError: Configuration, data or initial weights are wrong.
    """
    tables = {split: read_table(data / f"faces-{split}.parquet") for split in SPLITS}
    if settings.limit:
        tables = {split: table.slice(0, settings.limit) for split, table in tables.items()}
    output.mkdir(parents=True, exist_ok=True)
    log_file = output / f"{settings.name}.train.jsonl"

    def log(figures: dict[str, Any]) -> None:
        line = json.dumps(figures)
        tell(line)
        with log_file.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def cut(split: str, size: int, margin: float, *, grayscale: bool) -> LabelledFaces:
        stem = f"{split}-{size}-{margin:.3f}{'-grey' if grayscale else ''}"
        return load_faces(tables[split], size, margin, grayscale=grayscale, cache=cache / stem if cache else None)

    if settings.model == "embedding_svm":
        record, predictor, faces = _run_svm(settings, cut, log, output)
    else:
        record, predictor, faces = _run_network(settings, cut, log, output)
    # What is measured is what ships: the exported files.
    measured = {split: report(predict_in_batches(predictor, faces[split]), faces[split]) for split in ("val", "test")}
    measured["val"] = {name: measured["val"][name] for name in ("overall", "by_source")}
    training = {
        **record.training,
        "command": "python -m jobs.train",
        "settings": settings.model_dump(mode="json"),
        "faces": len(faces["train"]),
        "log": _thinned(log_file),
    }
    finished = record.model_copy(update={"training": training, "measured": measured})
    return write_record(output, finished, [name.rpartition(".")[2] for name in record.sha256])


Cut = Callable[..., LabelledFaces]


def _run_network(
    settings: TrainingSettings, cut: Cut, log: Log, output: Path
) -> tuple[WeightsRecord, AttributePredictor, dict[str, LabelledFaces]]:
    system = SYSTEMS[settings.model]
    size, grayscale = system.input_size, system.grayscale
    faces = {"train": cut("train", round(size * ROOM), source_margin(settings.margin), grayscale=grayscale)}
    faces |= {split: cut(split, size, settings.margin, grayscale=grayscale) for split in ("val", "test")}
    checkpoint = output / f"{settings.name}.checkpoint.pt"
    settings = _searched(settings, faces, log, output / f"{settings.name}.totals.json")

    def faces_for(teacher: WeightsRecord) -> LabelledFaces:
        if (teacher.margin, teacher.grayscale) == (settings.margin, grayscale):
            return faces["train"]
        room = round(teacher.input_size * ROOM)
        return cut("train", room, source_margin(teacher.margin), grayscale=teacher.grayscale)

    network = train(
        start(settings, faces["train"]),
        system.objective(settings),
        faces["train"],
        settings,
        size=size,
        log=log,
        soft=_taught(settings, faces["train"], faces_for, output / f"{settings.name}.teachers.npz"),
        validation=faces["val"],
        checkpoint=checkpoint,
    )
    record = save_weights(
        network,
        settings.model,
        output,
        settings.name,
        margin=settings.margin,
        faces=_sample(faces["train"], size, settings.seed),
        training={
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "task_weights": settings.task_weights,
            **_origin(settings),
        },
    )
    # Calibrated on what the graph gives, whose 8 bits the network in torch does not have.
    uncalibrated = predict_in_batches(GraphPredictor(settings.name, output, threads=2), faces["val"])
    logits = {name: np.log(np.maximum(values, SMALLEST_PROBABILITY)) for name, values in uncalibrated.items()}
    record = calibrate(record, output, temperatures(logits, faces["val"]))
    return record, GraphPredictor(settings.name, output, threads=2), faces


def _taught(
    settings: TrainingSettings, faces: LabelledFaces, faces_for: Callable[[WeightsRecord], LabelledFaces], file: Path
) -> SoftLabels | None:
    """What the teachers say, kept in a file: a run that goes on after an interruption need not ask them again."""
    if not settings.teachers:
        return None
    if not file.exists():
        said = soft_labels([Path(name) for name in settings.teachers], faces_for)
        if settings.unlabelled_teachers:
            instead = soft_labels([Path(name) for name in settings.unlabelled_teachers], faces_for)
            said = where_unlabelled(said, instead, faces)
        partial = file.with_suffix(".part.npz")
        np.savez(partial, **said)  # type: ignore[arg-type]
        partial.replace(file)
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def _sample(faces: LabelledFaces, size: int, seed: int) -> npt.NDArray[np.uint8]:
    order = np.random.default_rng(seed).permutation(len(faces))[:_SAMPLE]
    return center_window(faces.take(np.sort(order)).crops, size)


def _run_svm(
    settings: TrainingSettings, cut: Cut, log: Log, output: Path
) -> tuple[WeightsRecord, AttributePredictor, dict[str, LabelledFaces]]:
    from faceattr_udf.training.svm import train_svm  # noqa: PLC0415 - scikit-learn is needed for this model alone

    embedding = load_record("attributes_multitask_facenet", settings.svm.embedding)
    faces = {split: cut(split, embedding.input_size, embedding.margin, grayscale=False) for split in SPLITS}
    record = train_svm(faces["train"], faces["val"], settings, log, output)
    return record, SvmPredictor(settings.name, output, threads=2, embedding=settings.svm.embedding), faces


def _searched(
    settings: TrainingSettings, faces: Mapping[str, LabelledFaces], log: Log, found: Path
) -> TrainingSettings:
    """The settings with the total weights that a search on the validation faces finds, where one is asked for.

    What was found is kept in a file, so that a run that goes on after an interruption goes on with the same weights.
    """
    if not settings.facenet.search:
        return settings
    if found.exists():
        return settings.model_copy(update={"task_weights": json.loads(found.read_text(encoding="utf-8"))})
    order = np.random.default_rng(settings.seed).permutation(len(faces["val"]))
    judges = faces["val"].take(np.sort(order[: settings.facenet.search_faces]))

    def score(totals: Mapping[str, float]) -> float:
        trial = settings.model_copy(
            update={"task_weights": dict(totals), "epochs": settings.facenet.search_epochs, "validations": 0}
        )
        network = start(trial, faces["train"])
        system = SYSTEMS[settings.model]
        trained = train(
            network, system.objective(trial), faces["train"], trial, size=system.input_size, log=lambda _: None
        )
        return figure_of_merit(validate(trained, judges))

    best = search_totals(score, settings.task_weights, settings.facenet.search, log)
    found.write_text(json.dumps(best), encoding="utf-8")
    return settings.model_copy(update={"task_weights": best})


def figure_of_merit(scores: Mapping[str, Any]) -> float:
    """One number for a network's figures on validation faces: the mean of its accuracies, with age as one.

    Twenty years of mean error count as nothing right, none as everything.

    >>> round(figure_of_merit({"age_mae": 5.0, "gender_accuracy": 0.9, "emotion_accuracy": None}), 4)
    0.825
    """
    accuracies = [scores.get(f"{name}_accuracy") for name in CLASSES]
    parts = [accuracy for accuracy in accuracies if accuracy is not None]
    if scores.get("age_mae") is not None:
        parts.append(max(0.0, 1.0 - scores["age_mae"] / 20.0))
    return float(np.mean(parts)) if parts else 0.0


def _origin(settings: TrainingSettings) -> dict[str, Any]:
    """How the run's initial weights were made, where a record lies beside them, and how its teachers were."""
    origin: dict[str, Any] = {}
    for name, file in (("initial", settings.initial), ("emotion", settings.emotion_from)):
        if file and file.endswith(".safetensors") and Path(file).with_suffix(".json").exists():
            origin[name] = _made(Path(file))
    for name, files in (("teachers", settings.teachers), ("unlabelled_teachers", settings.unlabelled_teachers)):
        if files:
            origin[name] = [_made(Path(file)) for file in files]
    return origin


def _made(weights: Path) -> dict[str, Any]:
    record = load_record(weights.stem, weights.parent)
    return {"model_version": record.model_version, **record.training}


def _thinned(log_file: Path) -> list[dict[str, Any]]:
    """Some steps of the log, evenly spaced, the last among them, and all validations: what the record keeps."""
    if not log_file.exists():
        return []
    lines = [json.loads(line) for line in log_file.read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if "step" in line]
    others = [line for line in lines if "step" not in line and "resumed_at_step" not in line]
    stride = max(1, len(steps) // _LOG_LINES)
    kept = [{k: v for k, v in line.items() if k != "faces_per_s"} for line in steps[::-1][::stride][::-1]]
    return kept + others
