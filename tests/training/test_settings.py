from pathlib import Path

import pytest

from faceattr_udf.errors import ConfigError
from faceattr_udf.training.settings import TrainingSettings


@pytest.mark.parametrize(("content", "reason"), [(b"[train", "is not valid TOML"), (b"\xff", "is not valid TOML")])
def test_unreadable_training_configuration_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"the training configuration .*mine\.toml {reason}"):
        TrainingSettings.load(path)
