"""docs/several-machines.md: its settings, configurations and commands, run as processes that each have an address.

Every machine of the page is an address of loopback, so that ports stay as they are on the page. moto stands for S3. A
relay does TLS for the Redis servers, since the one that we have cannot.
"""

import asyncio
import os
import random
import re
import shlex
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from segserve.identity.identity import Identity
from segserve.store.redis_servers import find_redis_binaries
from segserve.types import AccessRole
from tests.docs_blocks import ROOT, read_blocks
from tests.key_files import write_key_file
from tests.serving import run_embed_job

pytestmark = [
    pytest.mark.docs,
    pytest.mark.skipif(sys.platform != "linux", reason="only on Linux all of 127.0.0.0/8 is loopback"),
]

START_TIMEOUT_S = 120
BUCKET, REGION = "labels", "eu-central-1"
CLICK = {"points": [[413, 190]]}


def page_block(start: str) -> str:
    """Return the block of the page that begins with this text."""
    blocks = read_blocks(ROOT / "docs" / "several-machines.md")
    (text,) = [block.text for block in blocks if block.text.startswith(start)]
    return text


def make_certificate(folder: Path, *addresses: str) -> None:
    """Write the files that the page names, all of them one self-signed certificate."""
    names = ",".join(["DNS:segserve.example.org", *(f"IP:{address}" for address in addresses)])
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=segserve",
    ]
    files = [
        "-keyout",
        folder / "redis.key",
        "-out",
        folder / "redis.pem",
        "-addext",
        f"subjectAltName={names}",
    ]
    subprocess.run([*command, *files], check=True, capture_output=True)
    for copy in ("ca.pem", "proxy.pem"):
        shutil.copy(folder / "redis.pem", folder / copy)
    shutil.copy(folder / "redis.key", folder / "proxy.key")


class TlsRelay(threading.Thread):
    """`TlsRelay` takes TLS connections at an address and passes them on to a port of the same address."""

    def __init__(self, host: str, tls_port: int, plain_port: int, certificates: Path) -> None:
        super().__init__(daemon=True)
        self._host, self._tls_port, self._plain_port = host, tls_port, plain_port
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificates / "redis.pem", certificates / "redis.key")
        self._ready = threading.Event()
        self.start()
        assert self._ready.wait(30)

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._relay, self._host, self._tls_port, ssl=self._context)
        self._ready.set()
        async with server:
            await server.serve_forever()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection(self._host, self._plain_port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._pump(reader, inner_writer), self._pump(inner_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


class Machines:
    """`Machines` starts what the page starts, each on the address of its machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        net = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}"
        names = ("api-1", "api-2", "encoder", "worker", "redis", "s3", "proxy", "restored", "intruder")
        self.addresses = {name: f"{net}.{number}" for number, name in enumerate(names, start=1)}
        make_certificate(folder, *self.addresses.values())
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._clients: dict[str, httpx.Client] = {}
        key = write_key_file(folder / "keys.json", [Identity("default", AccessRole.OPERATOR, "operator")])
        self.headers = {"Authorization": f"Bearer {key['operator']}"}

    def fill_in(self, text: str) -> str:
        """Put addresses and folders of this test in the place of the page's."""
        for name, address in self.addresses.items():
            text = text.replace(f"{name}.internal", address)
        text = text.replace("https://" + self.addresses["s3"], "http://" + self.addresses["s3"])
        text = text.replace("/var/lib/segserve-jobs", str(self.folder / "jobs-redis"))
        return text.replace("/etc/segserve", str(self.folder))

    def settings(self) -> dict[str, str]:
        """Return the variables of segserve.env."""
        lines = self.fill_in(page_block("SEGSERVE_REDIS_URL=")).splitlines()
        named = dict(shlex.split(line)[0].split("=", 1) for line in lines)  # quoted for the shell
        return {**named, "AWS_ALLOW_HTTP": "true", "SEGSERVE_TRUSTED_PROXIES": '["127.0.0.0/8"]'}

    def start(self, name: str, command: list[Any], **env: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **env}
            )

    def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        process.terminate()
        process.wait(timeout=60)

    def start_redis(self, config: str, machine: str, plain_port: int) -> None:
        """Start a server by a configuration of the page, with a relay for what it says about TLS."""
        lines = self.fill_in(page_block(config)).splitlines()
        options = dict(line.split(" ", 1) for line in lines)
        tls_port = int(options.pop("tls-port"))
        options = {name: value for name, value in options.items() if not name.startswith("tls-")}
        host = self.addresses[machine]
        options |= {"port": str(plain_port), "bind": host, "protected-mode": "no"}
        if "dir" in options:
            Path(options["dir"]).mkdir(exist_ok=True)
        file = self.folder / f"redis-{plain_port}.conf"
        file.write_text("".join(f"{name} {value}\n" for name, value in options.items()))
        self.start(f"{machine}-{plain_port}", [find_redis_binaries()[0], file])
        TlsRelay(host, tls_port, plain_port, self.folder)

    def start_segserve(self, name: str, kind: str, **changed: str) -> None:
        """Run the page's line for a process of this kind."""
        block = re.sub(r"\\\n *", "", self.fill_in(page_block("set -a")))
        (line,) = [line for line in block.splitlines() if f"segserve {kind} " in line]
        words = shlex.split(line.replace("0.0.0.0", self.addresses[name]), comments=True)
        start = words.index("segserve")
        variables = dict(word.split("=", 1) for word in words[:start])
        command = [
            sys.executable,
            "-m",
            "segserve.cli",
            *words[start + 1 :],
            "--data-dir",
            self.folder / name,
        ]
        self.start(name, command, **{**self.settings(), **variables, **changed})

    def wait_ready(self, name: str, port: int) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        answer = "nothing"
        while time.monotonic() < deadline:
            try:
                response = httpx.get(f"http://{self.addresses[name]}:{port}/readyz", timeout=10)
                if response.status_code == 200:
                    return
                answer = response.text
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"{answer}\n{(self.folder / f'{name}.log').read_text()}")

    def client(self, name: str) -> httpx.Client:
        if name not in self._clients:
            self._clients[name] = httpx.Client(
                base_url=f"http://{self.addresses[name]}:8000", headers=self.headers, timeout=60
            )
        return self._clients[name]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        for name in list(self.processes):
            self.stop(name)

    def metric(self, name: str, port: int, line: str) -> float:
        url = f"http://{self.addresses[name]}:{port}/metrics"
        text = httpx.get(url, headers=self.headers, timeout=30).text
        return sum(float(row.rpartition(" ")[2]) for row in text.splitlines() if row.startswith(line))


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    server_module = pytest.importorskip("moto.server", reason="moto is not installed")
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    machines = Machines(tmp_path_factory.mktemp("machines"))
    store = server_module.ThreadedMotoServer(ip_address=machines.addresses["s3"], port=9000, verbose=False)
    store.start()
    create_bucket(machines, BUCKET)
    machines.start_redis("tls-port 6379", "redis", 16379)
    machines.start_redis("tls-port 6380", "redis", 16380)
    for name, kind in (("encoder", "encoder"), ("worker", "worker"), ("api-1", "serve"), ("api-2", "serve")):
        machines.start_segserve(name, kind)
    for name, port in (("encoder", 8011), ("worker", 8012), ("api-1", 8002), ("api-2", 8002)):
        machines.wait_ready(name, port)
    yield machines
    machines.close()
    store.stop()


def bucket_client(machines: Machines) -> Any:
    import boto3

    settings = machines.settings()
    return boto3.client(
        "s3",
        endpoint_url=settings["AWS_ENDPOINT_URL"],
        region_name=REGION,
        aws_access_key_id=settings["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
    )


def create_bucket(machines: Machines, name: str) -> None:
    bucket_client(machines).create_bucket(
        Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION}
    )


@pytest.fixture(scope="module")
def image_id(machines: Machines, nuclei: Path) -> str:
    answer = machines.client("api-1").post("/v1/images", files={"file": nuclei.read_bytes()})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["image_id"])


def click(client: httpx.Client, image_id: str, **options: Any) -> httpx.Response:
    return client.post("/v1/segment", json={"image_id": image_id, "prompts": [CLICK]}, **options)


def test_an_image_of_one_replica_is_clicked_on_at_the_other_and_encoded_once(
    machines: Machines, image_id: str
) -> None:
    answers = [click(machines.client(name), image_id) for name in ("api-1", "api-2")]
    assert [answer.status_code for answer in answers] == [200, 200]
    first, second = (answer.json()["results"][0]["masks"][0] for answer in answers)
    assert first["mask"] == second["mask"]
    assert machines.metric("encoder", 8011, "segserve_encoded_images_total{") == 1
    keys = [item["Key"] for item in bucket_client(machines).list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert all(key.startswith("segserve/") for key in keys)
    assert any(image_id in key for key in keys)


def test_a_job_is_run_by_the_worker(machines: Machines, image_id: str) -> None:
    assert run_embed_job(machines.client("api-2"), [image_id])["state"] == "succeeded"
    assert machines.metric("worker", 8012, "segserve_job_units_total{") >= 1


def test_a_wrong_password_of_the_cache_is_told(machines: Machines) -> None:
    name = "SEGSERVE_REDIS_URL"
    machines.start_segserve(
        "intruder", "serve", **{name: machines.settings()[name].replace("PASSWORD", "WORD")}
    )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        log = machines.folder / "intruder.log"
        while "refuses the user or the password" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        assert "CACHE-WORD" not in log.read_text()
    finally:
        machines.stop("intruder")


@pytest.fixture(scope="module")
def proxy(machines: Machines) -> Iterator[httpx.Client]:
    """A client of nginx, by the name that users call it."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not installed")
    address = machines.addresses["proxy"]
    site = machines.fill_in(page_block("map ")).replace("listen 443 ssl", f"listen {address}:8443 ssl")
    folder = machines.folder
    temporary = "".join(
        f"{kind}_temp_path {folder}/nginx-{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off;\npid {folder}/nginx.pid;\nerror_log {folder}/nginx-errors.log;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}{site}}}\n"
    )
    machines.start("nginx", [nginx, "-e", folder / "nginx-start.log", "-p", folder, "-c", config])
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    with httpx.Client(
        base_url=f"https://{address}:8443",
        headers={"host": "segserve.example.org", **machines.headers},
        verify=context,
        timeout=60,
    ) as client:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                client.get("/v1/models")
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline, (folder / "nginx.log").read_text()
                time.sleep(0.1)
        yield client


def test_the_proxy_speaks_tls_and_keeps_an_image_on_one_replica(
    machines: Machines, proxy: httpx.Client, image_id: str
) -> None:
    line = "segserve_click_seconds_count{"
    before = [machines.metric(name, 8002, line) for name in ("api-1", "api-2")]
    for _ in range(8):
        answer = proxy.post(f"/v1/images/{image_id}/segment", json={"prompts": [CLICK]})
        assert answer.status_code == 200, answer.text
    after = [machines.metric(name, 8002, line) for name in ("api-1", "api-2")]
    assert sorted(now - then for now, then in zip(after, before, strict=True)) == [0, 8]


def test_replicas_are_replaced_while_clicks_go_on(
    machines: Machines, proxy: httpx.Client, image_id: str
) -> None:
    statuses: list[int] = []
    done = threading.Event()

    def annotate() -> None:
        while not done.is_set():
            statuses.append(click(proxy, image_id).status_code)

    annotator = threading.Thread(target=annotate)
    annotator.start()
    for name in ("api-1", "api-2"):
        machines.stop(name)
        machines.start_segserve(name, "serve")
        machines.wait_ready(name, 8002)
    done.set()
    annotator.join(timeout=120)
    assert len(statuses) > 10
    assert set(statuses) == {200}


def test_what_was_backed_up_is_there_in_new_stores(machines: Machines, image_id: str) -> None:
    job = run_embed_job(machines.client("api-1"), [image_id])
    client = bucket_client(machines)
    create_bucket(machines, "restored")
    for item in client.list_objects_v2(Bucket=BUCKET)["Contents"]:
        client.copy_object(
            Bucket="restored", Key=item["Key"], CopySource={"Bucket": BUCKET, "Key": quote(item["Key"])}
        )
    machines.stop("redis-16380")
    restored = machines.folder / "restored-jobs"
    shutil.copytree(machines.folder / "jobs-redis", restored)
    host = machines.addresses["restored"]
    options = ["--port", "16380", "--bind", host, "--requirepass", "JOBS-PASSWORD", "--dir", restored]
    machines.start("restored-redis", [find_redis_binaries()[0], *options, "--appendonly", "yes"])
    machines.start_segserve(
        "restored",
        "serve",
        SEGSERVE_OBJECT_STORE="s3://restored/segserve",
        SEGSERVE_JOBS_REDIS_URL=f"redis://:JOBS-PASSWORD@{host}:16380/0",
    )
    machines.wait_ready("restored", 8002)
    service = machines.client("restored")
    assert service.get(f"/v1/images/{image_id}").status_code == 200
    assert click(service, image_id).status_code == 200
    assert service.get(f"/v1/jobs/{job['job_id']}").json()["state"] == "succeeded"
    assert image_id in service.get(f"/v1/jobs/{job['job_id']}/results").text
