"""`segserve keys`: add, list, revoke and rotate the keys that requests must have."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from segserve.commands.audit import audit
from segserve.errors import BadInput, quote
from segserve.identity.identity import Identity
from segserve.identity.key import Key, create_key, now
from segserve.identity.key_file import KEY_NAME, change_keys, read_keys
from segserve.identity.rights import ALL_RIGHTS, list_names, parse_scopes
from segserve.identity.tenant_name import check_tenant_name
from segserve.models.model_tables import print_table
from segserve.settings import load_settings
from segserve.types import DEFAULT_TENANT, AccessRole

app = typer.Typer(no_args_is_help=True, help="Add, list, revoke and rotate keys.")

KeysFile = Annotated[
    Path | None,
    typer.Option("--file", envvar="SEGSERVE_KEYS_FILE", help="The key file; 'add' creates it."),
]
KeyName = Annotated[str, typer.Argument(help="Id or name of a key. After a rotation two have the name.")]

DURATION = re.compile(r"(\d{1,6})([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def resolve_file(path: Path | None) -> Path:
    """Return the key file. Raises BadInput where none is named."""
    found = load_settings(keys_file=path).keys_file
    if found is None:
        raise BadInput(
            "No key file is named.",
            remedy="Set SEGSERVE_KEYS_FILE, or use --file: --file /etc/segserve/keys.json",
        )
    return found


def parse_duration(text: str, option: str) -> timedelta:
    """Return a duration: "90d", "12h", "30m", "10s". Raises BadInput, naming the option."""
    match = DURATION.fullmatch(text)
    if match is None:
        raise BadInput(f"{quote(text)} is no duration.", field=option, remedy=f"Example: {option} 90d.")
    return timedelta(**{UNITS[match[2]]: int(match[1])})


def find_keys(keys: list[Key], name: str) -> list[Key]:
    """Return the key of an id, else those of a name, the newest last. Raises BadInput."""
    found = [key for key in keys if key.id == name] or [key for key in keys if key.identity.name == name]
    if not found:
        raise BadInput(f"There is no key {quote(name)}.", remedy="'segserve keys list' shows them.")
    return sorted(found, key=lambda key: key.created)


def audit_key(action: str, key: Key) -> None:
    identity = key.identity
    audit(
        action,
        {"key": key.id},
        key_name=identity.name,
        tenant=identity.tenant,
        role=identity.role.value,
    )


def show_key(token: str, key: Key, path: Path) -> None:
    """Print a key, alone on standard output, so that a script can take it from there."""
    identity = key.identity
    typer.echo(
        f"Key {key.id} of {identity.name!r} (tenant {identity.tenant}, role {identity.role}) is in {path}."
        " It is shown this once:",
        err=True,
    )
    typer.echo(token)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose key it is: a person or a program.")],
    role: Annotated[
        AccessRole,
        typer.Option(
            help="annotator: clicks and jobs; batch: the same, behind annotators; operator: all; metrics: /metrics."
        ),
    ] = AccessRole.ANNOTATOR,
    tenant: Annotated[
        str,
        typer.Option(help="Whose images, files and jobs it reaches. Those of others do not exist for it."),
    ] = DEFAULT_TENANT,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Narrows the role, several times: {', '.join(list_names(ALL_RIGHTS))} [default: all of the role]."
        ),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="It ends after so long: 90d, 12h [default: never].")
    ] = None,
    file: KeysFile = None,
) -> None:
    """Add a key, and print it. It cannot be shown again: only its hash is kept."""
    path = resolve_file(file)
    if not re.fullmatch(KEY_NAME, name):
        raise BadInput("The name cannot be used.", remedy="Take 1 to 100 characters, no line breaks.")
    check_tenant_name(tenant, "--tenant")
    end = None if expires is None else now() + parse_duration(expires, "--expires")
    scopes = parse_scopes(scope) if scope else ALL_RIGHTS
    with change_keys(path) as keys:
        if any(key.identity.name == name for key in keys):
            raise BadInput(
                f"There is a key {quote(name)} already.",
                remedy="Take another name, or give it a new key by 'segserve keys rotate'.",
            )
        key, token = create_key(Identity(tenant, role, name, scopes), end)
        keys.append(key)
    audit_key("add_key", key)
    show_key(token, key, path)


@app.command("list")
def list_keys(file: KeysFile = None) -> None:
    """List the keys: whose they are, and what they may do."""
    keys = read_keys(resolve_file(file))
    if not keys:
        typer.echo("There are no keys.", err=True)
        return
    headings = ["id", "name", "tenant", "role", "scopes", "created", "expires"]
    print_table(Console(), "Keys", headings, [describe(key) for key in keys])


def describe(key: Key) -> list[str]:
    """Return the row of a key in the list."""
    identity, end = key.identity, "never"
    if key.expires is not None:
        end = "expired" if key.is_expired(datetime.now(UTC)) else f"{key.expires:%Y-%m-%d %H:%M}"
    scopes = "all" if identity.scopes == ALL_RIGHTS else " ".join(list_names(identity.scopes))
    return [key.id, identity.name, identity.tenant, identity.role, scopes, f"{key.created:%Y-%m-%d}", end]


@app.command()
def revoke(key: KeyName, file: KeysFile = None) -> None:
    """Revoke a key, or all keys of a name. Every service that reads this file refuses it within seconds."""
    path = resolve_file(file)
    read_keys(path)  # says where there is no such file
    with change_keys(path) as keys:
        revoked = find_keys(keys, key)
        for each in revoked:
            keys.remove(each)
    for each in revoked:
        audit_key("revoke_key", each)
        typer.echo(f"Key {each.id} of {each.identity.name!r} is revoked.", err=True)


@app.command()
def rotate(
    key: KeyName,
    overlap: Annotated[
        str, typer.Option(help="How long the old key works beside the new one: 0s ends it at once.")
    ] = "1d",
    file: KeysFile = None,
) -> None:
    """Make a new key in place of an old one, with the same name, role and lifetime, and print it."""
    path = resolve_file(file)
    until = now() + parse_duration(overlap, "--overlap")
    read_keys(path)
    with change_keys(path) as keys:
        old = find_keys(keys, key)[-1]
        lifetime = None if old.expires is None else old.expires - old.created
        new, token = create_key(old.identity, None if lifetime is None else now() + lifetime)
        old_end = until if old.expires is None else min(until, old.expires)
        keys[keys.index(old)] = replace(old, expires=old_end)
        keys.append(new)
    audit_key("rotate_key", new)
    show_key(token, new, path)
    typer.echo(f"The old key {old.id} ends at {old_end:%Y-%m-%d %H:%M:%S} UTC.", err=True)
