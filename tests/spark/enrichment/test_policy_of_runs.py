"""The policy at the start of a run: refused before any work, warned of once, recorded with the run."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from fakes import content
from own_policy import OWN
from structlog.testing import capture_logs
from workspaces import Workspace, image

from faceattr_udf.errors import PolicyError
from faceattr_udf.privacy import load_policy
from jobs import enrich as enrich_job

COMPLETE = [
    'privacy.jurisdictions=["EU"]',
    'attributes.predict=["age", "gender", "emotion"]',
    "privacy.purpose=audience_statistics",
    'privacy.legal_basis=["eu-gdpr:A6-1-a"]',
    "privacy.context=retail",
    "privacy.controller=Example Ltd",
    "privacy.notice_ref=sign at the door",
    "minors.age=18",
]


def runs(workspace: Workspace) -> list[dict[str, Any]]:
    rows = workspace.engine.read(workspace.folder / "out" / "runs").orderBy("started_at").collect()
    return [row.asDict(recursive=True) for row in rows]


def test_refused_configuration_ends_before_any_work(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    # The images table does not exist: nothing looks at it.
    output = workspace.folder / "out"
    arguments = ["--images", str(workspace.folder / "images"), "--output", str(output)]
    settings = [*workspace.engine.settings, *COMPLETE, 'attributes.predict=["age", "ethnicity"]']
    arguments += [word for setting in settings for word in ("--set", setting)]
    assert enrich_job.main(arguments) == 2
    sentence = capsys.readouterr().err.strip().splitlines()[-1]
    assert sentence.startswith("enrich: the policy ")
    assert "[eu-aia-5-1-g] categorising individual people by their faces to infer race is prohibited" in sentence
    assert sentence.endswith("this is no legal advice")
    assert list(workspace.folder.iterdir()) == []


def test_run_records_its_purpose_and_policy(workspace: Workspace) -> None:
    workspace.write([image("a", content(1))])
    with capture_logs() as logs:
        workspace.run(*COMPLETE)
    assert [entry for entry in logs if entry["event"] == "policy"] == []
    (row,) = runs(workspace)
    assert (row["purpose"], row["legal_basis"]) == ("audience_statistics", ["eu-gdpr:A6-1-a"])
    assert (row["jurisdictions"], row["context"]) == (["EU"], "retail")
    assert row["policy_sha256"] == load_policy().sha256
    policy = json.loads(row["policy"])
    assert {"rule": "eu-aia-50-3", "effect": "require", "state": "met"} in policy["decisions"]
    assert {"rule": "eu-gdpr-30", "effect": "inform", "state": "applies"} in policy["decisions"]


def test_run_without_jurisdiction_warns_once(workspace: Workspace) -> None:
    workspace.write([image("a", content(1)), image("b", content(1, "b"))])
    with capture_logs() as logs:
        workspace.run("enrich.wave_images=1")
    (warning,) = [entry for entry in logs if entry["event"] == "policy"]
    assert warning["log_level"] == "warning"
    assert warning["says"].startswith("privacy.jurisdictions is empty, so no rule was applied; EU would refuse")
    (row,) = runs(workspace)
    assert (row["purpose"], row["legal_basis"], row["jurisdictions"], row["n_minors"]) == (None, [], [], None)


@pytest.mark.on_spark(slow=True)
def test_restriction_decides_what_is_computed(workspace: Workspace, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(OWN.replace('"own"', '"ours"'), encoding="utf-8")
    workspace.write([image("a", content(1))])
    plain = workspace.run()
    with capture_logs() as logs:
        run = workspace.run(f"privacy.policy_file={policy}", 'privacy.jurisdictions=["XX"]')
    assert run.config.attributes.predict == ("age", "gender", "ethnicity")
    assert run.n_inferred == plain.n_inferred == 1
    assert [entry["says"] for entry in logs if entry["event"] == "policy"] == ["[ours] we do not look at emotions"]
    row = runs(workspace)[1]
    assert row["policy_sha256"] == hashlib.sha256(policy.read_bytes()).hexdigest()
    assert row["config_id"] == run.config.config_id() != plain.config.config_id()
    assert json.loads(row["policy"])["decisions"] == [{"rule": "ours", "effect": "restrict", "state": "applies"}]


def test_exception_from_an_unknown_rule_ends_before_any_work(workspace: Workspace) -> None:
    workspace.write([image("a", content(1))])
    with pytest.raises(PolicyError, match=r"privacy\.exceptions names nothing"):
        workspace.run('privacy.exceptions=[{rule = "nothing"}]')
    assert not (workspace.folder / "out").exists()
