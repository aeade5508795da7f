"""What the command lines of the jobs share."""

import argparse


def configured_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with the two ways to configure a job, `--config` and `--set`, which become `config` and `overrides`.

    Args:
        name: Of the job, `jobs.NAME`.
        description: What it does, shown as it is written.

    Returns:
        A parser that takes the job's own arguments.

    >>> configured_parser("enrich", None).parse_args(["--set", "detector.screen=false"])
    Namespace(config=None, overrides=['detector.screen=false'])
    """
    parser = argparse.ArgumentParser(
        prog=f"jobs.{name}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", metavar="FILE", help="TOML; without it the defaults hold, and the embedded engine")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="section.key=value",
        dest="overrides",
        help="one key, over what FILE says; as often as needed",
    )
    return parser
