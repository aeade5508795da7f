"""The policy: rules that a configuration must meet before a run, read from a TOML file."""

from faceattr_udf.privacy.assessment import Assessment, Decision, assess
from faceattr_udf.privacy.rules import Policy, Rule, load_policy

__all__ = ["Assessment", "Decision", "Policy", "Rule", "assess", "load_policy"]
