"""A training run, from labeled faces to weights: crop, train, export, calibrate, measure."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceattr_udf.arrays import UInt8Array
from faceattr_udf.attributes.predictor import AttributePredictor, NetworkPredictor, SvmPredictor
from faceattr_udf.datasets.labeled_faces import LabeledFaces, load_faces, read_tables
from faceattr_udf.errors import ConfigError, TableNotFoundError
from faceattr_udf.evaluation.predict import predict_in_batches
from faceattr_udf.evaluation.report import report
from faceattr_udf.labels import CLASSES
from faceattr_udf.models import MODELS
from faceattr_udf.networks.towers import MIN_PROBABILITY
from faceattr_udf.training.calibrate import fit_temperatures
from faceattr_udf.training.data.augment import TRAINING_CROP_SCALE, center_crop, training_margin
from faceattr_udf.training.data.loader import TrainingData
from faceattr_udf.training.data.votes import read_votes
from faceattr_udf.training.distillation import SoftLabels, merge_soft_labels, predict_soft_labels
from faceattr_udf.training.export.record import training_data, write_record
from faceattr_udf.training.export.save import calibrate, save_weights
from faceattr_udf.training.interpolation import interpolate
from faceattr_udf.training.log import Log, json_lines_log, summarize_log
from faceattr_udf.training.loop import train, validate
from faceattr_udf.training.registry import TRAINING_SPECS, initialize_network
from faceattr_udf.training.search import coordinate_search
from faceattr_udf.training.settings import DataSettings, TrainingSettings
from faceattr_udf.weights import WeightsRecord, load_record

SPLITS = ("train", "val", "test")
_QUANTIZATION_CROPS = 300


@dataclass(frozen=True, slots=True)
class _Splits:
    """The labeled faces of all splits.

    Attributes:
        tables: Split -> loose crops with labels.
        cache: Folder that keeps crops between runs; None keeps nothing.
    """

    tables: Mapping[str, pa.Table]
    cache: Path | None

    def crop(self, split: str, size: int, margin: float, *, grayscale: bool) -> LabeledFaces:
        """Crops the faces of a split; see `load_faces`."""
        stem = f"{split}-{size}-{margin:.3f}{'-grey' if grayscale else ''}"
        cache = self.cache / stem if self.cache else None
        return load_faces(self.tables[split], size, margin, grayscale=grayscale, cache=cache)


@dataclass(frozen=True, slots=True)
class _Trained:
    """Exported weights, their predictor and the faces of all splits."""

    record: WeightsRecord
    predictor: AttributePredictor
    faces: Mapping[str, LabeledFaces]


def run(
    settings: TrainingSettings,
    data: Sequence[Path],
    output: Path,
    show: Callable[[str], None],
    cache: Path | None = None,
) -> WeightsRecord:
    """Trains the configured model, or resumes an interrupted run from its checkpoint.

    Args:
        settings: Settings of the run.
        data: Folders of files *-train.parquet, *-val.parquet and *-test.parquet.
        output: Folder of the weights and the log, NAME.train.jsonl.
        show: Receives the lines of the log.
        cache: Folder that keeps face crops between runs.

    Returns:
        The record of the weights as written.

    Raises:
        FaceattrError: Settings, data or initial weights are wrong.
    """
    tables = {split: _read_split(split, data, settings.data) for split in SPLITS}
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"output folder {output} cannot be written ({error.strerror}); name one that you may write to"
        raise ConfigError(msg) from error
    log_file = output / f"{settings.name}.train.jsonl"
    train_model = _train_svm if MODELS[settings.model].kind == "svm" else _train_network
    trained = train_model(settings, _Splits(tables, cache), json_lines_log(log_file, show), output)
    # The exported files are measured, not the network in torch.
    measured = {
        split: report(predict_in_batches(trained.predictor, trained.faces[split]), trained.faces[split])
        for split in ("val", "test")
    }
    measured["val"] = {name: measured["val"][name] for name in ("overall", "by_source")}
    training = {
        **trained.record.training,
        "command": "python -m jobs.train",
        "settings": settings.for_record(),
        "faces": len(trained.faces["train"]),
        "log": summarize_log(log_file),
    }
    record = trained.record.model_copy(
        update={
            "training": training,
            "training_data": _training_data(settings, trained.faces["train"]),
            "measured": measured,
        }
    )
    return write_record(output, record, [name.rpartition(".")[2] for name in record.sha256])


def _training_data(settings: TrainingSettings, faces: LabeledFaces) -> list[str]:
    """Returns the data sets of this run and of the runs that its initial weights come from."""
    seen = training_data(name for name in np.unique(faces.source).tolist() if settings.data.sources.get(name, 1.0) > 0)
    for file in (settings.initial, settings.emotion_from):
        if file and (record := _record_of(Path(file))):
            seen += [name for name in record.training_data if name not in seen]
    return seen


def _record_of(weights: Path) -> WeightsRecord | None:
    """Returns the record beside a safetensors file; None where there is none."""
    known = weights.suffix == ".safetensors" and weights.with_suffix(".json").exists()
    return load_record(weights.stem, weights.parent) if known else None


def _read_split(split: str, folders: Sequence[Path], settings: DataSettings) -> pa.Table:
    files = [file for folder in folders for file in sorted(folder.glob(f"*-{split}.parquet"))]
    if not files:
        msg = f"no *-{split}.parquet in {', '.join(map(str, folders))}; training needs the splits {', '.join(SPLITS)}"
        raise TableNotFoundError(msg)
    table = read_tables(files)
    if settings.excluded:
        path = Path(settings.excluded)
        if not path.exists():
            msg = f"train.data.excluded = {path} not found; name a text file with one image_id per line"
            raise TableNotFoundError(msg)
        excluded = pa.array(path.read_text(encoding="utf-8").split(), type=table.schema.field("image_id").type)
        table = table.filter(pc.invert(pc.is_in(table["image_id"], value_set=excluded)))
    return table.slice(0, settings.max_samples) if settings.max_samples else table


def validation_score(metrics: Mapping[str, Any]) -> float:
    """Returns the mean of a network's accuracies, with a mean age error of 0 years as 1 and of 20 years as 0.

    >>> round(validation_score({"age_mae": 5.0, "gender_accuracy": 0.9, "emotion_accuracy": None}), 4)
    0.825
    """
    accuracies = [metrics.get(f"{name}_accuracy") for name in CLASSES]
    parts = [accuracy for accuracy in accuracies if accuracy is not None]
    if metrics.get("age_mae") is not None:
        parts.append(max(0.0, 1.0 - metrics["age_mae"] / 20.0))
    return float(np.mean(parts)) if parts else 0.0


def _train_network(settings: TrainingSettings, splits: _Splits, log: Log, output: Path) -> _Trained:
    spec = TRAINING_SPECS[settings.model]
    size, margin, grayscale = spec.input_size, settings.data.margin, spec.grayscale

    def training_crops(input_size: int, margin: float, *, grayscale: bool) -> LabeledFaces:
        side = round(input_size * TRAINING_CROP_SCALE)
        return splits.crop("train", side, training_margin(margin), grayscale=grayscale)

    def crops_for_teacher(teacher: WeightsRecord) -> LabeledFaces:
        if (teacher.margin, teacher.grayscale) == (margin, grayscale):
            return faces["train"]
        return training_crops(teacher.input_size, teacher.margin, grayscale=teacher.grayscale)

    faces = {"train": training_crops(size, margin, grayscale=grayscale)}
    faces |= {split: splits.crop(split, size, margin, grayscale=grayscale) for split in ("val", "test")}
    settings = _search_task_weights(settings, faces, log, output / f"{settings.name}.totals.json")
    initial = initialize_network(settings, faces["train"])
    votes = read_votes(Path(settings.data.votes), faces["train"]) if settings.data.votes else {}
    soft_labels = _soft_labels(settings, faces["train"], crops_for_teacher, output / f"{settings.name}.teachers.npz")
    network = train(
        initial,
        spec.objective(settings),
        TrainingData(faces["train"], votes, soft_labels, faces["val"]),
        settings,
        size=size,
        log=log,
        checkpoint=output / f"{settings.name}.checkpoint.pt",
    )
    if settings.interpolation.weights:
        interpolate(network, Path(settings.interpolation.weights), settings.interpolation.share, f"{settings.branch}.")
    training = {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "task_weights": settings.loss.task_weights,
        **_provenance(settings),
    }
    crops = _quantization_crops(faces["train"], size, settings.seed)
    record = save_weights(network, settings, output, crops=crops, training=training)
    # Calibrated on the outputs of the graph, whose quantization the network in torch lacks.
    uncalibrated = predict_in_batches(NetworkPredictor(settings.name, output, threads=2), faces["val"])
    logits = {name: np.log(np.maximum(values, MIN_PROBABILITY)) for name, values in uncalibrated.items()}
    record = calibrate(record, output, fit_temperatures(logits, faces["val"]))
    return _Trained(record, NetworkPredictor(settings.name, output, threads=2), faces)


def _train_svm(settings: TrainingSettings, splits: _Splits, log: Log, output: Path) -> _Trained:
    from faceattr_udf.training.svm import train_svm  # noqa: PLC0415 - only this model needs scikit-learn

    embedding = load_record(MODELS["multitask_facenet"].weights, settings.svm.embedding)
    faces = {split: splits.crop(split, embedding.input_size, embedding.margin, grayscale=False) for split in SPLITS}
    record = train_svm(faces["train"], faces["val"], settings, log, output)
    return _Trained(record, SvmPredictor(settings.name, output, threads=2, embedding=settings.svm.embedding), faces)


def _soft_labels(
    settings: TrainingSettings, faces: LabeledFaces, crops_for: Callable[[WeightsRecord], LabeledFaces], file: Path
) -> SoftLabels:
    """Returns the soft labels of the training faces, kept in a file for a run that resumes; empty without teachers."""
    teachers = settings.distillation
    if not teachers.teachers:
        return {}
    if not file.exists():
        soft_labels = predict_soft_labels([Path(name) for name in teachers.teachers], crops_for)
        if teachers.unlabeled_teachers:
            unlabeled = predict_soft_labels([Path(name) for name in teachers.unlabeled_teachers], crops_for)
            soft_labels = merge_soft_labels(soft_labels, unlabeled, faces)
        partial = file.with_suffix(".part.npz")
        np.savez(partial, **soft_labels)  # type: ignore[arg-type]
        partial.replace(file)
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def _search_task_weights(
    settings: TrainingSettings, faces: Mapping[str, LabeledFaces], log: Log, file: Path
) -> TrainingSettings:
    """Returns the settings with the task weights that the search finds, if the settings ask for a search.

    The weights are kept in a file, so that a run that resumes continues with the same ones.
    """
    facenet = settings.facenet
    if not facenet.search_candidates:
        return settings
    if file.exists():
        return _with_task_weights(settings, json.loads(file.read_text(encoding="utf-8")))
    order = np.random.default_rng(settings.seed).permutation(len(faces["val"]))
    validation = faces["val"].take(np.sort(order[: facenet.search_faces]))
    spec = TRAINING_SPECS[settings.model]

    def score(task_weights: Mapping[str, float]) -> float:
        trial = _with_task_weights(settings, task_weights)
        short = trial.optim.model_copy(update={"epochs": facenet.search_epochs})
        trial = trial.model_copy(update={"optim": short, "num_evals": 0})
        network = initialize_network(trial, faces["train"])
        data = TrainingData(faces["train"])
        network = train(network, spec.objective(trial), data, trial, size=spec.input_size, log=lambda _: None)
        return validation_score(validate(network, validation))

    best = coordinate_search(score, settings.loss.task_weights, facenet.search_candidates, log)
    file.write_text(json.dumps(best), encoding="utf-8")
    return _with_task_weights(settings, best)


def _with_task_weights(settings: TrainingSettings, task_weights: Mapping[str, float]) -> TrainingSettings:
    loss = settings.loss.model_copy(update={"task_weights": dict(task_weights)})
    return settings.model_copy(update={"loss": loss})


def _quantization_crops(faces: LabeledFaces, size: int, seed: int) -> UInt8Array:
    order = np.random.default_rng(seed).permutation(len(faces))[:_QUANTIZATION_CROPS]
    return center_crop(faces.take(np.sort(order)).crops, size)


def _provenance(settings: TrainingSettings) -> dict[str, Any]:
    """Returns how the initial weights of a run and its teachers were trained, from the records beside them."""
    provenance: dict[str, Any] = {}
    for name, file in (("initial", settings.initial), ("emotion", settings.emotion_from)):
        if file and (record := _record_of(Path(file))):
            provenance[name] = {"model_version": record.model_version, **record.training}
    teachers = settings.distillation
    for name, files in (("teachers", teachers.teachers), ("unlabelled_teachers", teachers.unlabeled_teachers)):
        if files:
            records = [load_record(Path(file).stem, Path(file).parent) for file in files]
            provenance[name] = [{"model_version": record.model_version, **record.training} for record in records]
    return provenance
