"""Sanitizes untrusted text for logs, errors and terminals: escapes control characters and redacts secrets."""

import hashlib
import re
from typing import Final

HIDDEN: Final = "(hidden)"
"""Replacement for a redacted value."""

_NAME_LENGTH: Final = 80
"""Characters of a text that its file name keeps: its last ones, where paths differ."""

_NAMES: Final = (
    r"secret|passw|pwd|passphrase|token|credential|signature|authorization"
    r"|(?:access|account|api|encryption|master|private)[-_. ]?key|\b(?:sas|sig)\b"
)
_SECRET: Final = re.compile(rf"(?i){_NAMES}|://[^/@\s:]*:[^/@\s]+@")
_PAIR: Final = re.compile(rf"(?i)((?:{_NAMES})[^\s=:;&,'\"]*\s*[=:]\s*)[^\s;&,'\"]+")
_USER: Final = re.compile(r"(://)[^/@\s:]*:[^/@\s]+@")

SPARK_REDACTION: Final = rf"(?i){_NAMES}"
"""Value of `spark.redaction.regex`, for Spark's own pages and logs; covers everything that its default covers."""


def is_secret(text: str) -> bool:
    """Checks whether a key names a secret or a value seems to contain one.

    >>> is_secret("fs.azure.account.key.me"), is_secret("-Dstore.password=abc"), is_secret("spark.sql.ansi.enabled")
    (True, True, False)
    """
    return _SECRET.search(text) is not None


def redacted(text: str) -> str:
    """Replaces the values of possible secrets in a text.

    >>> redacted("invalid URL sc://host/;token=abc;use_ssl=true")
    'invalid URL sc://host/;token=(hidden);use_ssl=true'
    >>> redacted("s3://key:secret@bucket/images")
    's3://(hidden)@bucket/images'
    """
    return _PAIR.sub(rf"\1{HIDDEN}", _USER.sub(rf"\1{HIDDEN}@", text))


def printable(text: str) -> str:
    r"""Escapes line breaks and other unprintable characters, so that the text is one line.

    >>> print(printable("a\nb\x1b[2J\u202ec"))
    a\nb\x1b[2J\u202ec
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def file_name(text: str, suffix: str) -> str:
    """Returns a file name for any text: its harmless characters, and a hash that tells equal ones apart.

    >>> file_name("summer/Jane Doe.png", ".jpg")
    'summer_Jane_Doe.png-92d248d40103.jpg'
    >>> file_name("../../etc/passwd", ".jpg").startswith("etc_passwd-")
    True
    """
    harmless = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-")[-_NAME_LENGTH:]
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{harmless or 'image'}-{digest}{suffix}"


def first_line(error: BaseException) -> str:
    r"""Returns the first line of an error's message, or its class name if the message is empty.

    Engines append whole query plans and stack traces to their messages.

    >>> first_line(ValueError("no such table\nat org.apache")), first_line(KeyboardInterrupt())
    ('no such table', 'KeyboardInterrupt')
    """
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
