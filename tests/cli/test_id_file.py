"""Files of ids: what counts as one, and errors that do not quote the file."""

from pathlib import Path

import pytest

from faceattr_udf.cli.id_file import read_ids
from faceattr_udf.errors import ConfigError


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        (b"", []),
        (b" \r\n\n", []),
        (b"a", ["a"]),
        (b"\xef\xbb\xbfb\r\na\r\nb\r\n", ["b", "a"]),
        ("a b \n\u00e9\u2028x\n".encode(), ["a b ", "\u00e9\u2028x"]),
    ],
)
def test_ids_are_lines(content: bytes, ids: list[str], tmp_path: Path) -> None:
    (tmp_path / "ids").write_bytes(content)
    assert read_ids(tmp_path / "ids", "--ids") == ids


def test_error_names_the_option_and_does_not_quote_the_file(tmp_path: Path) -> None:
    (tmp_path / "ids").write_bytes(b"secret\xff")
    with pytest.raises(
        ConfigError, match=r"^--ids .*ids cannot be read \(it is not UTF-8\); name a text file"
    ) as caught:
        read_ids(tmp_path / "ids", "--ids")
    assert caught.value.__cause__ is None
    with pytest.raises(ConfigError, match=r"absent cannot be read \(No such file"):
        read_ids(tmp_path / "absent", "--ids")
