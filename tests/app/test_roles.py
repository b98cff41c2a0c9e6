"""What differs between the roles of a process."""

from pathlib import Path

import pytest

from segserve.app.roles import Role, RoleOptions
from segserve.settings import Settings
from segserve.types import Device, Priority


def options(role: Role, folder: Path, device: Device = Device.CPU) -> RoleOptions:
    return RoleOptions.for_role(role, Settings(data_dir=folder, device=device, encode_threads=4))


@pytest.mark.parametrize("role", [Role.API, Role.LOCAL])
def test_where_users_wait_images_have_priority_and_limits(role: Role, tmp_path: Path) -> None:
    chosen = options(role, tmp_path)
    assert chosen.priority is Priority.INTERACTIVE
    assert chosen.encode_timeout_s is not None
    assert chosen.max_automatic_tiles is not None
    assert (chosen.threads_per_encode, chosen.concurrent_encodes) == (4, 1)


def test_a_worker_has_time_and_on_a_cpu_encodes_one_image_for_each_thread(tmp_path: Path) -> None:
    chosen = options(Role.WORKER, tmp_path)
    assert chosen.priority is Priority.BATCH
    assert chosen.encode_timeout_s is None
    assert chosen.max_automatic_tiles is None
    assert (chosen.threads_per_encode, chosen.concurrent_encodes) == (1, 4)
    assert options(Role.WORKER, tmp_path, Device.CUDA).concurrent_encodes == 1


def test_only_an_encoder_worker_has_no_decoders_and_only_a_worker_runs_jobs(tmp_path: Path) -> None:
    assert [role for role in Role if not options(role, tmp_path).runs_decoders] == [Role.ENCODER]
    assert [role for role in Role if options(role, tmp_path).has_jobs] == [Role.API, Role.WORKER]
    assert [role for role in Role if options(role, tmp_path).runs_jobs] == [Role.WORKER]
