"""Writes the pictures of a folder, and of the folders below it, to an images table.

    python -m jobs.ingest --input FOLDER --images TABLE [--format delta|parquet] [--config FILE] [--set key=value ...]

TABLE is a path or URI, or a catalogue name with a dot. Running it again adds what is new and replaces what has changed.
"""

import sys
from collections.abc import Sequence

from faceattr_udf.command_line import configured_parser
from faceattr_udf.config import Config
from faceattr_udf.errors import FaceattrError
from faceattr_udf.spark.enrichment.progress import configure_logging
from faceattr_udf.spark.ingestion import ingest
from faceattr_udf.spark.session import start


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; 0 on success, 2 when the configuration, folder or table is wrong, or another one writes to it."""
    parser = configured_parser("ingest", __doc__)
    parser.add_argument("--input", required=True, metavar="FOLDER")
    parser.add_argument("--images", required=True, metavar="TABLE")
    parser.add_argument(
        "--format", choices=["delta", "parquet"], default="delta", help="of a table that does not exist yet"
    )
    arguments = parser.parse_args(argv)
    configure_logging()
    try:
        config = Config.load(arguments.config, arguments.overrides)
        done = ingest(start(config), config, arguments.input, arguments.images, arguments.format)
    except FaceattrError as error:
        print(f"ingest: {error}", file=sys.stderr)
        return 2
    print(
        f"{done.new} new, {done.changed} changed, {done.unchanged} unchanged images; "
        f"{done.bytes_written / 2**20:.1f} MiB written to {done.table} ({done.table.format})"
    )
    if done.too_large:
        print(f"{done.too_large} of them without content: larger than images.max_bytes = {config.images.max_bytes}")
    for reason, count in sorted(done.refused.items()):
        print(f"{count} files refused: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
