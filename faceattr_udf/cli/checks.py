"""The result of one check of `faceattr doctor`."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "skipped", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check.

    Attributes:
        name: What was checked.
        state: "skipped" where this configuration does not need it, "warning" where the job runs all the same.
        detail: What was found.
        fix: What to do; "" where nothing is wrong.
    """

    name: str
    state: State
    detail: str
    fix: str = ""
