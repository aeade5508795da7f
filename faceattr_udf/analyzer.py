"""Image bytes -> results: the one entry that the Spark layer and a person in a shell both call."""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from faceattr_udf.attributes.decisions import decide_age, decide_class
from faceattr_udf.attributes.labels import CLASSES
from faceattr_udf.attributes.predictor import AttributePredictor, load_predictor, model_record
from faceattr_udf.config import Config
from faceattr_udf.detection.mtcnn import Detections, Detector, detector_version
from faceattr_udf.errors import ConfigError, EngineError, ImageError
from faceattr_udf.images.crop import cut_face
from faceattr_udf.images.decode import decode_image, probe_size, to_grey
from faceattr_udf.images.quality import face_qualities
from faceattr_udf.inference.base import unscheduled_device
from faceattr_udf.results import BoundingBox, Face, ImageResult, ImageStatus, Quality
from faceattr_udf.weights import WeightsRecord

UInt8Array = npt.NDArray[np.uint8]
Outputs = Mapping[str, npt.NDArray[np.float32]]

_CROP_QUALITY = 90


class FaceDetector(Protocol):
    """Finds faces in a batch of images; `faceattr_udf.detection.mtcnn.Detector` is one."""

    def detect(self, images: Sequence[UInt8Array]) -> list[Detections]:
        """Returns one `Detections` per image: uint8 (height, width, 3) RGB, of any mixture of sizes."""
        ...


def model_version(config: Config) -> str:
    """Names the weights of the detector and of the attribute model, "DETECTOR+MODEL", without loading a network.

    Raises:
        WeightsError: A record is missing or malformed.
    """
    return _version(config, model_record(config.attributes))


def _version(config: Config, record: WeightsRecord) -> str:
    return f"{detector_version(screen=config.detector.screen)}+{record.model_version}"


class FaceAnalyzer:
    """Turns encoded images into results; the same images give the same results however they are batched.

    One instance serves one thread at a time: the networks keep their buffers.

    >>> from faceattr_udf import FaceAnalyzer
    >>> analyzer = FaceAnalyzer.from_config(None)  # doctest: +SKIP
    >>> analyzer.analyze([Path("people.jpg").read_bytes(), None])  # doctest: +SKIP
    [ImageResult(status=<ImageStatus.OK: 'ok'>, ...), ImageResult(status=<ImageStatus.MISSING: 'missing'>, ...)]
    """

    def __init__(self, config: Config, detector: FaceDetector, predictor: AttributePredictor) -> None:
        """Puts loaded parts together; `from_config` also loads them.

        Args:
            config: What to predict, when to abstain, what to return, and how much to hold in memory.
            detector: Finds the faces, already limited to the largest where the configuration says so.
            predictor: Predicts their attributes.

        Raises:
            ConfigError: The configuration asks for embeddings and the model has none, or for nothing that it predicts.
        """
        self.config = config
        self._detector = detector
        self._predictor = predictor
        self._model_version = _version(config, predictor.record)
        asked, known = config.attributes.predict, predictor.record.classes
        if known and asked and not set(asked) & set(known):
            msg = (
                f"attributes.predict = {list(asked)}, but attributes.model = {config.attributes.model!r} predicts only "
                f"{', '.join(known)}; ask for one of these or choose another model"
            )
            raise ConfigError(msg)
        if config.output.embeddings:
            size = predictor.record.input_size
            if "embedding" not in predictor.predict(np.zeros((1, size, size, 3), dtype=np.uint8)):
                msg = (
                    f"output.embeddings = true, but attributes.model = {config.attributes.model!r} has no embedding; "
                    "set output.embeddings = false or choose a model with one"
                )
                raise ConfigError(msg)

    @classmethod
    def from_config(
        cls, config: Config | str | Path | None = None, threads: int = 1, device: str | None = None
    ) -> "FaceAnalyzer":
        """Loads and verifies all networks.

        Args:
            config: A configuration, the path of a TOML file, or None for the defaults.
            threads: CPU threads of one inference.
            device: Of the networks, "cpu" or "cuda:0"; None means the CPU, or the first GPU where `runtime.device` is
                "cuda".

        Raises:
            ConfigError: The configuration is wrong.
            WeightsError: A weights file is missing, altered, or does not fit.
            EngineError: The device cannot be used.
        """
        settings = config if isinstance(config, Config) else Config.load(config)
        device = device or unscheduled_device(settings.runtime.device)
        detector = Detector(settings.detector, threads, device)
        return cls(settings, detector, load_predictor(settings.attributes, threads, device))

    @property
    def config_id(self) -> str:
        """Names the settings that decide what is computed; see `Config.config_id`."""
        return self.config.config_id()

    @property
    def model_version(self) -> str:
        """Names all weights in use, as the function `model_version` does."""
        return self._model_version

    def analyze(self, contents: Sequence[bytes | None]) -> list[ImageResult]:
        """Finds and describes the faces of images.

        At most `enrich.max_batch_pixels` decoded pixels are in memory together, or one image where it has more.

        Args:
            contents: Encoded images in any format that Pillow reads; None where there is no content.

        Returns:
            One result per item, in order. Boxes and landmarks are pixels of the EXIF-upright image, x to the right, y
            downwards; ages are years. No content raises: what is wrong with it is the result's status and error.

        Raises:
            EngineError: The GPU failed; only a new process can use it again.
        """
        results: dict[int, ImageResult] = {}
        group: dict[int, UInt8Array] = {}
        pixels = 0
        for index, content in enumerate(contents):
            expected = self._expected_pixels(content)
            if group and pixels + expected > self.config.enrich.max_batch_pixels:
                self._analyze_group(group, results)
                group, pixels = {}, 0
            try:
                image = decode_image(content, self.config.images)
            except ImageError as error:
                results[index] = ImageResult(ImageStatus(error.status), str(error))
                continue
            group[index] = to_grey(image) if self._predictor.record.grayscale else image
            pixels += image.shape[0] * image.shape[1]
        self._analyze_group(group, results)
        return [results[index] for index in range(len(contents))]

    def _expected_pixels(self, content: bytes | None) -> int:
        width, height = probe_size(content) or (0, 0)
        # What is too large is never decoded and takes no place in the group.
        return width * height if width * height <= self.config.images.max_pixels else 0

    def _analyze_group(self, group: Mapping[int, UInt8Array], results: dict[int, ImageResult]) -> None:
        if not group:
            return
        images = list(group.values())
        try:
            described = self._describe(images)
        except EngineError:
            raise  # the device is lost, and these images may be good
        except Exception as error:
            if len(images) == 1:
                height, width = images[0].shape[:2]
                # The message of a native library may quote anything; the class says enough to look for it in the logs.
                msg = f"a network failed on this image ({type(error).__name__})"
                described = [ImageResult(ImageStatus.MODEL_ERROR, msg, width, height)]
            else:
                for index, image in group.items():
                    self._analyze_group({index: image}, results)
                return
        results.update(zip(group, described, strict=True))

    def _describe(self, images: Sequence[UInt8Array]) -> list[ImageResult]:
        found = self._detector.detect(images)
        faces = self._faces(images, found)
        results = []
        for image, detections in zip(images, found, strict=True):
            height, width = image.shape[:2]
            mine = tuple(next(faces) for _ in range(len(detections)))
            status = ImageStatus.OK if mine else ImageStatus.NO_FACE
            results.append(ImageResult(status, None, width, height, mine))
        return results

    def _faces(self, images: Sequence[UInt8Array], found: Sequence[Detections]) -> Iterator[Face]:
        """Yields all faces of all images in order; the network sees full batches across images."""
        where = [(image, index) for image, detections in enumerate(found) for index in range(len(detections))]
        qualities = [
            quality
            for image, detections in zip(images, found, strict=True)
            for quality in face_qualities(image, detections.boxes, detections.landmarks)
        ]
        record, size = self._predictor.record, self.config.attributes.batch_size
        for start in range(0, len(where), size):
            batch = where[start : start + size]
            crops = np.stack(
                [cut_face(images[i], found[i].boxes[j], record.input_size, record.margin) for i, j in batch]
            )
            outputs = self._predictor.predict(crops)
            for name, values in outputs.items():
                if len(values) != len(batch) or not np.isfinite(values).all():
                    msg = f"the model's {name} is not one row of finite numbers per face"
                    raise ArithmeticError(msg)
            for row, (i, j) in enumerate(batch):
                mine = {name: values[row] for name, values in outputs.items()}
                yield self._face(j, found[i], qualities[start + row], crops[row], mine)

    def _face(self, index: int, detections: Detections, quality: Quality, crop: UInt8Array, outputs: Outputs) -> Face:
        options = self.config.attributes
        visible = quality.face_px >= options.min_face_px
        classes = {
            name: decide_class(outputs[name], labels, min_confidence=options.min_confidence, visible=visible)
            for name, labels in CLASSES.items()
            if name in options.predict and name in outputs
        }
        has_age = "age" in options.predict and "age" in outputs
        return Face(
            face_index=index,
            bbox=BoundingBox(*detections.boxes[index].astype(np.float64).tolist()),
            det_confidence=float(detections.confidences[index]),
            quality=quality,
            landmarks=detections.landmarks[index].astype(np.float32),
            age=decide_age(outputs["age"], visible=visible) if has_age else None,
            gender=classes.get("gender"),
            ethnicity=classes.get("ethnicity"),
            emotion=classes.get("emotion"),
            crop=_jpeg(crop) if self.config.output.crops else None,
            embedding=outputs["embedding"].copy() if self.config.output.embeddings else None,
        )


def _jpeg(pixels: UInt8Array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_CROP_QUALITY)
    return buffer.getvalue()
