"""Untrusted text becomes one printable line without secrets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceattr_udf.errors import FaceattrError, SchemaError
from faceattr_udf.sanitize import HIDDEN, SPARK_REDACTION, is_secret, printable, redacted


@given(st.text(st.characters(exclude_categories=[])))
def test_printable_gives_one_printable_line(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()  # fails for lone surrogates, which file names may contain
    if text.isprintable():
        assert shown == text


def test_error_message_is_one_line() -> None:
    error = SchemaError("column a\n2026-11-25 [info] all is well\x1b[2J is not expected")
    assert str(error) == "column a\\n2026-11-25 [info] all is well\\x1b[2J is not expected"
    assert isinstance(error, FaceattrError)


SECRET_KEYS = [
    "spark.hadoop.fs.s3a.secret.key",
    "spark.hadoop.fs.s3a.access.key",
    "spark.hadoop.fs.s3a.session.token",
    "fs.azure.account.key.me.dfs.core.windows.net",
    "fs.azure.sas.container.me.blob.core.windows.net",
    "fs.gs.auth.service.account.private.key",
    "spark.ssl.keyPassword",
    "spark.hadoop.javax.jdo.option.ConnectionPassword",
    "ssl.passphrase",
    "apikey",
    "api_key",
    "spark.io.encryption.keySizeBits.master-key",
    "DB_PWD",
]


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_secret_keys_are_redacted(key: str) -> None:
    assert is_secret(key)
    assert redacted(f"cannot use {key}=t0p.Secret+/; stop") == f"cannot use {key}={HIDDEN}; stop"


@pytest.mark.parametrize("key", ["spark.sql.shuffle.partitions", "spark.master", "image_id", "fs.s3a.endpoint", "keys"])
def test_other_keys_are_not_redacted(key: str) -> None:
    assert not is_secret(key)
    assert redacted(f"{key}=8") == f"{key}=8"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("jdbc:mysql://db/x?user=me&password=t0p", f"jdbc:mysql://db/x?user=me&password={HIDDEN}"),
        ("s3://me:t0p@bucket/images", f"s3://{HIDDEN}@bucket/images"),
        ("sc://host:443/;use_ssl=true;token=t0p", f"sc://host:443/;use_ssl=true;token={HIDDEN}"),
        ("https://me.blob/x?sv=1&sig=t0p", f"https://me.blob/x?sv=1&sig={HIDDEN}"),
        ("https://b.s3/x?X-Amz-Signature=t0p&y=1", f"https://b.s3/x?X-Amz-Signature={HIDDEN}&y=1"),
    ],
)
def test_secrets_in_urls_are_redacted(text: str, shown: str) -> None:
    assert is_secret(text)
    assert redacted(text) == shown


def test_url_without_a_secret_is_unchanged() -> None:
    for text in ("abfss://container@account.dfs.core.windows.net/images", "s3a://bucket/a:b@c", "hdfs://host:9000/x"):
        assert redacted(text) == text


def test_spark_redaction_covers_its_default() -> None:
    assert all(part in SPARK_REDACTION for part in ("(?i)", "secret", "token"))
    assert is_secret("password")
    assert is_secret("accesskey")
