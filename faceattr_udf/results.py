"""The analyzer's results: one `ImageResult` per image, whatever the options.

Coordinates are pixels of the EXIF-upright image, x to the right, y downwards, origin at the top-left corner.
Probabilities are between 0 and 1. Ages are in years.
"""

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final

from faceattr_udf.arrays import Float32Array


class ImageStatus(StrEnum):
    """The outcome of an image; every image gets exactly one."""

    OK = "ok"
    NO_FACE = "no_face"
    PARTIAL = "partial"
    MISSING = "missing"
    CORRUPT = "corrupt"
    UNSUPPORTED = "unsupported"
    TOO_LARGE = "too_large"
    NOT_CONSENTED = "not_consented"
    ERASED = "erased"
    EXPIRED = "expired"
    MODEL_ERROR = "model_error"


NO_CONTENT: Final = "no content"
"""The error text of images with the status missing."""

CUT_SHORT: Final = "the JPEG file is cut short; it was decoded as far as it goes"
"""The error text of images with the status partial."""

NO_CONSENT: Final = "no consent"
"""The error text of images with the status not_consented."""

ERASED: Final = "erased on request"
"""The error text of images with the status erased."""

EXPIRED: Final = "past the retention period"
"""The error text of images with the status expired."""


@dataclass(frozen=True, slots=True)
class BoundingBox:
    """A face's box in pixels; it may extend beyond the frame if the face does."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float


BOX_SIDES: Final = tuple(field.name for field in fields(BoundingBox))
"""The names of a box's sides, in the order of every array and struct of boxes."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Image quality and head pose of a face.

    Attributes:
        face_px: Shorter side of the box, pixels.
        blur: 0 (sharp) to 1 (no detail).
        brightness: Mean luma of the face, 0 (black) to 1 (white).
        yaw: Degrees, positive when the face turns to the right of the image.
        pitch: Degrees, positive when the face looks up.
        roll: Degrees, positive when the head leans clockwise as seen in the image.
    """

    face_px: float
    blur: float
    brightness: float
    yaw: float
    pitch: float
    roll: float


@dataclass(frozen=True, slots=True)
class ClassPrediction:
    """One categorical attribute of one face.

    Attributes:
        label: The most probable class; None when the model abstains.
        confidence: Probability of the most probable class, also when the model abstains.
        probs: Class -> probability, summing to 1.
    """

    label: str | None
    confidence: float
    probs: dict[str, float]


@dataclass(frozen=True, slots=True)
class AgePrediction:
    """The perceived age of one face, years.

    Attributes:
        age: Expected age; None when the model abstains.
        low: Lower bound of the central 80 % interval; None where only the group is kept of a minor's face.
        high: Upper bound of the central 80 % interval; likewise.
        group: The ten-year group of `age` ("30-39"); None when the model abstains.
        group_probs: Ten-year group -> probability, summing to 1, also when the model abstains; None of a minor's face.
    """

    age: float | None
    low: float | None
    high: float | None
    group: str | None
    group_probs: dict[str, float] | None


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face of one image.

    Attributes:
        face_index: 0 for the largest face of the image, then by decreasing area.
        bbox: The face's box.
        det_confidence: Probability of being a face.
        quality: Size, blur, brightness and head pose.
        landmarks: float32 (5, 2), x and y in pixels: left eye, right eye, nose, left and right mouth corner, where
            left is left in the image, or, if `detector.rotations` found the face, in the image turned upright. None
            for a minor's face.
        age: None unless the configuration asks for it and the model predicts it; likewise for the next three.
        crop: The crop that the networks saw, JPEG bytes; None unless the configuration asks for crops.
        embedding: float32 (n,), L2-normalized; None unless the configuration asks for it and the model has one.
        minor: Whether the face may be a minor's, so that it keeps only what `minors.keep` lists; None where
            `minors.age` is 0.
    """

    face_index: int
    bbox: BoundingBox
    det_confidence: float
    quality: Quality
    landmarks: Float32Array | None
    age: AgePrediction | None = None
    gender: ClassPrediction | None = None
    ethnicity: ClassPrediction | None = None
    emotion: ClassPrediction | None = None
    crop: bytes | None = None
    embedding: Float32Array | None = None
    minor: bool | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ImageResult:
    """The outcome of one image.

    Attributes:
        status: The outcome.
        error: One sentence when `status` is neither ok nor no_face; it quotes no content of the image.
        width: Pixels of the upright image; None when it was not decoded.
        height: Likewise.
        faces: Largest first; empty unless `status` is ok or partial.
    """

    status: ImageStatus
    error: str | None = None
    width: int | None = None
    height: int | None = None
    faces: tuple[Face, ...] = ()

    @property
    def n_faces(self) -> int:
        """The number of faces found."""
        return len(self.faces)
