"""`python -m tests.corpus FOLDER...`: see the package."""

import argparse
import asyncio
import json
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from segserve import logs
from segserve.evaluate.model_runner import running_service
from segserve.settings import load_settings
from tests.corpus.check_file import FileChecker
from tests.corpus.independent_readers import ReaderPool
from tests.corpus.report import format_report
from tests.corpus.service_process import WatchedServer
from tests.corpus.verdicts import DOUBTFUL, FileResult


def find_files(folders: Sequence[Path], scratch: Path) -> Iterator[tuple[Path, str]]:
    """Yield (path, name to show) of every file below the folders, and of a zip of every folder of DICOM files.

    scratch: a folder for these zips.
    """
    for top in folders:
        if top.is_file():
            yield top, top.name
        for path in sorted(top.rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield path, str(path.relative_to(top))
        for folder in [top, *sorted(path for path in top.rglob("*") if path.is_dir())]:
            slices = [path for path in sorted(folder.iterdir()) if path.is_file() and is_dicom(path)]
            if len(slices) > 1:
                yield zip_files(slices, scratch), f"{folder.relative_to(top)}/ as a zip"


def is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def zip_files(paths: Sequence[Path], scratch: Path) -> Path:
    archive_path = scratch / "folder.zip"
    with zipfile.ZipFile(archive_path, "w") as archive:
        for path in paths:
            archive.write(path, path.name)
    return archive_path


async def check_corpus(folders: Sequence[Path], *, quiet: bool = False) -> tuple[list[FileResult], str]:
    """Check every file below the folders. Returns the results, and the report."""
    results = []
    with tempfile.TemporaryDirectory() as work:
        settings = load_settings(data_dir=Path(work) / "reader")
        logs.configure_logging(settings.log_format, "critical")
        watched, readers = WatchedServer(Path(work) / "service"), ReaderPool()
        try:
            async with running_service(settings) as service:
                checker = FileChecker(watched, service, readers)
                for path, name in find_files(folders, Path(work)):
                    result = await checker.check(path, name)
                    results.append(result)
                    if not quiet and (result.verdict in DOUBTFUL or result.broken):
                        print(f"{result.verdict}: {name}", file=sys.stderr, flush=True)
            report = format_report(results, watched.peak_mb, watched.start_mb, watched.restarts)
        finally:
            readers.close()
            watched.stop()
    return results, report


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Send every file below a folder to the service, and compare."
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--json", type=Path, help="write every answer to this file")
    arguments = parser.parse_args()
    missing = [str(folder) for folder in arguments.folders if not folder.exists()]
    if missing:
        parser.error(f"there is no {', '.join(missing)}")
    results, report = asyncio.run(check_corpus(arguments.folders))
    print(report)
    if arguments.json:
        arguments.json.write_text(json.dumps([each.to_json() for each in results], indent=1))
    return int(any(each.broken for each in results))


if __name__ == "__main__":
    sys.exit(main())
