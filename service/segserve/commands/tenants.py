"""`segserve tenants`: list, show and delete tenants, in the object store that the settings name."""

import asyncio
import time
from typing import Annotated

import typer
from rich.console import Console

from segserve.commands.audit import audit
from segserve.commands.common_options import DataDir
from segserve.identity.tenant_name import check_tenant_name
from segserve.identity.tenant_policies import TenantPolicies, TenantPolicy
from segserve.models.model_tables import print_table
from segserve.settings import Settings, load_settings
from segserve.store import object_paths
from segserve.store.list_tenants import list_tenants
from segserve.store.object_store import ObjectStore, open_store
from segserve.store.tenant_deletions import TenantDeletions
from segserve.types import MB

app = typer.Typer(
    no_args_is_help=True,
    help="List, show and delete tenants. The settings are those of the service: its object store and tenants file.",
)

Name = Annotated[str, typer.Argument(help="Name of a tenant.")]

POLL_S = 1.0


def open_objects(settings: Settings) -> ObjectStore:
    return open_store(settings.object_store, settings.data_dir / "objects")


def read_policies(settings: Settings) -> TenantPolicies:
    defaults = TenantPolicy(settings.quota_mb * MB, retention_days=settings.retention_days)
    return TenantPolicies(defaults, settings.tenants_file)


@app.command("list")
def list_all(data_dir: DataDir = None) -> None:
    """List the tenants that the tenants file names, or that have stored anything."""
    settings = load_settings(data_dir=data_dir)
    objects, policies = open_objects(settings), read_policies(settings)
    deletions = TenantDeletions(objects)

    async def find() -> list[str]:
        deleting = await deletions.refresh()
        return sorted(policies.names() | set(await list_tenants(objects)) | deleting)

    rows = [describe_row(name, policies.get(name), deletions) for name in asyncio.run(find())]
    print_table(
        Console(), "Tenants", ["tenant", "state", "quota MB", "images", "jobs", "retention days"], rows
    )


def describe_row(name: str, policy: TenantPolicy, deletions: TenantDeletions) -> list[str]:
    limits = (policy.max_bytes // MB, policy.max_images, policy.max_jobs, policy.retention_days)
    state = "deleting" if name in deletions.marked else "active"
    return [name, state, *(f"{limit:g}" if limit else "-" for limit in limits)]


@app.command()
def show(name: Name, data_dir: DataDir = None) -> None:
    """Show what a tenant stores. That lists all of its objects, which takes minutes where there are millions."""
    check_tenant_name(name, "NAME")
    settings = load_settings(data_dir=data_dir)
    objects, policy = open_objects(settings), read_policies(settings).get(name)
    deletions = TenantDeletions(objects)

    async def measure() -> list[list[str]]:
        await deletions.refresh()
        return [
            [folder.removeprefix(f"{name}/").removesuffix("/"), str(len(listed)), f"{size / MB:.1f}"]
            for folder in object_paths.counted_folders(name)
            for listed in [await objects.list(folder)]
            for size in [sum(stored.size for stored in listed)]
        ]

    rows = asyncio.run(measure())
    print_table(
        Console(),
        "Tenant",
        ["tenant", "state", "quota MB", "images", "jobs", "retention days"],
        [describe_row(name, policy, deletions)],
    )
    print_table(Console(), "Stored", ["what", "objects", "MB"], rows)


@app.command()
def delete(
    name: Name,
    data_dir: DataDir = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until all is deleted and the name can be used again.")
    ] = False,
) -> None:
    """Delete a tenant: its images, files, jobs, results, labels and usage.

    The services that use this object store delete it in the background; without one it waits for the next start. Its
    keys stay: revoke them by 'segserve keys revoke'.
    """
    check_tenant_name(name, "NAME")
    settings = load_settings(data_dir=data_dir)
    deletions = TenantDeletions(open_objects(settings))
    if not yes:
        typer.confirm(f"Delete all images, files, jobs and labels of {name!r}, for good?", abort=True)
    asyncio.run(deletions.mark(name))
    audit("delete", {"tenant": name})
    typer.echo(f"{name} is being deleted. Nothing more of it is stored.", err=True)
    if wait:
        while asyncio.run(deletions.read(name)) is not None:
            time.sleep(POLL_S)
        typer.echo(f"{name} is deleted.", err=True)
