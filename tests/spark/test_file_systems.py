"""Plain paths lie on the session's default file system."""

from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest

from faceattr_udf.spark.file_systems import qualified


class HadoopPath:
    """Hadoop's Path on a file system at hdfs://name:8020, whose home is /user/ada."""

    def __init__(self, text: str) -> None:
        self.text = text

    def getFileSystem(self, _: Any) -> Any:  # noqa: N802 - Hadoop's name
        home = SimpleNamespace(toString=lambda: "hdfs://name:8020/user/ada")
        return SimpleNamespace(
            getUri=lambda: "hdfs://name:8020", getWorkingDirectory=lambda: "/user/ada", getHomeDirectory=lambda: home
        )

    def makeQualified(self, uri: str, folder: str) -> Any:  # noqa: N802
        absolute = self.text if "://" in self.text else uri + str(PurePosixPath(folder) / self.text)
        return SimpleNamespace(toString=lambda: absolute)


def session(default: str | None) -> Any:
    configuration = SimpleNamespace(get=lambda _: default)
    hadoop = SimpleNamespace(apache=SimpleNamespace(hadoop=SimpleNamespace(fs=SimpleNamespace(Path=HadoopPath))))
    return SimpleNamespace(
        _jsc=SimpleNamespace(hadoopConfiguration=lambda: configuration), _jvm=SimpleNamespace(org=hadoop)
    )


@pytest.mark.parametrize(
    ("location", "meant"),
    [
        ("/data/images", "hdfs://name:8020/data/images"),
        ("images", "hdfs://name:8020/user/ada/images"),
        ("~/images", "hdfs://name:8020/user/ada/images"),
        ("file:///mnt/x", "file:///mnt/x"),
        ("s3://bucket/x", "s3://bucket/x"),
        ("shop.images", "shop.images"),
        ("", ""),
    ],
)
def test_paths_on_a_cluster(location: str, meant: str) -> None:
    assert qualified(session("hdfs://name:8020"), location) == meant


@pytest.mark.parametrize("default", ["file:///", None])
def test_paths_on_this_machine(default: str | None) -> None:
    assert qualified(session(default), "/data/images") == "/data/images"
    assert qualified(session(default), "file:/data/my%20images") == "/data/my images"
    assert qualified(session(default), "hdfs:/data") == "hdfs:/data"


def test_sessions_without_access_to_hadoop() -> None:
    connect: Any = SimpleNamespace()
    assert qualified(connect, "images") == "images"
