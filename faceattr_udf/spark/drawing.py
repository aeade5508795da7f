"""The mapInArrow function that draws on photographs, in Spark's Python workers."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from PIL import Image

from faceattr_udf.config import Config
from faceattr_udf.errors import ImageError
from faceattr_udf.images.annotate import Annotation, annotate
from faceattr_udf.images.content_text import decode_text
from faceattr_udf.images.decode import decode_image

PICTURES: Final = "image_id string, picture binary, problem string"
"""The columns of the result: picture is a JPEG file, or null where there is a problem."""

_QUALITY: Final = 90


@dataclass(frozen=True)
class DrawBatches:
    """The mapInArrow function that decodes photographs and draws on them; returns the columns of `PICTURES`.

    Attributes:
        config_json: The configuration as JSON.
        annotations: What to draw, for each image_id.
        max_pixels: The largest size of a picture.
    """

    config_json: str
    annotations: Mapping[str, tuple[Annotation, ...]]
    max_pixels: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Draws one photograph at a time; of rows with the same image_id the first."""
        config = Config.model_validate_json(self.config_json)
        drawn: set[str] = set()
        for batch in batches:
            ids, contents = batch.column("image_id"), batch.column("content")
            for row in range(batch.num_rows):
                image_id = ids[row].as_py()
                if image_id in drawn:
                    continue
                drawn.add(image_id)
                picture, problem = self._draw(contents[row].as_py(), self.annotations[image_id], config)
                columns: list[pa.Array[Any]] = [
                    pa.array([image_id], pa.string()),
                    pa.array([picture], pa.binary()),
                    pa.array([problem], pa.string()),
                ]
                yield pa.RecordBatch.from_arrays(columns, ["image_id", "picture", "problem"])

    def _draw(
        self,
        content: Any,  # noqa: ANN401 - bytes or base64 text
        annotations: Sequence[Annotation],
        config: Config,
    ) -> tuple[bytes | None, str | None]:
        try:
            if content is not None and config.input.content_encoding == "base64":
                content = decode_text(content)
            image = decode_image(content, config.images)
        except ImageError as error:
            return None, str(error)
        try:
            picture = annotate(image, annotations, self.max_pixels)
            file = io.BytesIO()
            # Of the pixels alone: the file's metadata may say where and when it was taken.
            Image.fromarray(np.ascontiguousarray(picture)).save(file, "JPEG", quality=_QUALITY)
        except (ValueError, OverflowError, OSError) as error:  # boxes that no run has written
            return None, f"its boxes cannot be drawn ({type(error).__name__})"
        return file.getvalue(), None
