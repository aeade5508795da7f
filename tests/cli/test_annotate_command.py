"""`faceattr annotate` reads tables that these tests write, so that no model runs."""

import io
import json
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Engine
from face_tables import face_row, write_tables
from PIL import Image, ImageDraw

from faceattr_udf.cli.annotate import main
from faceattr_udf.sanitize import file_name
from faceattr_udf.spark.pictures import Pictures

SCHEMA = "image_id string, content binary, consent boolean"
BOX = {"x_min": 300.0, "y_min": 100.0, "x_max": 360.0, "y_max": 180.0}


def photograph(orientation: int = 1, size: tuple[int, int] = (1200, 600)) -> bytes:
    """A gray photograph, upright 1200 x 600, with a white rectangle where `BOX` is, stored in an EXIF orientation."""
    image = Image.new("RGB", size, "gray")
    ImageDraw.Draw(image).rectangle((300, 100, 360, 180), fill="white")
    if orientation == 6:
        image = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "a secret place"
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif, quality=95)
    return file.getvalue()


PHOTOGRAPH = photograph()


class Night:
    """An images table and the tables of a run over it."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.folder = engine, folder

    def write(
        self,
        contents: dict[str, bytes | None],
        faces: list[dict[str, Any]],
        statuses: dict[str, str] | None = None,
        seen: dict[str, bytes] | None = None,
    ) -> None:
        """Writes the tables; the run has seen `seen` in place of today's contents."""
        rows = [(image_id, content, True) for image_id, content in contents.items()]
        self.engine.frame(rows, SCHEMA).write.format("delta").save(str(self.folder / "images"))
        digests = {i: sha256(content).hexdigest() for i, content in {**contents, **(seen or {})}.items() if content}
        results = dict.fromkeys(digests, "ok") | (statuses or {})
        write_tables(self.engine.session, self.folder / "out", faces, results, digests)

    def annotate(self, *arguments: str) -> dict[str, Any]:
        told = self.folder / "told.json"
        options = ["--images", str(self.folder / "images"), "--output", str(self.folder / "out"), "--json", str(told)]
        settings = [word for pair in self.engine.settings for word in ("--set", pair)]
        assert main([*options, "--to", str(self.folder / "pictures"), *settings, *arguments]) == 0
        found: dict[str, Any] = json.loads(told.read_text(encoding="utf-8"))
        return found

    def annotate_ids(self, *image_ids: str, arguments: tuple[str, ...] = ()) -> dict[str, Any]:
        file = self.folder / "ids.txt"
        file.write_text("\n".join(image_ids), encoding="utf-8")
        return self.annotate("--image-ids", str(file), *arguments)

    def pixels(self, image_id: str) -> Any:
        with Image.open(self.folder / "pictures" / file_name(image_id, ".jpg")) as picture:
            assert picture.format == "JPEG"
            assert b"secret" not in (self.folder / "pictures" / file_name(image_id, ".jpg")).read_bytes()
            assert not picture.getexif()
            return np.asarray(picture.convert("RGB")).astype(int)


@pytest.fixture
def night(engine: Engine, tmp_path: Path) -> Night:
    return Night(engine, tmp_path)


def test_empty_tables_give_no_pictures(night: Night) -> None:
    night.write({}, [])
    assert night.annotate()["pictures"] == []
    assert night.annotate_ids()["pictures"] == []


@pytest.mark.on_spark
def test_boxes_and_attributes_are_drawn_upright(night: Night) -> None:
    faces = [face_row("a", 0, bbox=BOX), face_row("turned", 0, bbox=BOX)]
    night.write({"a": PHOTOGRAPH, "turned": photograph(6), "tree": PHOTOGRAPH, "x": None}, faces, {"tree": "no_face"})
    told = night.annotate_ids("a", "turned", "tree", "a")
    assert [(row["image_id"], row["n_faces"]) for row in told["pictures"]] == [("a", 1), ("tree", 0), ("turned", 1)]
    assert told["problems"] == []
    bare = night.pixels("tree")
    assert bare.shape == (600, 1200, 3)
    for image_id in ("a", "turned"):
        changed = np.argwhere(np.abs(night.pixels(image_id) - bare).max(axis=2) > 60)
        assert changed[:, 0].min() == pytest.approx(100, abs=3)  # the box is the topmost, its label below it
        on_box = changed[changed[:, 0] < 140]
        assert (on_box[:, 1].min(), on_box[:, 1].max()) == pytest.approx((300, 360), abs=3)
        assert (changed[:, 0] > 185).sum() > 1000


def test_what_cannot_be_drawn_is_told(night: Night, capsys: pytest.CaptureFixture[str]) -> None:
    contents = {"changed": PHOTOGRAPH, "broken": b"\xff\xd8", "refused": PHOTOGRAPH, "nowhere": None, "odd": PHOTOGRAPH}
    box = {side: float("nan") for side in BOX}
    night.write(
        contents,
        [face_row("changed", 0), face_row("odd", 0, bbox=box)],
        {"broken": "corrupt", "refused": "not_consented"},
        seen={"changed": b"before", "gone": b"gone"},
    )
    told = night.annotate_ids("changed", "broken", "refused", "odd", "gone", "un\nknown", "unknown\x1b[2J")
    problems = {row["image_id"]: row["problem"] for row in told["problems"]}
    assert (
        problems["changed"] == problems["gone"] == "it is no longer in the images table, or has changed since the run"
    )
    assert problems["broken"] == "its status is corrupt"
    assert problems["refused"] == "its status is not_consented"
    assert problems["unknown\x1b[2J"] == "it has no row in image_results; enrich it first"
    assert problems["odd"] == "its boxes cannot be drawn (ValueError)"
    assert told["pictures"] == []
    printed = capsys.readouterr()
    assert printed.err.count(" is not drawn: ") == len(problems) == 8  # the second id is two lines
    assert (printed.out + printed.err).replace("\n", "").isprintable()


def test_consent_that_was_withdrawn_counts(night: Night) -> None:
    night.write({"a": PHOTOGRAPH}, [face_row("a", 0)])
    rows = [("a", PHOTOGRAPH, None)]
    images = night.engine.frame(rows, SCHEMA)
    images.write.format("delta").mode("overwrite").save(str(night.folder / "images"))
    told = night.annotate_ids("a", arguments=("--set", "input.require_consent=true"))
    assert [row["image_id"] for row in told["problems"]] == ["a"]
    assert len(night.annotate_ids("a")["pictures"]) == 1


def test_table_of_consents_decides_now(night: Night) -> None:
    night.write({"a": PHOTOGRAPH, "b": PHOTOGRAPH, "c": PHOTOGRAPH}, [face_row("a", 0), face_row("b", 0)])
    rows = [("a", PHOTOGRAPH, True, "S-a"), ("b", PHOTOGRAPH, True, "S-b"), ("c", PHOTOGRAPH, True, None)]
    images = night.engine.frame(rows, f"{SCHEMA}, subject_id string")
    images.write.format("delta").mode("overwrite").option("overwriteSchema", "true").save(str(night.folder / "images"))
    day = datetime(2026, 1, 1, tzinfo=UTC)
    consents = [("S-a", "research", day, None), ("S-b", "research", day, day)]
    schema = "subject_id string, purpose string, granted_at timestamp, withdrawn_at timestamp"
    night.engine.frame(consents, schema).write.format("delta").save(str(night.folder / "consents"))
    asked = ("--set", f"consent.table={night.folder / 'consents'}", "--set", "privacy.purpose=research")
    told = night.annotate_ids("a", "b", "c", arguments=asked)
    assert [row["image_id"] for row in told["pictures"]] == ["a"]
    assert [row["image_id"] for row in told["problems"]] == ["b", "c"]


def test_hostile_ids_stay_in_the_folder(night: Night, tmp_path: Path) -> None:
    ids = [
        "../a",
        "/etc/passwd",
        "a/b",
        "a_b",
        "CON",
        ".hidden",
        "-rf",
        "x" * 5000,
        "\u202egpj.exe",
        "it's `${x}` \\",
        " ",
    ]
    night.write(dict.fromkeys(ids, PHOTOGRAPH), [face_row(image_id, 0, bbox=BOX) for image_id in ids])
    (tmp_path / "elsewhere.jpg").write_bytes(b"mine")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / file_name("a/b", ".jpg")).symlink_to(tmp_path / "elsewhere.jpg")
    before = set(tmp_path.rglob("*")) - set((tmp_path / "pictures").rglob("*"))
    told = night.annotate("--sample", "100")
    assert sorted(row["image_id"] for row in told["pictures"]) == sorted(ids)
    assert {row["file"] for row in told["pictures"]} == {path.name for path in (tmp_path / "pictures").iterdir()}
    assert len({row["file"].casefold() for row in told["pictures"]}) == len(ids)
    after = set(tmp_path.rglob("*")) - set((tmp_path / "pictures").rglob("*"))
    assert {path.name for path in after - before} == {"told.json"}
    assert (tmp_path / "elsewhere.jpg").read_bytes() == b"mine"


def test_images_without_an_id_are_found_by_their_content(night: Night) -> None:
    digest = sha256(PHOTOGRAPH).hexdigest()
    image_id = f"null-image-id:{digest}"
    rows = [(None, PHOTOGRAPH, True), (None, PHOTOGRAPH, True), (None, None, True)]
    night.engine.frame(rows, SCHEMA).write.format("delta").save(str(night.folder / "images"))
    faces = [face_row(image_id, 0, bbox=BOX)]
    write_tables(night.engine.session, night.folder / "out", faces, {image_id: "ok"}, {image_id: digest})
    told = night.annotate()
    assert [(row["image_id"], row["n_faces"]) for row in told["pictures"]] == [(image_id, 1)]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (["emotion=surprise"], ["a", "b"]),
        (["emotion=surprise", "gender=male"], ["b"]),  # of a, another face is the surprised one
        (["gender="], ["c"]),
        (["face_index=1"], ["a"]),
        (["processed_at=2026-01-02", "emotion=surprise"], ["a", "b"]),
        (["processed_at=2026-01-03"], []),
        (["status=no_face"], ["d"]),
        (["n_faces=2", "gender=male"], ["a"]),
        (["emotion=surprise' OR '1'='1"], []),
    ],
)
def test_slices_choose_images(night: Night, where: list[str], expected: list[str]) -> None:
    faces = [
        face_row("a", 0, emotion="surprise", gender="female"),
        face_row("a", 1, emotion="fear", gender="male"),
        face_row("b", 0, emotion="surprise", gender="male"),
        face_row("c", 0, gender=None),
    ]
    night.write(dict.fromkeys("abcd", PHOTOGRAPH), faces, {"d": "no_face"})
    told = night.annotate(*(word for pair in where for word in ("--where", pair)))
    assert [row["image_id"] for row in told["pictures"]] == expected


@pytest.mark.on_spark
def test_sample_is_the_same_on_every_engine(night: Night) -> None:
    ids = [f"{number}.jpg" for number in range(40)]
    night.write({}, [], dict.fromkeys(ids, "no_face") | {"unread": "corrupt"})
    config = night.engine.config()
    pictures = Pictures(night.engine.session, config, str(night.folder / "images"), str(night.folder / "out"))
    for seed in (0, 1):
        by_hash = sorted(ids, key=lambda image_id: sha256(f"{seed}:{image_id}".encode()).hexdigest())
        assert pictures.sample([], 5, seed) == (sorted(by_hash[:5]), 40)


def test_size_is_bounded(night: Night) -> None:
    night.write({"a": PHOTOGRAPH, "small": photograph(size=(400, 200))}, [face_row("a", 0, bbox=BOX)])
    night.annotate("--max-pixels", "45000")
    assert night.pixels("a").shape == night.pixels("small").shape == (150, 300, 3)


def test_base64_text_is_drawn(night: Night) -> None:
    text = b64encode(PHOTOGRAPH).decode()
    frame = night.engine.frame([("a", text), ("b", "https://host/b.jpg")], "image_id string, content string")
    frame.write.format("delta").save(str(night.folder / "images"))
    digests = {"a": sha256(text.encode()).hexdigest(), "b": sha256(b"https://host/b.jpg").hexdigest()}
    write_tables(night.engine.session, night.folder / "out", [face_row("a", 0)], dict.fromkeys("ab", "ok"), digests)
    told = night.annotate("--set", "input.content_encoding=base64")
    assert [row["image_id"] for row in told["pictures"]] == ["a"]
    assert told["problems"][0]["problem"].startswith("the content is a URL")


@pytest.fixture
def refused(night: Night, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    night.write({}, [])

    def run(*arguments: str) -> str:
        place = ["--images", str(night.folder / "images"), "--output", str(night.folder / "out")]
        assert main([*place, "--to", str(night.folder / "pictures"), *arguments]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        (sentence,) = captured.err.splitlines()
        return sentence

    return run


@pytest.mark.parametrize(
    ("pair", "named"),
    [
        ("emotion", "'emotion' is not of the form column=value"),
        ("=surprise", "is not of the form column=value"),
        ("emotions=surprise", "choose among image_id, face_index, age_group, gender"),
        ("quality=1", "names no column of text, whole numbers, days"),
        ("age=31", "names no column of text, whole numbers, days"),
        ("face_index=1.5", "the column has the type int; give a whole number"),
        ("face_index=99999999999999999999", "give a whole number"),
        ("processed_at=yesterday", "give a day such as 2026-11-30"),
    ],
)
def test_wrong_condition_is_refused(refused: Callable[..., str], pair: str, named: str) -> None:
    assert named in refused("--where", pair)


def test_wrong_files_are_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "nowhere.txt cannot be read (No such file" in refused("--image-ids", str(tmp_path / "nowhere.txt"))
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe")
    assert "it is not UTF-8" in refused("--image-ids", str(tmp_path / "bytes.txt"))
    assert "leave --where and --sample out" in refused("--image-ids", str(tmp_path / "bytes.txt"), "--sample", "3")
    assert "is inside the Delta table" in refused("--to", str(tmp_path / "out" / "faces" / "pictures"))
    assert "--to" in refused("--to", str(tmp_path / "bytes.txt"))
