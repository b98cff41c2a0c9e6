"""Certificates of private authorities, as files."""

import os
import ssl
from pathlib import Path

import trustme


class Authority:
    """An authority with its file `ca`, and certificates that it signs. name: of its files in the folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.name = folder, name
        self._authority = trustme.CA(organization_name=name)
        self.ca = folder / f"{name}.pem"
        self._authority.cert_pem.write_to_path(self.ca)

    def sign(self, name: str, *hosts: str) -> tuple[Path, Path]:
        """Write a certificate and its key, each in one step, and return their paths.

        hosts: names and addresses; loopback if there are none.
        """
        signed = self._authority.issue_cert(*(hosts or ("localhost", "127.0.0.1", "::1")))
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        chain = b"".join(blob.bytes() for blob in signed.cert_chain_pems)
        for path, data in ((key, signed.private_key_pem.bytes()), (cert, chain)):
            part = path.with_suffix(".part")
            part.write_bytes(data)
            os.replace(part, path)
        return cert, key

    def context(self, *pair: Path) -> ssl.SSLContext:
        """Return a client's context that trusts this authority. pair: certificate and key that it shows."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if pair:
            context.load_cert_chain(*pair)
        return context
