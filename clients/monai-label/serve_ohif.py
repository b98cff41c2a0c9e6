"""Serve OHIF with MONAI Label's panel, out of the `monailabel` wheel, beside a DICOMweb server. No installation.

    pip download --no-deps monailabel==0.8.5
    python serve_ohif.py monailabel-*.whl http://127.0.0.1:8042/dicom-web

Then OHIF is at http://127.0.0.1:3000/ohif/. What it asks of the DICOMweb server (search, metadata, pixels) is passed
on, so that the browser needs no other origin for images. For one user on one machine: it listens on loopback only, and
answers no other names, so that no page reaches the DICOMweb server through a name of its own (DNS rebinding).
"""

import argparse
import shutil
import urllib.error
import urllib.request
import zipfile
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from mimetypes import guess_type
from urllib.parse import unquote, urlsplit

OHIF = "monailabel/endpoints/static/ohif/"
# Where the OHIF of the wheel looks for its DICOMweb server.
PROXY_PREFIXES = ("/proxy/dicom/qido/", "/proxy/dicom/wado/")
PASSED_HEADERS = ("Content-Type", "Content-Length", "Content-Encoding")
OWN_NAMES = ("127.0.0.1", "localhost")
TIMEOUT_S = 300


class Handler(BaseHTTPRequestHandler):
    """Answers files of the wheel and requests to the DICOMweb server, which `serve` sets."""

    protocol_version = "HTTP/1.1"
    wheel: zipfile.ZipFile
    files: frozenset
    dicomweb: str

    def do_GET(self):
        if self.headers.get("Host", "").partition(":")[0] not in OWN_NAMES:
            self.send_error(421, "This server is not called so")
            return
        for prefix in PROXY_PREFIXES:
            if self.path.startswith(prefix):
                self.pass_on(self.path.removeprefix(prefix))
                return
        self.send_page(unquote(urlsplit(self.path).path))

    def send_page(self, path):
        if path == "/":
            self.send_response(302)
            self.send_header("Location", "/ohif/")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        name = OHIF + path.removeprefix("/ohif/")
        if name not in self.files or name == OHIF:
            name = OHIF + "index.html"  # every page of OHIF is made by this one
        body = self.wheel.read(name)
        self.send_response(200)
        self.send_header("Content-Type", guess_type(name)[0] or "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def pass_on(self, path):
        headers = {"Accept": self.headers.get("Accept", "*/*")}
        asked = urllib.request.Request(f"{self.dicomweb}/{path}", headers=headers)  # noqa: S310
        try:
            answer = urllib.request.urlopen(asked, timeout=TIMEOUT_S)  # noqa: S310
        except urllib.error.HTTPError as error:
            answer = error
        except OSError as error:
            self.send_error(502, f"The DICOMweb server does not answer: {error}")
            return
        with answer:
            self.send_response(answer.status)
            for name in PASSED_HEADERS:
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            if "Content-Length" not in answer.headers:  # the end of the connection is the end of the body
                self.send_header("Connection", "close")
            self.end_headers()
            shutil.copyfileobj(answer, self.wfile)

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", help="the file that pip downloaded")
    parser.add_argument(
        "dicomweb", help="address of the DICOMweb server, such as http://127.0.0.1:8042/dicom-web"
    )
    parser.add_argument("--port", type=int, default=3000)
    options = parser.parse_args()
    if not options.dicomweb.startswith(("http://", "https://")):
        parser.error("the DICOMweb server's address begins with http:// or https://")
    with zipfile.ZipFile(options.wheel) as wheel:
        Handler.wheel, Handler.files = wheel, frozenset(wheel.namelist())
        Handler.dicomweb = options.dicomweb.rstrip("/")
        if OHIF + "index.html" not in Handler.files:
            parser.error("this wheel has no OHIF: take monailabel 0.8.5")
        with ThreadingHTTPServer(("127.0.0.1", options.port), Handler) as server:
            print(f"OHIF: http://127.0.0.1:{server.server_address[1]}/ohif/", flush=True)
            with suppress(KeyboardInterrupt):
                server.serve_forever()


if __name__ == "__main__":
    main()
