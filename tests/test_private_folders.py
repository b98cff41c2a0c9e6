"""What the service stores is for its own user, and folders that others could change are refused."""

import os
from pathlib import Path

import pytest

from segserve.app.storage import PRIVATE_FOLDERS, create_data_dir
from segserve.errors import BadInput
from segserve.private_folders import check_private_folder, create_private_folder
from segserve.store import private_redis
from segserve.store.private_redis import PrivateRedis, RedisStartFailed
from tests.commands.run_command import run_segserve
from tests.serving import Server, run_embed_job

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
ANOTHER_USER = 54_321


def test_all_that_the_service_and_its_worker_store_is_private(tmp_path: Path, noise: bytes) -> None:
    server = Server(tmp_path / "data")
    server.wait_ready()
    job = run_embed_job(server.client, [server.upload(noise)])
    assert job["state"] == "succeeded"
    stored = [path for path in server.data_dir.rglob("*") if path != server.log]
    assert {"images", "jobs", "redis.sock", "tmp"} <= {path.name for path in stored}
    modes = {path: oct(path.lstat().st_mode & 0o077) for path in stored if path.lstat().st_mode & 0o077}
    assert server.stop() == 0
    assert not modes


def test_a_new_folder_is_private(tmp_path: Path) -> None:
    create_private_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_folder_of_a_group_is_taken(tmp_path: Path) -> None:
    """Volumes of Kubernetes are root's, and a group may write to them."""
    tmp_path.chmod(0o770)
    check_private_folder(tmp_path)


@pytest.mark.parametrize("name", [".", *PRIVATE_FOLDERS])
def test_a_folder_that_everybody_may_change_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / name).chmod(0o777)
    with pytest.raises(BadInput, match="chmod go-w") as caught:
        create_data_dir(tmp_path)
    assert caught.value.field == "data_dir"


@needs_root
@pytest.mark.parametrize("name", [".", *PRIVATE_FOLDERS])
def test_a_folder_of_another_user_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir(exist_ok=True)
    os.chown(tmp_path / name, ANOTHER_USER, -1)
    with pytest.raises(BadInput, match="chown -R 0 "):
        create_data_dir(tmp_path)


@pytest.mark.parametrize("command", ["serve", "encoder", "worker"])
def test_every_process_refuses_it_with_the_remedy(tmp_path: Path, command: str) -> None:
    tmp_path.chmod(0o777)
    ended = run_segserve(command, "--data-dir", tmp_path)
    assert ended.returncode == 1
    assert "chmod go-w" in ended.stderr
    assert not list(tmp_path.iterdir())


def test_a_link_in_place_of_the_folder_of_sockets_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_redis.tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / "real").mkdir()
    (tmp_path / f"segserve-{os.getuid()}").symlink_to(tmp_path / "real")
    with pytest.raises(RedisStartFailed, match="not a private folder"):
        PrivateRedis(tmp_path / ("x" * 120), 32)
