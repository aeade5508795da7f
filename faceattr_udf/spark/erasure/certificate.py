"""The certificate of an erasure: what was done, what was searched, and what nobody could look at. It holds no ids."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from faceattr_udf.privacy.search import SearchReport
from faceattr_udf.spark.erasure_requests import Request

NOT_LOOKED_AT: Final = (
    "earlier versions of objects in a store with versioning or soft deletion, and free blocks of a disk that are not "
    "overwritten yet",
    "backups, clones and shares of the tables, and copies, reports and exports outside of these folders",
    "the logs and event logs of Spark and of other programs",
    "the table of consents, and the folders from which pictures are ingested",
    "the content of binary columns: which pictures remain is decided by image_id and content_sha256",
    "aggregates that stay as they are, which are counts without ids: runs, drift, and published tables",
)
"""What no search of files can reach, in the words of the certificate."""


@dataclass(frozen=True)
class Certificate:
    """The outcome of an erasure.

    Attributes:
        erasure_id: Names it.
        requests: What was erased, with the requests that killed erasures had left.
        tables: Table -> the version from which on its log knows nothing older.
        rows: Table -> rows that were found and deleted.
        images: The images table; None where it was not cleaned.
        key_id: Names the key of the tombstones; None without tombstones.
        n_short: Ids of fewer than four characters, which were looked for in columns of ids alone.
        search: What was searched, and found.
        location: Where the certificate is.
        completed_at: UTC.
    """

    erasure_id: str
    requests: Sequence[Request]
    tables: Mapping[str, int]
    rows: Mapping[str, int]
    images: str | None
    key_id: str | None
    n_short: int
    search: SearchReport
    location: str = ""
    completed_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def complete(self) -> bool:
        """Whether everything was searched and nothing found."""
        return not self.search.hits and not self.search.unreadable

    def as_data(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        missing = [] if self.images else ["the images table, which was not named"]
        return {
            "erasure_id": self.erasure_id,
            "state": "done" if self.complete else "failed",
            "completed_at": self.completed_at.isoformat(),
            "requests": [
                {
                    "erasure_id": request.erasure_id,
                    "kind": request.kind,
                    "requested_at": request.requested_at.isoformat(),
                    "ids_asked_for": request.n_asked,
                    "subjects": len(request.subject_ids),
                    "images": len(request.image_ids),
                    "copies": request.n_copies,
                    "contents": len(request.contents),
                }
                for request in self.requests
            ],
            "images_table": self.images,
            "key_id": self.key_id,
            "rows_deleted": dict(self.rows),
            "log_starts_at_version": dict(self.tables),
            "searched": {
                "files": self.search.files,
                "files_of_logs": self.search.log_files,
                "bytes": self.search.bytes,
                "ids_searched_in_id_columns_only": self.n_short,
            },
            "hits": self.search.hits,
            "unreadable": self.search.unreadable,
            "not_looked_at": [*missing, *NOT_LOOKED_AT],
        }

    def to_json(self) -> str:
        """Returns the text of the file."""
        return json.dumps(self.as_data(), indent=2) + "\n"
