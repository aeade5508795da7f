"""Tombstones: keyed hashes of what was erased, so that no later night derives it again.

A plain hash of a file name can be found by guessing. HMAC-SHA256 (RFC 2104) cannot be computed without its key, and the
key is kept outside the tables. Without the key tombstones recognize nothing.
"""

import hmac
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Self

from faceattr_udf.errors import ConfigError

Kind = Literal["image", "content"]
"""What a tombstone is of: an image_id, or the SHA-256 of a content."""

_SECRET_BYTES: Final = 32
_KEY_BYTES: Final = 16
"""128 bits: two of a thousand million tombstones are equal with a probability below 1e-20."""


@dataclass(frozen=True)
class KeyedHash:
    """Computes the keys of tombstones.

    Attributes:
        secret: 32 random bytes.
    """

    secret: bytes = field(repr=False)

    def key(self, kind: Kind, value: str) -> bytes:
        """Returns the 16 bytes that stand for an image_id or a content."""
        # No kind has a colon, so no two pairs give the same text.
        return hmac.digest(self.secret, f"{kind}:{value}".encode(), "sha256")[:_KEY_BYTES]

    @property
    def key_id(self) -> str:
        """Names the secret without telling it: eight hexadecimal digits."""
        return hmac.digest(self.secret, b"key_id", "sha256").hex()[:8]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a key file.

        Raises:
            ConfigError: The file is missing, holds no key, or others can read it.
        """
        try:
            mode, text = path.stat().st_mode, path.read_text(encoding="ascii")
            secret = bytes.fromhex(text.strip())
        except OSError as error:
            msg = f"privacy.key_file {path} cannot be read ({error.strerror}); restore it from its backup"
            raise ConfigError(msg) from None
        except ValueError:
            secret, mode = b"", 0
        if len(secret) != _SECRET_BYTES:
            msg = f"privacy.key_file {path} holds no key of {_SECRET_BYTES} bytes in hexadecimal digits; restore it"
            raise ConfigError(msg)
        if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
            msg = f"privacy.key_file {path} can be read by others (mode {stat.S_IMODE(mode):o}); run chmod 600 on it"
            raise ConfigError(msg)
        return cls(secret)

    @classmethod
    def create(cls, path: Path) -> Self:
        """Reads a key file, or makes one with a new key that only its owner can read.

        Raises:
            ConfigError: It cannot be written; or as for `load`.
        """
        unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            if path.exists():
                return cls.load(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                os.chmod(unfinished, 0o600)  # noqa: PTH101 - not changed by the umask either
                file.write(secrets.token_hex(_SECRET_BYTES) + "\n")
                file.flush()
                os.fsync(file.fileno())
            # A link fails if somebody made the key meanwhile, where a rename would replace it.
            os.link(unfinished, path)
        except FileExistsError:
            pass
        except OSError as error:
            msg = f"privacy.key_file {path} cannot be written ({error.strerror}); name a file that you may write"
            raise ConfigError(msg) from error
        finally:
            unfinished.unlink(missing_ok=True)
        return cls.load(path)


@dataclass(frozen=True)
class Tombstones:
    """All tombstones of an output.

    Attributes:
        hash: Computes their keys.
        keys: Those of images and those of contents.
    """

    hash: KeyedHash
    keys: frozenset[bytes]

    def covers(self, image_id: str, content_sha256: str | None) -> bool:
        """Checks whether an image or its content was erased."""
        return self.hash.key("image", image_id) in self.keys or (
            content_sha256 is not None and self.hash.key("content", content_sha256) in self.keys
        )
