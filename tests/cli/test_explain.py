"""`faceattr explain`: everything that is held, in a file that only its owner can read, and nowhere else."""

import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import Engine
from erasing import Erasing, photos
from fakes import content
from workspaces import CAPTURED_AT, SCHEMA, Workspace, image

from faceattr_udf.errors import FaceattrError
from faceattr_udf.spark import explanation
from jobs import explain as explain_job

ODD = 'it\'s \\ "ünicode" ;-- DROP'
COLUMNS = "subject_id int, purpose string, granted_at timestamp, withdrawn_at timestamp"
RUN = ["privacy.purpose=research", 'privacy.legal_basis=["eu-gdpr:A6-1-a"]', "output.crops=true"]


class Asking:
    """A finished run with consents, and the command over it."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.folder = workspace, workspace.folder
        self.answer = self.folder / "answer.json"
        rows = [
            (*image("a", content(2))[:5], 1),
            (*image("ab", content(1, "ab"))[:5], 2),
            (*image(ODD, content(1, "odd"))[:5], 1),
            (*image("n", content(1, "n"))[:5], 3),
            (*image("u", content(1, "u"))[:5], None),
        ]
        workspace.write(rows)
        now = datetime.now(UTC)
        consents = [(1, "research", now - timedelta(days=9), None), (2, "research", now - timedelta(days=9), None)]
        consents += [(3, "research", now - timedelta(days=9), now - timedelta(days=1))]
        workspace.engine.frame(consents, COLUMNS).write.format("delta").save(str(self.folder / "consents"))
        workspace.run(*self.settings)

    @property
    def settings(self) -> list[str]:
        return [f"consent.table={self.folder / 'consents'}", *RUN]

    def ask(self, option: str, *ids: str) -> dict[str, Any]:
        file = self.folder / "ids.txt"
        file.write_text("".join(f"{one}\n" for one in ids), encoding="utf-8")
        settings = [word for one in (*self.workspace.engine.settings, *self.settings) for word in ("--set", one)]
        places = ["--output", str(self.folder / "out"), "--images", str(self.folder / "images")]
        code = explain_job.main([*places, f"--{option}s", str(file), "--json", str(self.answer), *settings])
        assert code == 0
        answer: dict[str, Any] = json.loads(self.answer.read_text(encoding="utf-8"))
        return answer


@pytest.fixture
def asking(workspace: Workspace) -> Asking:
    return Asking(workspace)


def everywhere(folder: Path, engine: Engine, image_id: str) -> dict[str, int]:
    """Returns how many rows of every Delta table below a folder hold an id in any column."""
    found = {}
    for log in folder.rglob("_delta_log"):
        rows = [row.asDict(recursive=True) for row in engine.read(log.parent).collect()]
        hits = sum(image_id in map(str, row.values()) for row in rows)
        if hits:
            found[log.parent.name] = hits
    return found


@pytest.mark.on_spark(slow=True)
def test_everything_that_any_table_holds_is_listed(asking: Asking, capsys: pytest.CaptureFixture[str]) -> None:
    answer = asking.ask("image-id", "a", ODD, "n", "absent", "a")
    by_id = {one["image_id"]: one for one in answer["images"]}
    assert list(by_id) == ["a", "absent", ODD, "n"]
    for image_id, one in by_id.items():
        listed = {name: len(one[name]) for name in ("images", "image_results", "faces") if one[name]}
        assert listed == everywhere(asking.folder, asking.workspace.engine, image_id)
    a = by_id["a"]
    assert a["images"] == [
        {
            "image_id": "a",
            "content_sha256": a["image_results"][0]["content_sha256"],
            "path": "/x/a",
            "captured_at": CAPTURED_AT.replace(tzinfo=None).isoformat(),
            "subject_id": 1,
        }
    ]
    columns = set(asking.workspace.engine.read(asking.folder / "out" / "faces").columns)
    assert all(face.keys() == columns for face in a["faces"])
    assert [face["face_index"] for face in a["faces"]] == [0, 1]
    assert a["faces"][0]["crop"] == {"base64": "anBlZw=="}
    assert a["consent"]["agrees"] is True
    assert [row["purpose"] for row in a["consent"]["table"]["rows"]] == ["research"]
    assert by_id["n"]["consent"]["agrees"] is False
    assert by_id["n"]["image_results"][0]["status"] == "not_consented"
    assert by_id["absent"]["consent"] == {
        "column": None,
        "table": {"name": str(asking.folder / "consents"), "purpose": "research", "rows": []},
        "agrees": None,
    }
    (run,) = answer["runs"]
    assert [run["run_id"]] == a["run_ids"]
    assert (run["purpose"], run["legal_basis"]) == ("research", ["eu-gdpr:A6-1-a"])
    assert len(run["policy_sha256"]) == 64
    assert run["policy"]["decisions"] == []
    assert answer["not_looked_at"]
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == "4 images: 3 in the images table, 3 with a result, 3 faces"
    for text in (captured.out, captured.err):
        assert "absent" not in text
        assert "ünicode" not in text
        assert "\\xfcnicode" not in text


def test_all_images_of_a_subject_are_found(asking: Asking) -> None:
    answer = asking.ask("subject-id", "1")
    assert [one["image_id"] for one in answer["images"]] == ["a", ODD]
    assert answer["subject_ids"] == ["1"]
    # Faces stay when their image leaves the images table: they are found by their own column.
    asking.workspace.write([(*image("z", content(0))[:5], 9)])
    assert [one["image_id"] for one in asking.ask("subject-id", "1")["images"]] == ["a", ODD]
    assert asking.ask("subject-id", "77")["images"] == []


def test_file_is_for_its_owner_alone(asking: Asking) -> None:
    asking.answer.write_text("old", encoding="utf-8")
    asking.answer.chmod(0o666)
    before = os.umask(0)
    try:
        asking.ask("image-id", "a")
    finally:
        os.umask(before)
    assert stat.S_IMODE(asking.answer.stat().st_mode) == 0o600
    assert [path.name for path in asking.folder.iterdir() if "answer" in path.name] == ["answer.json"]


def test_boolean_consent_is_explained(workspace: Workspace) -> None:
    rows = [(*image("y", content(1, "y")), True), (*image("n", content(1, "n")), None)]
    workspace.write(rows, SCHEMA + ", consent boolean")
    workspace.run("input.require_consent=true")
    config = workspace.engine.config("input.require_consent=true")
    places = (str(workspace.folder / "images"), str(workspace.folder / "out"))
    found = explanation.explain(workspace.engine.session, config, *places, image_ids=["y", "n"])
    agreed = {one["image_id"]: one["consent"] for one in found.data["images"]}
    assert agreed["y"] == {"column": {"name": "consent", "values": [True]}, "table": None, "agrees": True}
    assert agreed["n"]["agrees"] is False


def test_nothing_is_held_before_the_first_run(workspace: Workspace) -> None:
    workspace.write([image("a", content(1))])
    places = (str(workspace.folder / "images"), str(workspace.folder / "out"))
    found = explanation.explain(workspace.engine.session, workspace.engine.config(), *places, image_ids=["a"])
    assert dict(found.counts) == {"images": 1, "in_images_table": 1, "with_result": 0, "faces": 0}
    assert found.data["images"][0]["consent"] == {"column": None, "table": None, "agrees": None}
    config = workspace.engine.config("consent.subject=owner")
    with pytest.raises(FaceattrError, match="has no column 'owner' of subjects"):
        explanation.explain(workspace.engine.session, config, *places, subject_ids=["7"])


def test_tombstones_are_listed(workspace: Workspace) -> None:
    erasing = Erasing(workspace)
    erasing.nights(photos())
    erasing.erase("photo-019", with_images=False)  # and its copy
    places = (str(workspace.folder / "images"), str(workspace.folder / "out"))
    ids = ["photo-019", "twin-of-019", "photo-000"]
    found = explanation.explain(workspace.engine.session, erasing.config, *places, image_ids=ids).data
    tombstones = {one["image_id"]: one["tombstones"] for one in found["images"]}
    kinds = {image_id: sorted(row["kind"] for row in rows) for image_id, rows in tombstones.items()}
    assert kinds == {"photo-019": ["content", "image"], "twin-of-019": ["content", "image"], "photo-000": []}
    assert {row["created_at"][:2] for rows in tombstones.values() for row in rows} == {"20"}
    without_key = explanation.explain(workspace.engine.session, workspace.engine.config(), *places, image_ids=ids).data
    assert [one["tombstones"] for one in without_key["images"]] == [[], [], []]
    assert without_key["not_looked_at"] == [*found["not_looked_at"], explanation._NO_KEY]


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    return ["--output", str(tmp_path), "--images", str(tmp_path), "--json", str(tmp_path / "a.json")]


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"", "is empty"), (b" \n\n", "is empty"), (b"secret\xff", "is not UTF-8"), (None, "cannot be read")],
)
def test_file_of_ids_is_checked_first(
    options: list[str], tmp_path: Path, data: bytes | None, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if data is not None:
        (tmp_path / "ids").write_bytes(data)
    assert explain_job.main([*options, "--image-ids", str(tmp_path / "ids")]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "secret" not in error


def test_one_kind_of_ids_is_needed(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = ["--image-ids", str(tmp_path / "i"), "--subject-ids", str(tmp_path / "s")]
    for more in ([], both):
        assert explain_job.main([*options, *more]) == 2
        assert "either --image-ids or --subject-ids" in capsys.readouterr().err
