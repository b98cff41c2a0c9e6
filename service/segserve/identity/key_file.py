"""The key file: JSON or YAML, as `segserve keys` writes it or as an operator keeps it in a Kubernetes Secret."""

import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import yaml
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from segserve.errors import BadInput, describe_invalid
from segserve.identity.identity import Identity
from segserve.identity.key import Key
from segserve.identity.rights import ALL_RIGHTS, list_names, parse_scopes
from segserve.identity.tenant_name import NAME_RULE, is_tenant_name
from segserve.types import AccessRole

YAML_SUFFIXES = (".yaml", ".yml")
# Names of keys: one line, as it is in logs and tables.
KEY_NAME = r"[^\x00-\x1f\x7f]{1,100}"
# 100,000 keys; a larger file is none.
MAX_FILE_BYTES = 32 << 20
FIELD = "keys_file"


def check_scopes(scopes: list[str]) -> list[str]:
    try:
        parse_scopes(scopes)
    except BadInput as error:
        raise ValueError(str(error)) from None
    return scopes


def check_tenant(tenant: str) -> str:
    if not is_tenant_name(tenant):
        raise ValueError(f"a tenant's name is {NAME_RULE}")  # without the value: it may be a key
    return tenant


class KeyEntry(BaseModel):
    """One key of the file. hash: SHA-256 of the secret. scopes: none is all that the role may do."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(pattern=r"^[0-9A-Za-z-]{1,64}$")
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    name: str = Field(pattern=f"^{KEY_NAME}$")
    tenant: Annotated[str, AfterValidator(check_tenant)]
    role: AccessRole
    scopes: Annotated[list[str], AfterValidator(check_scopes)] = []
    created: AwareDatetime
    expires: AwareDatetime | None = None

    def to_key(self) -> Key:
        scopes = parse_scopes(self.scopes) if self.scopes else ALL_RIGHTS
        expires = None if self.expires is None else self.expires.timestamp()
        identity = Identity(self.tenant, self.role, self.name, scopes, self.id, expires)
        return Key(self.id, self.hash, identity, self.created, self.expires)


class KeyEntries(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid")

    keys: list[KeyEntry]


def read_keys(path: Path) -> list[Key]:
    """Return the keys of a file. Blocks. Raises BadInput."""
    try:
        with path.open("rb") as file:
            is_open_to_all = os.fstat(file.fileno()).st_mode & stat.S_IWOTH
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadInput(
            f"The key file {path} cannot be read: {error.strerror}.",
            field=FIELD,
            remedy="Correct SEGSERVE_KEYS_FILE, or make a file by 'segserve keys add'.",
        ) from None
    if is_open_to_all:
        raise BadInput(
            f"Every user may write to the key file {path}.", field=FIELD, remedy=f"chmod go-w {path}"
        )
    return parse_keys(data, path)


def parse_keys(data: bytes, path: Path) -> list[Key]:
    """Return the keys in the content of a file. path: for messages. Raises BadInput, which shows no content."""
    if len(data) > MAX_FILE_BYTES:
        raise BadInput(f"The key file {path} is over {MAX_FILE_BYTES >> 20} MiB.", field=FIELD)
    try:
        entries = KeyEntries.model_validate(parse_text(data)).keys
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise BadInput(
            f"The key file {path} is broken: {describe_fault(error)}.",
            field=FIELD,
            remedy="Correct it; docs/keys.md says what is in it.",
        ) from None
    keys = [entry.to_key() for entry in entries]
    if len({key.id for key in keys}) != len(keys):
        raise BadInput(f"Two keys of the key file {path} have the same id.", field=FIELD)
    return keys


def parse_text(data: bytes) -> Any:
    """Return what JSON or YAML says. Raises ValueError, YAMLError."""
    with suppress(orjson.JSONDecodeError):
        return orjson.loads(data)
    return yaml.safe_load(data)


def describe_fault(error: Exception) -> str:
    """Return where a file is broken, without what stands there: it may be a key that somebody pasted."""
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_url=False)[0]
        return f"{'.'.join(str(part) for part in first['loc']) or 'all of it'}: {describe_invalid(first)}"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1} is no YAML"
    return "it is neither JSON nor YAML"


def to_entry(key: Key) -> dict[str, Any]:
    """Return a key as the file has it."""
    identity = key.identity
    entry: dict[str, Any] = {
        "id": key.id,
        "hash": key.hash,
        "name": identity.name,
        "tenant": identity.tenant,
        "role": str(identity.role),
        "created": write_time(key.created),
    }
    if identity.scopes != ALL_RIGHTS:
        entry["scopes"] = list_names(identity.scopes)
    if key.expires is not None:
        entry["expires"] = write_time(key.expires)
    return entry


def write_time(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def write_keys(path: Path, keys: Sequence[Key]) -> None:
    """Write the file at once, for this user only: readers see the old one or the new one. Blocks. Raises OSError."""
    content = {"keys": [to_entry(key) for key in keys]}
    is_yaml = path.suffix in YAML_SUFFIXES
    data = (
        yaml.safe_dump(content, sort_keys=False).encode()
        if is_yaml
        else orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n"
    )
    target = path.resolve()
    number, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")  # of mode 0600
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def change_keys(path: Path) -> Iterator[list[Key]]:
    """Yield the keys of a file, none where there is no file, and write the list back as the block leaves it.

    Two processes take turns. Blocks. Raises BadInput.
    """
    import fcntl  # not on Windows

    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = os.open(path.resolve().parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            keys = read_keys(path) if path.exists() else []
            yield keys
            write_keys(path, keys)
        finally:
            os.close(folder)
    except OSError as error:
        raise BadInput(
            f"The key file {path} cannot be written: {error.strerror}.",
            field=FIELD,
            remedy="A Secret of Kubernetes is changed by kubectl: see docs/keys.md.",
        ) from None
