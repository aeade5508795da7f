"""Runs over tables whose columns have odd names and types, come, go or change their type; and lost output tables."""

import json
import shutil
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import content, inferred
from workspaces import IMAGES, Workspace, image

from faceattr_udf.errors import ConfigError, EngineError, SchemaError

CONTENTS = {"image_id": ["a", "b"], "content": [content(1, "a"), content(2, "b")]}


def passing(*names: str) -> str:
    return f"input.columns.pass_through={json.dumps(names)}"


def parquet(workspace: Workspace, **columns: Any) -> None:
    folder = workspace.folder / "images"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    pq.write_table(pa.table({**CONTENTS, **columns}), folder / "a.parquet")


def column(workspace: Workspace, name: str) -> list[Any]:
    return [row[name] for row in workspace.table("faces") if row["face_index"] == 0]


@pytest.mark.on_spark
def test_images_whose_faces_are_gone_are_inferred_again(finished: Workspace) -> None:
    before, seen = finished.tables(), len(inferred(finished.seen))
    faces = finished.engine.read(finished.folder / "out" / "faces")
    some = faces.where("image_id <> 'b' AND NOT (image_id = 'g' AND face_index = 1)").toPandas()
    kept = finished.engine.session.createDataFrame(some, faces.schema)
    kept.write.format("delta").mode("overwrite").save(str(finished.folder / "out" / "faces"))
    run = finished.run()
    assert (run.n_images, len(inferred(finished.seen)) - seen) == (2, 2)
    assert finished.tables() == before
    assert finished.run().n_images == 0


def test_dropped_faces_table_is_filled_again(finished: Workspace) -> None:
    before = finished.tables()
    shutil.rmtree(finished.folder / "out" / "faces")
    assert finished.run().n_images == 5  # those with faces
    assert finished.tables() == before


@pytest.mark.on_spark
def test_odd_names_pass_through(workspace: Workspace) -> None:
    names = ["_hash", "_new", "source_id", "a.b", "status", "passed_0"]
    parquet(workspace, **{name: [f"{name} 1", f"{name} 2"] for name in names})
    workspace.run(passing(*names))
    assert [{name: row[name] for name in names} for row in workspace.table("faces")] == [
        {name: f"{name} {number}" for name in names} for number in (1, 2, 2)
    ]
    log = sorted((workspace.folder / "out" / "faces" / "_delta_log").glob("*.json"))
    workspace.run(passing(*names))
    assert sorted((workspace.folder / "out" / "faces" / "_delta_log").glob("*.json")) == log
    parquet(workspace, **{name: [f"{name} 3", f"{name} 2"] for name in names})
    assert workspace.run(passing(*names)).n_images == 0
    assert column(workspace, "a.b") == ["a.b 3", "a.b 2"]


@pytest.mark.on_spark
def test_columns_that_come_go_and_change_their_type(workspace: Workspace) -> None:
    asked = passing("path", "shop", "year", "at")
    parquet(workspace, path=["x", "y"], year=["2024", "no year"])
    workspace.run(asked)
    seen = inferred(workspace.seen)
    times = pa.array([datetime(2026, 1, 2, 3, 4, 5), None], pa.timestamp("ns"))
    parquet(workspace, shop=[1, 2], year=pa.array([2024, None], pa.int32()), at=times)
    assert workspace.run(asked).n_images == 0
    assert (column(workspace, "path"), column(workspace, "shop")) == (["x", "y"], [1, 2])
    assert column(workspace, "year") == [2024, None]
    assert [str(time) for time in column(workspace, "at")] == ["2026-01-02 03:04:05", "None"]
    assert inferred(workspace.seen) == seen
    changed = {**CONTENTS, "content": [content(1, "new"), CONTENTS["content"][1]]}
    parquet(workspace, **changed, path=pa.nulls(2))
    workspace.run(asked)
    assert (column(workspace, "path"), column(workspace, "shop")) == ([None, "y"], [None, 2])


def test_names_that_differ_in_case_only_are_refused(workspace: Workspace) -> None:
    parquet(workspace, IMAGE_ID=["x", "y"])
    with pytest.raises(SchemaError, match="has the columns 'image_id' and 'IMAGE_ID', which engines take for the same"):
        workspace.run(passing("path"))


def test_type_that_cannot_be_changed_is_refused(workspace: Workspace) -> None:
    parquet(workspace, path=[[1], [2]])
    workspace.run()
    parquet(workspace, path=["x", "y"])
    with pytest.raises(SchemaError, match=r"'path' passes through as string, and table .* has it as array<bigint>"):
        workspace.run()
    parquet(workspace, PATH=["x", "y"])
    with pytest.raises(SchemaError, match=r"'PATH' passes through, and table .* has it as 'path'"):
        workspace.run(passing("PATH"))


TIMES = pd.to_datetime(["2024-01-02 03:04:05.123456789", "1969-12-31 23:59:59.999999"])
TYPES = {
    "naive": (TIMES, "timestamp_ntz"),
    "utc": (TIMES.tz_localize("UTC"), "timestamp"),
    "category": (pa.array(["x", None]).dictionary_encode(), "string"),
    "duration": (pa.array([1, None], pa.duration("ns")), "bigint"),
    "uint8": (pa.array([1, 255], pa.uint8()), "smallint"),
    "date64": (pa.array([0, 86_400_000], pa.date64()), "date"),
    "large_list": (pa.array([[1], None], pa.large_list(pa.int32())), "array<int>"),
    "large_binary": (pa.array([b"x", None], pa.large_binary()), "binary"),
}


@pytest.mark.on_spark
def test_types_that_other_programs_write(workspace: Workspace) -> None:
    unused = {"half": pa.array(np.array([1, 2], np.float16)), "time": pa.array([1, 2], pa.time64("us"))}
    parquet(workspace, empty=pa.nulls(2), **unused, **{name: values for name, (values, _) in TYPES.items()})
    asked = passing(*TYPES, "empty")
    assert workspace.run(asked).counts == {"ok": 2}
    types = dict(workspace.engine.read(workspace.folder / "out" / "faces").dtypes)
    assert {name: types[name] for name in TYPES} == {name: type_ for name, (_, type_) in TYPES.items()}
    assert "empty" not in types
    assert [str(time) for time in column(workspace, "naive")] == [
        *("2024-01-02 03:04:05.123456", "1969-12-31 23:59:59.999999")
    ]
    assert column(workspace, "category") == ["x", None]
    assert column(workspace, "duration") == [1, None]
    assert column(workspace, "uint8") == [1, 255]
    assert column(workspace, "large_list") == [[1], None]
    assert workspace.run(asked).n_images == 0


@pytest.mark.on_spark
def test_types_that_no_table_keeps_are_refused_before_any_work(workspace: Workspace) -> None:
    parquet(workspace, captured_at=pa.array([1, 2], pa.time64("us")))
    with pytest.raises(SchemaError, match=r"'captured_at' of table .* is time64\[us\], which Delta tables cannot keep"):
        workspace.run()
    assert not (workspace.folder / "out").exists()


def test_half_floats_pass_through(workspace: Workspace) -> None:
    parquet(workspace, half=pa.array(np.array([1.5, 2], np.float16)))
    workspace.run(passing("half"))
    assert column(workspace, "half") == [1.5, 2.0]


@pytest.mark.on_spark
def test_whole_numbers_as_ids_and_a_field_as_content(workspace: Workspace) -> None:
    pictures = pa.array([{"bytes": bytes_, "path": None} for bytes_ in CONTENTS["content"]])
    folder = workspace.folder / "images"
    folder.mkdir()
    pq.write_table(pa.table({"image_id": [7, 10], "image": pictures}), folder / "a.parquet")
    assert workspace.run("input.columns.content=image.bytes").counts == {"ok": 2}
    assert [row["image_id"] for row in workspace.table("faces")] == ["10", "10", "7"]
    assert workspace.run("input.columns.content=image.bytes").n_images == 0


@pytest.mark.on_spark
def test_subfolders_and_partitions(workspace: Workspace) -> None:
    folder = workspace.folder / "images"
    for index, day in enumerate(("2024-01-02", "2024-01-03")):
        (folder / f"day={day}").mkdir(parents=True)
        rows = {name: values[index : index + 1] for name, values in CONTENTS.items()}
        pq.write_table(pa.table(rows), folder / f"day={day}" / "a.parquet")
    workspace.run(passing("day"))
    assert [str(day) for day in column(workspace, "day")] == ["2024-01-02", "2024-01-03"]


@pytest.mark.on_spark
def test_other_files_in_subfolders_are_no_images(workspace: Workspace) -> None:
    parquet(workspace)
    folder = workspace.folder / "images" / "old"
    folder.mkdir()
    pq.write_table(pa.table({"image_id": ["c"], "content": [content(1, "c")]}), folder / "b.parquet")
    assert workspace.run().counts == {"ok": 2}


@pytest.mark.on_spark
@pytest.mark.parametrize("name", ["[1]", "a b", "{x}", "a*", "it's", "a%20b"])
def test_names_of_folders_mean_themselves(workspace: Workspace, name: str) -> None:
    parquet(workspace)
    (workspace.folder / name).mkdir()
    shutil.move(workspace.folder / "images", workspace.folder / name / "images")
    inside = Workspace(workspace.engine, workspace.folder / name)
    if workspace.engine.name == "sail":
        with pytest.raises(EngineError, match="engine sail cannot use a Delta table at"):
            inside.run()
        return
    assert inside.run().counts == {"ok": 2}
    assert sorted(entry.name for entry in (inside.folder / "out").iterdir()) == ["faces", "image_results", "runs"]


def test_output_inside_the_images_is_refused(workspace: Workspace) -> None:
    parquet(workspace)
    (workspace.folder / "out").symlink_to(workspace.folder / "images")
    with pytest.raises(ConfigError, match="lie in each other"):
        workspace.run()


@pytest.mark.on_spark
def test_variables_in_ids_stay_text(workspace: Workspace) -> None:
    for seed in ("1", "2"):
        workspace.write([IMAGES[0], image("z${env:HOME}", content(1, seed)), image("z'\\", content(1, seed))])
        workspace.run()
    rows = [(row["image_id"], row["face_index"]) for row in workspace.table("faces")]
    assert rows == [("a", 0), ("a", 1), ("z${env:HOME}", 0), ("z'\\", 0)]
