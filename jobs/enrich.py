"""Enriches an images table: every image gets its row in image_results, and every face its row in faces.

    python -m jobs.enrich --images TABLE --output FOLDER [--config FILE] [--set section.key=value ...]

TABLE is a path or URI of Delta or Parquet, or a catalogue name. The tables are FOLDER/faces, FOLDER/image_results and
FOLDER/runs unless the configuration names others. Running it again does only what is new.
"""

import sys
from collections.abc import Sequence

from faceattr_udf.command_line import configured_parser
from faceattr_udf.config import Config
from faceattr_udf.errors import FaceattrError
from faceattr_udf.spark.enrichment.progress import configure_logging
from faceattr_udf.spark.enrichment.run import enrich
from faceattr_udf.spark.locations import Outputs
from faceattr_udf.spark.runs import Run
from faceattr_udf.spark.session import start


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; 0 on success, 2 when the configuration or a table is wrong, or another run is at work there."""
    parser = configured_parser("enrich", __doc__)
    parser.add_argument("--images", required=True, metavar="TABLE")
    parser.add_argument("--output", required=True, metavar="FOLDER")
    arguments = parser.parse_args(argv)
    configure_logging()
    try:
        config = Config.load(arguments.config, arguments.overrides)
        run = enrich(start(config), config, arguments.images, arguments.output)
    except FaceattrError as error:
        print(f"enrich: {error}", file=sys.stderr)
        return 2
    _summarise(run, Outputs.of(config, arguments.output))
    return 0


def _summarise(run: Run, outputs: Outputs) -> None:
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(run.counts.items())) or "nothing new"
    print(f"{run.n_images} images in {run.seconds:.1f} s ({run.images_per_second:.2f} images/s): {statuses}")
    print(f"{run.n_faces} faces; {run.n_inferred} different contents inferred")
    if run.n_duplicate_rows:
        print(f"{run.n_duplicate_rows} rows of {run.images} left out, because others have the same image_id")
    if run.n_deleted_images:
        print(f"{run.n_deleted_images} images deleted, because they have left {run.images}")
    if run.n_retries:
        print(f"{run.n_retries} times the engine failed and a step was taken again")
    print(f"faces          {outputs.faces}")
    print(f"image_results  {outputs.image_results}")
    print(f"runs           {outputs.runs} (run_id {run.run_id})")


if __name__ == "__main__":
    sys.exit(main())
