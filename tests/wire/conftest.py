from collections.abc import Iterator

import pytest

from tests.serving import Server


@pytest.fixture(scope="module")
def grpc_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("grpc"), grpc_port="0", max_image_mb="2", max_file_mb="1")
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()
    assert "internal error" not in running.log.read_text()


@pytest.fixture(scope="module")
def target(grpc_server: Server) -> str:
    return grpc_server.grpc_address()
