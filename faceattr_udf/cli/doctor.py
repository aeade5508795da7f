"""`faceattr doctor`: checks that this machine can run faceattr, and says how to fix what fails."""

import importlib.util
import sys
import uuid
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import click

from faceattr_udf.cli.checks import Check, State
from faceattr_udf.cli.doctor_engine import engine_checks
from faceattr_udf.cli.entry import DONE, USER_ERROR, Command, entry_point
from faceattr_udf.cli.options import config_options

if TYPE_CHECKING:
    from faceattr_udf.config import Config


@click.command("doctor", cls=Command)
@click.option("--output", metavar="FOLDER", help="Also check that this place can be written to.")
@click.option("--start", "start_engine", is_flag=True, help="Also start the engine: query, workers, Delta, lease.")
@config_options
def command(output: str | None, start_engine: bool, config_file: str | None, overrides: tuple[str, ...]) -> int:
    """Check that this machine can run faceattr, and say how to fix what fails.

    Exit code 0 when a job can run with this configuration, 2 when something fails.

    \b
    Examples:
      faceattr doctor
      faceattr doctor --set engine.name=spark --output lake --start
    """
    from faceattr_udf.config import Config

    config = Config.load(config_file, overrides)
    failed = 0
    for check in checks(config, output, start_engine=start_engine):
        failed += check.state == "failed"
        click.echo(f"{check.state:8} {check.name:10} {check.detail}")
        if check.fix:
            click.echo(f"{'':19} fix: {check.fix}")
    click.echo(f"\n{failed} checks failed" if failed else "\nready")
    return USER_ERROR if failed else DONE


def checks(config: "Config", output: str | None = None, *, start_engine: bool = False) -> Iterator[Check]:
    """Yields the result of each check as it finishes.

    Args:
        config: Says which engine, model and device are needed.
        output: A folder or URI that jobs will write to; None skips that check.
        start_engine: Whether to start the engine and check what only it can tell; takes seconds, and may download
            Delta's jar.
    """
    yield check_python()
    yield check_engine(config)
    yield check_java(config)
    yield check_delta(config)
    yield check_models(config)
    yield check_gpu(config)
    yield check_output(output)
    if start_engine:
        yield from engine_checks(config, output)


def check_python() -> Check:
    """Reports the interpreter; the package does not install on one that is too old."""
    found = ".".join(map(str, sys.version_info[:3]))
    return Check("Python", "ok", f"{found} ({sys.executable})")


def check_engine(config: "Config") -> Check:
    """Checks that the packages of `engine.name` are installed."""
    packages = {"sail": ("pysail", "pyspark"), "spark": ("pyspark",), "connect": ("pyspark",)}
    extra = {"sail": "sail", "spark": "spark", "connect": "sail"}[config.engine.name]
    found = []
    for package in packages[config.engine.name]:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            fix = f"pip install 'faceattr_udf[{extra}]'"
            return Check("Engine", "failed", f"{config.engine.name} needs {package}, which is not installed", fix)
    return Check("Engine", "ok", f"{config.engine.name}: {', '.join(found)}")


def check_java(config: "Config") -> Check:
    """Checks Java's version where Spark runs in this process."""
    if config.engine.name != "spark":
        return Check("Java", "skipped", f"the engine {config.engine.name} needs no Java on this machine")
    if importlib.util.find_spec("pyspark") is None:
        return Check("Java", "skipped", "pyspark is not installed")
    from faceattr_udf.spark.versions import find_java, java_problem, java_version, spark_version

    problem = java_problem(spark_version())
    if problem:
        what, _, fix = problem.partition("; ")
        return Check("Java", "failed", what, fix)
    java = find_java()
    return Check("Java", "ok", f"{java_version(java) if java else None} ({java})")


def check_delta(config: "Config") -> Check:
    """Checks that Delta's jars are on this machine."""
    if config.engine.name != "spark":
        return Check("Delta jar", "skipped", f"the engine {config.engine.name} needs no jar on this machine")
    if importlib.util.find_spec("pyspark") is None:
        return Check("Delta jar", "skipped", "pyspark is not installed")
    from faceattr_udf.errors import EngineError
    from faceattr_udf.spark.jars import are_cached

    try:
        if are_cached(config.engine.settings):
            return Check("Delta jar", "ok", "on this machine")
    except EngineError as error:
        return Check("Delta jar", "failed", *str(error).split("; ", 1))
    fix = "start once with network access, or name local jars in engine.settings (spark.jars)"
    return Check("Delta jar", "warning", "not yet downloaded; the first start fetches about 90 MB", fix)


def check_models(config: "Config") -> Check:
    """Loads and verifies the networks."""
    from faceattr_udf.analyzer import FaceAnalyzer
    from faceattr_udf.errors import FaceattrError

    try:
        analyzer = FaceAnalyzer.from_config(config)
    except FaceattrError as error:
        return Check("Models", "failed", str(error), "reinstall the package, or correct what the message names")
    return Check("Models", "ok", analyzer.model_version)


def check_gpu(config: "Config") -> Check:
    """Checks that torch sees a GPU where the configuration may use one."""
    device = config.runtime.device
    if device == "cpu":
        return Check("GPU", "skipped", "runtime.device = cpu")
    needed: State = "failed" if device == "cuda" else "skipped"
    if importlib.util.find_spec("torch") is None:
        fix = "pip install 'faceattr_udf[gpu]', or set runtime.device = cpu" if device == "cuda" else ""
        return Check("GPU", needed, "torch is not installed; inference runs on the CPU", fix)
    import torch

    if not torch.cuda.is_available():
        fix = "look at nvidia-smi and CUDA_VISIBLE_DEVICES, or set runtime.device = cpu" if device == "cuda" else ""
        return Check("GPU", needed, f"torch {torch.__version__} sees none; inference runs on the CPU", fix)
    return Check("GPU", "ok", torch.cuda.get_device_name(0))


def check_output(output: str | None) -> Check:
    """Writes and deletes a small file at the output."""
    if output is None:
        return Check("Output", "skipped", "name it with --output")
    from faceattr_udf.errors import EngineError
    from faceattr_udf.spark.locations import file_system

    try:
        store, path = file_system(output)
        probe = f"{path.rstrip('/')}/.faceattr-doctor-{uuid.uuid4().hex}"
        store.create_dir(path, recursive=True)
        with store.open_output_stream(probe) as stream:
            stream.write(b"faceattr")
        store.delete_file(probe)
    except (OSError, EngineError) as error:
        return Check(
            "Output", "failed", f"{output}: {error}", "name a folder that you may write to, or its credentials"
        )
    return Check("Output", "ok", f"{output} is writable")


main = entry_point(command)
