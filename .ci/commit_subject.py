"""Checks the first line of a commit message: at most 72 characters, a capital letter first, no full stop at the end.

python .ci/commit_subject.py FILE
"""

import sys
from pathlib import Path
from typing import Final

MAX_CHARACTERS: Final = 72


def problem(message: str) -> str | None:
    """Returns what is wrong with a commit message's subject, or None.

    >>> problem("Retry merges only while the lease is held")
    >>> problem("retry merges.")
    'begin with a capital letter'
    """
    subject = message.partition("\n")[0]
    if not subject or not subject[0].isupper():
        return "begin with a capital letter"
    if len(subject) > MAX_CHARACTERS:
        return f"it has {len(subject)} characters; {MAX_CHARACTERS} are the limit"
    return "remove the full stop" if subject.endswith(".") else None


if __name__ == "__main__":
    found = problem(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if found:
        print(f"commit subject: {found}", file=sys.stderr)
    sys.exit(bool(found))
