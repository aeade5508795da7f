"""A workspace to erase from: an images table, two nights, and a key."""

from hashlib import sha256
from typing import Any

from fakes import content
from file_search import files_that_hold
from workspaces import CAPTURED_AT, Workspace

from faceattr_udf.spark.erasure import Wish, erase
from faceattr_udf.spark.erasure.certificate import Certificate

ODD = 'it\'s "ünicode" \\ photo'
GONE = ("photo-000", ODD, "photo-019", "twin-of-019")
"""The least and the greatest id of files, an id that has to be escaped, and one with the content of another."""


def photo(image_id: str, subject: int = 7, data: bytes | None = None, *, hashed: bool = True) -> tuple[Any, ...]:
    data = content(1, image_id) if data is None else data
    return (image_id, data, sha256(data).hexdigest() if hashed else None, f"/x/{image_id}", CAPTURED_AT, subject)


def photos(*, hashed: bool = True) -> list[tuple[Any, ...]]:
    rows = [photo(f"photo-{number:03}", 7 + number % 2, hashed=hashed) for number in range(20)]
    twin = photo("twin-of-019", 7, content(1, "photo-019"), hashed=hashed)
    return [*rows, photo(ODD, hashed=hashed), twin]


class Erasing:
    """A workspace with two nights, and a key."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.folder, self.engine = workspace, workspace.folder, workspace.engine
        self.key = f"privacy.key_file={self.folder / 'secret' / 'erasure.key'}"

    @property
    def config(self) -> Any:
        return self.engine.config(self.key)

    def nights(self, rows: list[tuple[Any, ...]]) -> None:
        """Two nights; the second changes rows, so that there are old files and merges."""
        self.workspace.write([*rows[:5], photo(rows[5][0], data=content(2, "before"))])
        self.workspace.run(self.key)
        self.workspace.write(rows)
        self.workspace.run(self.key)

    def erase(self, *image_ids: str, with_images: bool = True, **more: Any) -> Certificate:
        wish = more.pop("wish", Wish(image_ids=image_ids))
        config = self.engine.config(self.key, *more.pop("settings", ()))
        images = str(self.folder / "images") if with_images else None
        return erase(self.engine.session, config, str(self.folder / "out"), wish, images=images, **more)

    def hits(self, *needles: str, below: tuple[str, ...] = ("out", "images")) -> list[str]:
        found = files_that_hold([self.folder / name for name in below], needles)
        return [str(path.relative_to(self.folder)) for path in found]

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Returns all rows with their times, by table."""
        places = {name: self.folder / "out" / name for name in ("faces", "image_results")}
        places["images"] = self.folder / "images"
        return {
            name: sorted((row.asDict(recursive=True) for row in self.engine.read(place).collect()), key=str)
            for name, place in places.items()
        }


def without(rows: dict[str, list[dict[str, Any]]], *image_ids: str) -> dict[str, list[dict[str, Any]]]:
    """Returns rows without those of some images."""
    return {name: [row for row in some if row["image_id"] not in image_ids] for name, some in rows.items()}
