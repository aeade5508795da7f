"""`faceattr config`: what it prints is a configuration, and it explains every key."""

import tomllib

import pytest

from faceattr_udf.cli.config import main
from faceattr_udf.cli.reference import settings, to_toml
from faceattr_udf.config import Config


def test_printed_configuration_loads_as_itself(capsys: pytest.CaptureFixture[str]) -> None:
    exceptions = 'privacy.exceptions=[{rule = "a", expires_on = 2029-01-01}, {rule = "b", document = "x, \\"y\\""}]'
    overrides = ["detector.min_face_size=40", 'engine.settings.spark.x.y=a"b', exceptions]
    assert main([word for override in overrides for word in ("--set", override)]) == 0
    printed = capsys.readouterr().out
    expected = Config.load(None, overrides)
    assert len(expected.privacy.exceptions) == 2
    assert Config.from_mapping(tomllib.loads(printed)) == expected
    assert f"# config_id {expected.config_id()}" in printed


def test_printed_configuration_hides_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--set", "engine.settings.spark.hadoop.fs.s3a.secret.key=abc"]) == 0
    assert "abc" not in capsys.readouterr().out


def test_wrong_configuration_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--set", "detector.min_face_size=3"]) == 2
    assert capsys.readouterr().err.startswith("config: configuration: detector.min_face_size = 3 is wrong")


@pytest.mark.parametrize("key", settings())
def test_every_key_is_explained(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", key]) == 0
    title, *text = capsys.readouterr().out.splitlines()
    assert title.startswith(f"{key} (")
    assert len(" ".join(text)) > 15


def test_section_explains_all_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "detector"]) == 0
    printed = capsys.readouterr().out
    assert all(f"{key} (" in printed for key in settings() if key.startswith("detector."))


@pytest.mark.parametrize(
    ("typo", "hint"), [("detector.min_face_sise", "detector.min_face_size"), ("lease_seconds", "runtime.lease_seconds")]
)
def test_unknown_key_names_the_nearest(typo: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", typo]) == 2
    assert f"there is no key {typo}; did you mean {hint}?" in capsys.readouterr().err


def test_empty_settings_are_empty_toml() -> None:
    assert to_toml({}) == ""
