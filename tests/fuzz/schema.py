"""schemathesis against the running service: requests made from its own OpenAPI document."""

import subprocess
import sys
from pathlib import Path

from tests.fuzz.broken import Broken
from tests.fuzz.service import FuzzedService

CONFIGURATION = Path(__file__).parent.parent / "wire" / "schemathesis.toml"
MAX_OUTPUT = 12_000


def schemathesis_command(url: str, seed: int, examples: int) -> list[str]:
    """Return the command with every check; test_schema.py runs the same."""
    command = [str(Path(sys.executable).parent / "schemathesis")]
    command += ["--config-file", str(CONFIGURATION), "--no-color", "run"]
    command += [
        f"{url}/openapi.json",
        "--checks",
        "all",
        "--max-examples",
        str(examples),
        "--seed",
        str(seed),
    ]
    # After it every write is refused: the tenant that sends the requests is being deleted.
    command += ["--exclude-operation-id", "delete_tenant"]
    # An automatic segmentation over a whole grid of points is seconds of work where two cores are shared.
    command += ["--request-timeout", "120", "--max-response-time", "120"]
    # DELETE of a job stops it, and what it has finished can still be read. (Images and files that are deleted are
    # gone: test_rest.py and test_files.py see to it.) "all" is stronger than the configuration file.
    return [*command, "--exclude-checks", "use_after_free"]


def run_schemathesis(service: FuzzedService, seed: int, seconds: float, examples: int = 20) -> str:
    """Run it for at most a time. Return what became of it. Raises Broken with its output where it finds something."""
    command = schemathesis_command(service.url, seed, examples)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, cwd=service.data_dir)
    except subprocess.TimeoutExpired:
        return "not finished"
    if done.returncode:
        raise Broken("schema", f"exit {done.returncode}", (done.stdout + done.stderr)[-MAX_OUTPUT:])
    return "finished"
