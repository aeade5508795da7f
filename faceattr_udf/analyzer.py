"""Analyzes encoded images: decoding, face detection, attribute prediction. Used by the Spark layer and directly."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from faceattr_udf.arguments import check_contents
from faceattr_udf.arrays import Float32Array, UInt8Array
from faceattr_udf.attributes.decisions import decide_age, decide_class, probability_below, protect_minor
from faceattr_udf.attributes.predictor import AttributePredictor, load_predictor, model_record
from faceattr_udf.config import Config
from faceattr_udf.detection.mtcnn import Detections, Detector, detector_version, upright
from faceattr_udf.errors import ConfigError, EngineError, ImageError
from faceattr_udf.images.crop import crop_face
from faceattr_udf.images.decode import decode, probe_size, to_grayscale
from faceattr_udf.images.quality import face_qualities
from faceattr_udf.inference.base import local_device
from faceattr_udf.labels import CLASSES
from faceattr_udf.results import CUT_SHORT, BoundingBox, Face, ImageResult, ImageStatus, Quality
from faceattr_udf.weights import WeightsRecord

Outputs = Mapping[str, Float32Array]

_CROP_QUALITY = 90
"""JPEG quality of the crops in the output."""


class FaceDetector(Protocol):
    """Finds faces in a batch of images, as `faceattr_udf.detection.mtcnn.Detector` does."""

    def detect(self, images: Sequence[UInt8Array]) -> list[Detections]:
        """Returns one `Detections` per image: uint8 (height, width, 3) RGB, of any mixture of sizes."""
        ...


def model_version(config: Config) -> str:
    """Names the weights of the detector and of the attribute model, as "DETECTOR+MODEL", without loading a network.

    Raises:
        WeightsError: A record is missing or malformed.
    """
    return _version(config, model_record(config.attributes))


def _version(config: Config, record: WeightsRecord) -> str:
    return f"{detector_version(prefilter=config.detector.prefilter)}+{record.model_version}"


class FaceAnalyzer:
    """Finds faces in encoded images and predicts their attributes; results do not depend on the batching.

    Use one instance per thread, because the networks keep their buffers.

    >>> from faceattr_udf import FaceAnalyzer
    >>> analyzer = FaceAnalyzer.from_config(None)  # doctest: +SKIP
    >>> analyzer.analyze([Path("people.jpg").read_bytes(), None])  # doctest: +SKIP
    [ImageResult(status=<ImageStatus.OK: 'ok'>, ...), ImageResult(status=<ImageStatus.MISSING: 'missing'>, ...)]
    """

    def __init__(self, config: Config, detector: FaceDetector, predictor: AttributePredictor) -> None:
        """Combines loaded parts; `from_config` also loads them.

        Args:
            config: Attributes, abstention, outputs and memory limits.
            detector: Finds the faces, and applies the configured limit on their number.
            predictor: Predicts the attributes.

        Raises:
            ConfigError: The configuration asks for embeddings that the model does not have, only for attributes that
                it does not predict, or for the protection of minors by a model that does not predict age.
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
        if config.minors.age and known and "age" not in known:
            msg = (
                f"minors.age = {config.minors.age}, but attributes.model = {config.attributes.model!r} does not "
                "predict age, without which minors cannot be told; choose another model, or set minors.age = 0"
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
            device: Device of the networks, "cpu" or "cuda:0"; None means the CPU, or the first GPU if `runtime.device`
                is "cuda".

        Raises:
            ConfigError: The configuration is invalid.
            WeightsError: A weights file is missing, altered, or does not fit.
            EngineError: The device cannot be used.
        """
        settings = config if isinstance(config, Config) else Config.load(config)
        device = device or local_device(settings.runtime.device)
        detector = Detector(settings.detector, threads, device)
        predictor = load_predictor(settings.attributes, threads, device, embedding=settings.output.embeddings)
        return cls(settings, detector, predictor)

    @property
    def config_id(self) -> str:
        """Identifies the settings that decide what is computed; see `Config.config_id`."""
        return self.config.config_id()

    @property
    def model_version(self) -> str:
        """Names all weights in use, like the function `model_version`."""
        return self._model_version

    def analyze(self, contents: Iterable[bytes | None]) -> list[ImageResult]:
        """Finds the faces of images and predicts their attributes.

        At most `enrich.max_batch_pixels` decoded pixels are in memory together, or one larger image.

        Args:
            contents: Encoded images in any format that Pillow reads, as bytes, bytearray or memoryview; None for an
                image without content.

        Returns:
            One result per item, in order. Boxes and landmarks are pixels of the EXIF-upright image, x to the right, y
            downwards; ages are in years. Invalid content raises nothing; the result has a status and an error.

        Raises:
            ArgumentError: `contents` is one image, or contains paths, arrays or other objects instead of bytes.
            EngineError: The GPU failed; only a new process can use it again.
        """
        items = check_contents(contents)
        results: dict[int, ImageResult] = {}
        group: dict[int, UInt8Array] = {}
        cut = []
        pixels = 0
        for index, content in enumerate(items):
            expected = self._expected_pixels(content)
            if group and pixels + expected > self.config.enrich.max_batch_pixels:
                self._analyze_group(group, results)
                group, pixels = {}, 0
            try:
                decoded = decode(content, self.config.images)
            except ImageError as error:
                results[index] = ImageResult(ImageStatus(error.status), str(error))
                continue
            image = decoded.pixels
            if decoded.is_cut:
                cut.append(index)
            group[index] = to_grayscale(image) if self._predictor.record.grayscale else image
            pixels += image.shape[0] * image.shape[1]
        self._analyze_group(group, results)
        for index in cut:
            if results[index].status != ImageStatus.MODEL_ERROR:
                results[index] = replace(results[index], status=ImageStatus.PARTIAL, error=CUT_SHORT)
        return [results[index] for index in range(len(items))]

    def _expected_pixels(self, content: bytes | None) -> int:
        width, height = probe_size(content) or (0, 0)
        # Images above the limit are not decoded and take no memory.
        return width * height if width * height <= self.config.images.max_pixels else 0

    def _analyze_group(self, group: Mapping[int, UInt8Array], results: dict[int, ImageResult]) -> None:
        if not group:
            return
        images = list(group.values())
        try:
            described = self._describe(images)
        except EngineError:
            raise  # the device failed, and the images may be valid
        except Exception as error:
            if len(images) == 1:
                height, width = images[0].shape[:2]
                # The message of a native library may quote the image, so the result names only the class.
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
            image_faces = tuple(next(faces) for _ in range(len(detections)))
            status = ImageStatus.OK if image_faces else ImageStatus.NO_FACE
            results.append(ImageResult(status, None, width, height, image_faces))
        return results

    def _faces(self, images: Sequence[UInt8Array], found: Sequence[Detections]) -> Iterator[Face]:
        """Yields the faces of all images in order; the network's batches span images."""
        positions = [(image, index) for image, detections in enumerate(found) for index in range(len(detections))]
        qualities = [
            quality
            for image, detections in zip(images, found, strict=True)
            for quality in face_qualities(image, detections.boxes, detections.landmarks)
        ]
        size = self.config.attributes.batch_size
        for start in range(0, len(positions), size):
            batch = positions[start : start + size]
            crops = self._crops(images, found, batch)
            outputs = self._predictor.predict(crops)
            for name, values in outputs.items():
                if len(values) != len(batch) or not np.isfinite(values).all():
                    msg = f"output {name!r} of the model should be one row of finite numbers per face"
                    raise ArithmeticError(msg)
            for row, (i, j) in enumerate(batch):
                face_outputs = {name: values[row] for name, values in outputs.items()}
                yield self._face(j, found[i], qualities[start + row], crops[row], face_outputs)

    def _crops(
        self, images: Sequence[UInt8Array], found: Sequence[Detections], faces: Sequence[tuple[int, int]]
    ) -> UInt8Array:
        """Returns the crops of faces, given as indices of image and face, in the order of the images."""
        record = self._predictor.record
        crops: list[UInt8Array] = []
        for i, some in groupby(faces, key=itemgetter(0)):
            image, boxes = upright(images[i], found[i])
            crops += [crop_face(image, boxes[j], record.input_size, record.margin) for _, j in some]
        return np.stack(crops)

    def _face(self, index: int, detections: Detections, quality: Quality, crop: UInt8Array, outputs: Outputs) -> Face:
        options = self.config.attributes
        large_enough = quality.face_px >= options.min_face_px
        classes = {
            name: decide_class(
                outputs[name],
                labels,
                min_confidence=getattr(options.min_confidence, name),
                large_enough=large_enough,
            )
            for name, labels in CLASSES.items()
            if name in options.predict and name in outputs
        }
        has_age = "age" in options.predict and "age" in outputs
        face = Face(
            face_index=index,
            bbox=BoundingBox(*detections.boxes[index].astype(np.float64).tolist()),
            det_confidence=float(detections.confidences[index]),
            quality=quality,
            landmarks=detections.landmarks[index].astype(np.float32),
            age=decide_age(outputs["age"], large_enough=large_enough) if has_age else None,
            gender=classes.get("gender"),
            ethnicity=classes.get("ethnicity"),
            emotion=classes.get("emotion"),
            crop=_jpeg(crop) if self.config.output.crops else None,
            embedding=outputs["embedding"].copy() if self.config.output.embeddings else None,
        )
        return self._protected(face, outputs) if self.config.minors.age else face

    def _protected(self, face: Face, outputs: Outputs) -> Face:
        """Decides whether a face may be a minor's, also where the model abstains; if so, returns what may be kept."""
        minors = self.config.minors
        if probability_below(outputs["age"], minors.age) > minors.probability:
            return protect_minor(face, minors.keep)
        return replace(face, minor=False)


def _jpeg(pixels: UInt8Array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_CROP_QUALITY)
    return buffer.getvalue()
