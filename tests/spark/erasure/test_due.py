"""What nights leave to erase: faces of withdrawn consents, and faces past the retention period."""

from datetime import datetime, timedelta
from typing import Any

import deltalake
import pytest
from erasing import ODD, Erasing, photos
from fakes import inferred
from workspaces import CAPTURED_AT, Killed, Workspace, killed_at

from faceattr_udf.spark.erasure import Wish


@pytest.fixture
def erasing(workspace: Workspace) -> Erasing:
    return Erasing(workspace)


AGREED = "subject_id string, purpose string, granted_at timestamp, withdrawn_at timestamp"


@pytest.mark.on_spark(slow=True)
def test_withdrawn_consent_leaves_no_face_in_any_file(erasing: Erasing) -> None:
    def agree(withdrawn: datetime | None) -> None:
        rows = [("7", "research", CAPTURED_AT, None), ("8", "research", CAPTURED_AT, withdrawn)]
        frame = erasing.engine.frame(rows, AGREED)
        frame.write.format("delta").mode("overwrite").save(str(erasing.folder / "consents"))

    settings = (f"consent.table={erasing.folder / 'consents'}", "privacy.purpose=research", erasing.key)
    erasing.workspace.write(photos())
    agree(None)
    erasing.workspace.run(*settings)
    agree(CAPTURED_AT + timedelta(days=1))
    run = erasing.workspace.run(*settings)
    assert run.counts == {"not_consented": 10}
    assert erasing.hits("photo-001", below=("out/faces",))
    certificate = erasing.erase(wish=Wish(due=True), with_images=False)
    assert [request.kind for request in certificate.requests] == ["withdrawn"]
    assert erasing.hits("photo-001", "photo-019", below=("out/faces",)) == []
    # Consent given again counts: the night after derives faces, and they stay.
    agree(None)
    erasing.workspace.run(*settings)
    erasing.erase(wish=Wish(due=True), with_images=False)
    assert len(erasing.rows()["faces"]) == 22


def test_faces_past_the_retention_period_expire(erasing: Erasing) -> None:
    erasing.workspace.write(photos(hashed=False))
    erasing.workspace.run()
    due: dict[str, Any] = {"wish": Wish(due=True), "with_images": False}
    assert erasing.erase(settings=["privacy.retention_days=1"], **due).requests == []
    faces = deltalake.DeltaTable(str(erasing.folder / "out" / "faces"))
    old = {ODD, "photo-000", "photo-001", "photo-002"}
    faces.update(predicate="image_id < 'photo-003'", updates={"processed_at": "to_timestamp_micros(0)"})
    with pytest.raises(Killed):
        erasing.erase(settings=["privacy.retention_days=1"], on_step=killed_at("results"), **due)
    # Killed between the two tables: the next night deletes the faces and derives nothing.
    erasing.workspace.seen.unlink()
    settings = [erasing.key, "privacy.retention_days=1"]
    assert erasing.workspace.run(*settings).counts == {"expired": 4}
    assert erasing.workspace.run(*settings, version="fake-2").counts == {"ok": 18}
    assert len(inferred(erasing.workspace.seen)) == 17
    certificate = erasing.erase(settings=settings[1:], **due)
    assert certificate.complete
    assert {row["image_id"] for row in erasing.rows()["image_results"] if row["status"] == "expired"} == old
    assert erasing.hits(*old, below=("out/faces",)) == []
