"""Fetch the libraries of the page from npm, as published, and write VENDORED.md. Run it after a change of a version."""

import hashlib
import io
import sys
import tarfile
from base64 import b64encode
from pathlib import Path

import httpx

HERE = Path(__file__).parent
# package, version, licence, the registry's digest of the archive, files: in the archive -> here
PACKAGES = (
    (
        "openseadragon",
        "6.1.1",
        "BSD-3-Clause",
        "sha512-g4iKe2q8B642SaBT3+x4ZF3/8b1TxPPydyjmtrOLgDrlYWMKd9ZXM+1Cb/xa9DVySkvs/7l6HR1nHKfD5F3Tsw==",
        {"build/openseadragon/openseadragon.min.js": "openseadragon.min.js", "LICENSE.txt": "LICENSE.txt"},
    ),
    (
        "lit-html",
        "3.3.3",
        "BSD-3-Clause",
        "sha512-el8M6jK2o3RXBnrSHX3ZKrsN8zEV63pSExTO1wYJz7QndGYZ8353e2a5PPX+qHe2aGayfnchQmkAojaWAREOIA==",
        {
            "lit-html.js": "lit-html.js",
            "directive.js": "directive.js",
            "directive-helpers.js": "directive-helpers.js",
            "directives/repeat.js": "directives/repeat.js",
            "async-directive.js": "async-directive.js",
            "directives/live.js": "directives/live.js",
            "directives/ref.js": "directives/ref.js",
            "LICENSE": "LICENSE.txt",
        },
    ),
)
HEAD = """# Libraries of the page

Written by `python clients/web/vendor/fetch.py`, which fetches them from npm and checks their digests. It changes
nothing but the comment that names a source map.

| file | package | licence | SHA-256 |
|---|---|---|---|
"""


def fetch_archive(name: str, version: str, integrity: str) -> tarfile.TarFile:
    answer = httpx.get(f"https://registry.npmjs.org/{name}/-/{name}-{version}.tgz").raise_for_status()
    digest = "sha512-" + b64encode(hashlib.sha512(answer.content).digest()).decode()
    if digest != integrity:
        sys.exit(f"{name} {version} has the digest {digest}, not {integrity}")
    return tarfile.open(fileobj=io.BytesIO(answer.content))


def read_member(archive: tarfile.TarFile, path: str) -> bytes:
    file = archive.extractfile(f"package/{path}")
    assert file is not None, path
    lines = file.read().splitlines(keepends=True)
    return b"".join(line for line in lines if not line.startswith(b"//# sourceMappingURL="))


def main() -> None:
    rows = []
    for name, version, licence, integrity, files in PACKAGES:
        package = f"[{name}](https://www.npmjs.com/package/{name}/v/{version}) {version}"
        with fetch_archive(name, version, integrity) as archive:
            for source, target in files.items():
                path = HERE / name / target
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(read_member(archive, source))
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                rows.append(f"| `{name}/{target}` | {package} | {licence} | `{digest}` |\n")
    (HERE / "VENDORED.md").write_text(HEAD + "".join(rows))


if __name__ == "__main__":
    main()
