"""Unfinished requests: files with ids beside the tables, which a killed erasure leaves and the next one completes.

After the rows are gone, nothing else says which ids to search for. A file is deleted when its search found nothing.
"""

import contextlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, Literal
from uuid import uuid4

from pyarrow import fs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from faceattr_udf.errors import EngineError
from faceattr_udf.spark.locations import file_system, join, local_path

FOLDER: Final = "_erasure"
"""Below the output folder: unfinished requests and certificates."""

_REQUEST: Final = "request_"
_CERTIFICATE: Final = "certificate_"

Kind = Literal["erase", "withdrawn", "expired"]
"""Erase everything of images, or only their faces: without consent any more, or past the retention period."""


class Request(BaseModel):
    """What is to be erased.

    Attributes:
        kind: How much of it.
        image_ids: The images, with those of the subjects and those of the same content.
        subject_ids: The subjects that were asked for.
        contents: The SHA-256 of the images' contents.
        paths: The images' paths.
        n_asked: The number of ids that were asked for.
        n_copies: The number of other images that have the same content as those.
        images: The images table to clean, too; None for none.
        requested_at: UTC.
        erasure_id: Unique; begins with the time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    image_ids: tuple[str, ...] = ()
    subject_ids: tuple[str, ...] = ()
    contents: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    n_asked: int = 0
    n_copies: int = 0
    images: str | None = None
    requested_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    erasure_id: str = Field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid4().hex[:8]}")


def union(requests: Iterable[Request], name: Literal["image_ids", "subject_ids", "contents", "paths"]) -> list[str]:
    """Returns what several requests name, sorted."""
    return sorted({value for request in requests for value in getattr(request, name)})


class RequestFolder:
    """The requests and certificates of one output folder."""

    def __init__(self, output: str) -> None:
        self.location = join(output, FOLDER)

    def unfinished(self) -> list[Request]:
        """Returns the requests that are not finished, oldest first.

        Raises:
            EngineError: One of them cannot be read.
        """
        system, folder = file_system(self.location)
        infos = system.get_file_info(fs.FileSelector(folder, allow_not_found=True))
        found = []
        for info in sorted(infos, key=lambda info: info.base_name):
            if info.base_name.startswith(_REQUEST):
                with system.open_input_stream(info.path) as stream:
                    text = stream.read()
                try:
                    found.append(Request.model_validate_json(text))
                except ValidationError:
                    msg = f"{info.path} is no request of an erasure; delete it, and run its erasure again"
                    raise EngineError(msg) from None  # the cause quotes ids
        return found

    def write(self, request: Request) -> None:
        """Writes a request as a whole; on this machine only its owner can read it."""
        self._write(f"{_REQUEST}{request.erasure_id}.json", request.model_dump_json().encode())

    def certify(self, erasure_id: str, text: str) -> str:
        """Writes a certificate, and returns its location."""
        name = f"{_CERTIFICATE}{erasure_id}.json"
        self._write(name, text.encode())
        return join(self.location, name)

    def finish(self, requests: Sequence[Request]) -> None:
        """Deletes requests."""
        system, folder = file_system(self.location)
        for request in requests:
            with contextlib.suppress(FileNotFoundError):
                system.delete_file(f"{folder}/{_REQUEST}{request.erasure_id}.json")

    def _write(self, name: str, content: bytes) -> None:
        system, folder = file_system(self.location)
        system.create_dir(folder, recursive=True)
        path = local_path(self.location)
        if path is not None:
            path.chmod(0o700)
        unfinished = f"{folder}/.{name}"
        with system.open_output_stream(unfinished) as stream:
            stream.write(content)
        system.move(unfinished, f"{folder}/{name}")
