"""Contents of erased and expired images are not read, not even to compute their hash."""

from pathlib import Path

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from erasing import ODD, Erasing, photo, photos
from fakes import inferred
from spoiled_files import spoil
from workspaces import Workspace

from faceattr_udf.errors import FaceattrError
from faceattr_udf.spark.erasure import Wish


@pytest.fixture
def erasing(workspace: Workspace) -> Erasing:
    return Erasing(workspace)


def two_files(folder: Path) -> list[str]:
    """Writes an images table of two files; returns the ids of the second one."""
    (folder / "images").mkdir()
    for name in ("kept", "gone"):
        ids, contents, hashes = zip(*(photo(f"{name}-{number}")[:3] for number in range(4)), strict=True)
        table = pa.table({"image_id": ids, "content": contents, "content_sha256": hashes})
        pq.write_table(table, folder / "images" / f"{name}.parquet", compression="none")
    return list(ids)


@pytest.mark.on_spark(slow=True)
@pytest.mark.parametrize("how", ["erased", "expired"])
def test_contents_are_never_read(erasing: Erasing, how: str) -> None:
    ids = two_files(erasing.folder)
    settings = [erasing.key, "privacy.retention_days=1"]
    erasing.workspace.run(*settings)
    if how == "erased":
        erasing.erase(*ids, with_images=False)
    else:
        faces = deltalake.DeltaTable(str(erasing.folder / "out" / "faces"))
        faces.update(predicate="image_id < 'h'", updates={"processed_at": "to_timestamp_micros(0)"})
        erasing.erase(wish=Wish(due=True), settings=settings[1:], with_images=False)
    spoil(erasing.folder / "images" / "gone.parquet")
    erasing.workspace.seen.unlink()
    counts = erasing.workspace.run(*settings).counts
    assert counts == ({"erased": 4} if how == "erased" else {})
    assert erasing.workspace.run(*settings, version="fake-2").counts == {"ok": 4}
    assert sorted(inferred(erasing.workspace.seen)) == sorted(photo(f"kept-{number}")[2] for number in range(4))
    if how == "erased":
        # Without the protection the run fails: the contents cannot be read.
        (erasing.folder / "out").rename(erasing.folder / "elsewhere")
        with pytest.raises(FaceattrError):
            erasing.workspace.run(*settings, "enrich.wave_retries=0")


def test_contents_of_erased_images_are_not_read(erasing: Erasing) -> None:
    # Without hashes of the table, hashes have to be computed; of erased images they are not.
    erasing.nights(photos(hashed=False))
    erasing.erase("photo-000", ODD)
    erasing.workspace.write(photos(hashed=False))
    hashed: dict[str, str | None] = {}

    def look(step: str) -> None:
        if step == "planned":
            for file in (erasing.folder / "out" / "_staging").rglob("plan/*.parquet"):
                hashed.update({row["image_id"]: row["content_sha256"] for row in pq.read_table(file).to_pylist()})

    run = erasing.workspace.run(erasing.key, on_step=look)
    assert run.counts == {"erased": 2}
    assert hashed == {"photo-000": None, ODD: None}
