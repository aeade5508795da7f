"""Distillation: what earlier networks say about the training faces, as targets beside the labels."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from faceattr_udf.attributes.labels import BINS
from faceattr_udf.attributes.predictor import GraphPredictor
from faceattr_udf.errors import WeightsError
from faceattr_udf.evaluation.faces import LabelledFaces
from faceattr_udf.evaluation.predict import predict_in_batches
from faceattr_udf.networks.loading import build
from faceattr_udf.networks.towers import TwoTowers
from faceattr_udf.training.augment import center_window
from faceattr_udf.training.half import bfloat16
from faceattr_udf.weights import WeightsRecord, load_file, load_record

SoftLabels = dict[str, npt.NDArray[np.float16]]


class Teachers:
    """Networks that say, while a pupil trains, what they see in the very views that it is shown."""

    def __init__(self, records: Sequence[Path], margin: float, device: torch.device) -> None:
        """Loads them.

        Args:
            records: FOLDER/NAME.json; at least one.
            margin: The pupil's, which must be theirs: they see what it sees.
            device: Where they compute.

        Raises:
            WeightsError: A teacher's files are missing, it does not predict every attribute, or faces are cut for it in
                another way.
        """
        self._teachers = []
        for path in records:
            record = load_record(path.stem, path.parent)
            _check(record, path)
            if record.margin != margin or record.grayscale:
                msg = f"train.teachers: {path} sees other cuts than its pupil; set train.teachers_see = 'faces'"
                raise WeightsError(msg)
            network = build(record, load_file(record, "safetensors", path.parent))
            self._teachers.append((record, network.to(device).to(memory_format=torch.channels_last)))

    @torch.no_grad()  # what inference mode gives cannot take part in a loss
    def __call__(self, views: torch.Tensor) -> dict[str, torch.Tensor]:
        """RGB (n, 3, height, width), 0-255 -> attribute -> mean probabilities (n, classes)."""
        said = [_say(teacher, record, views) for record, teacher in self._teachers]
        return {name: torch.stack([one[name] for one in said]).mean(dim=0) for name in BINS}


def _say(teacher: nn.Module, record: WeightsRecord, views: torch.Tensor) -> dict[str, torch.Tensor]:
    seen = _resized(views, record.input_size)
    with bfloat16(views.device):
        # Mirrored or not, a view is what its pupil sees; the other one comes in another step.
        logits = teacher.glance(seen) if isinstance(teacher, TwoTowers) else teacher(seen)
    return {name: torch.softmax(logits[name].float() / record.temperatures.get(name, 1.0), dim=1) for name in BINS}


def _resized(views: torch.Tensor, side: int) -> torch.Tensor:
    if views.shape[-1] == side:
        return views
    return torch.nn.functional.interpolate(views, (side, side), mode="bilinear", align_corners=False, antialias=True)


def soft_labels(teachers: Sequence[Path], faces_for: Callable[[WeightsRecord], LabelledFaces]) -> SoftLabels:
    """The mean of the teachers' probabilities for every training face.

    Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network"; a network may be its own pupil
    (Furlanello et al. 2018, "Born-Again Neural Networks"), which helps most where labels are noisy or missing.

    Args:
        teachers: Records, FOLDER/NAME.json; at least one.
        faces_for: Gives the training faces as a teacher's record wants them: cut with `augment.source_margin` of its
            margin, grey where it is. Teachers and pupil may see different cuts.

    Returns:
        Attribute -> float16 (n, classes).

    Raises:
        WeightsError: A teacher's files are missing, or it does not predict every attribute.
    """
    said = []
    for record in teachers:
        teacher = GraphPredictor(record.stem, record.parent, threads=2)
        _check(teacher.record, record)
        faces = faces_for(teacher.record)
        said.append(predict_in_batches(teacher, faces, view=partial(center_window, size=teacher.record.input_size)))
    return {name: np.mean([one[name] for one in said], axis=0).astype(np.float16) for name in BINS}


def where_unlabelled(said: SoftLabels, instead: SoftLabels, faces: LabelledFaces) -> SoftLabels:
    """What some teachers say of the attributes that a face is labelled for, and others of those that it is not.

    Teachers that learned from mixed faces are the best judges of faces like those that they had labels for, and say
    anything of the others; see `sampling.partners`.

    Args:
        said: Of the labelled ones, of `soft_labels`.
        instead: Of the unlabelled ones.
        faces: That both were asked about.
    """
    return {name: np.where(faces.labelled(name)[:, None], values, instead[name]) for name, values in said.items()}


def _check(record: WeightsRecord, path: Path) -> None:
    missing = [name for name in BINS if name not in record.classes]
    if missing:
        msg = f"train.teachers: {path} does not predict {', '.join(missing)}; name networks of every attribute"
        raise WeightsError(msg)
