"""Tombstones: keyed hashes that only the owner of the key file can compute."""

import hmac
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from faceattr_udf.errors import ConfigError
from faceattr_udf.privacy.tombstones import KeyedHash, Tombstones


def test_key_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "erasure.key"
    before = os.umask(0)
    try:
        with ThreadPoolExecutor(8) as pool:
            made = set(pool.map(lambda _: KeyedHash.create(path), range(8)))
    finally:
        os.umask(before)
    assert made == {KeyedHash.load(path)}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    assert made.pop().secret.hex() not in repr(KeyedHash.load(path))


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        (None, 0o600, "cannot be read"),
        ("", 0o600, "holds no key of 32 bytes"),
        ("xyz", 0o600, "holds no key"),
        ("00" * 31, 0o600, "holds no key"),
        ("00" * 32, 0o640, "can be read by others"),
    ],
)
def test_bad_key_file_is_refused(tmp_path: Path, text: str | None, mode: int, says: str) -> None:
    path = tmp_path / "key"
    if text is not None:
        path.write_text(text, encoding="ascii")
        path.chmod(mode)
    with pytest.raises(ConfigError, match=says):
        KeyedHash.load(path)


def test_key_depends_on_secret_kind_and_value() -> None:
    one, other = KeyedHash(b"1" * 32), KeyedHash(b"2" * 32)
    keys = {hash_.key(kind, value) for hash_ in (one, other) for kind in ("image", "content") for value in ("a", "b")}  # type: ignore[arg-type]
    assert len(keys) == 8
    assert {len(key) for key in keys} == {16}
    assert one.key_id != other.key_id
    assert one.key("image", "a") == hmac.new(b"1" * 32, b"image:a", "sha256").digest()[:16]


def test_tombstones_cover_ids_and_contents() -> None:
    keyed = KeyedHash(b"1" * 32)
    tombstones = Tombstones(keyed, frozenset({keyed.key("image", "a"), keyed.key("content", "c")}))
    found = [tombstones.covers(*pair) for pair in (("a", None), ("b", "c"), ("b", None), ("c", "a"), ("b", "d"))]
    assert found == [True, True, False, False, False]


def test_names_cannot_be_guessed_without_the_key() -> None:
    keys = frozenset(KeyedHash(os.urandom(32)).key("image", f"photo_{number}.jpg") for number in range(1000))
    guesses = {
        sha256(f"{prefix}photo_{n}.jpg".encode()).digest()[:16] for n in range(1000) for prefix in ("", "image:")
    }
    guesses |= {KeyedHash(bytes(32)).key("image", f"photo_{number}.jpg") for number in range(1000)}
    assert not keys & guesses
