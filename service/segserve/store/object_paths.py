"""Every path in the object store. A path that ends with "/" is a folder: the prefix of what lies in it."""

# Ends the path of the record of an image or a file, without which it does not exist.
RECORD = "/record.json"


def deletions() -> str:
    """The folder of marks of tenants that are being deleted. No tenant may have this name."""
    return "_deletions/"


def deletion(tenant: str) -> str:
    return f"{deletions()}{tenant}"


def tenant(name: str) -> str:
    """All that a tenant has stored."""
    return f"{name}/"


def counted_folders(tenant: str) -> tuple[str, ...]:
    """The folders that count for the quota of a tenant."""
    return images(tenant), files(tenant), jobs(tenant), datastore(tenant)


def images(tenant: str) -> str:
    return f"{tenant}/images/"


def image_bytes(tenant: str, image_id: str) -> str:
    """The file as it was uploaded."""
    return f"{images(tenant)}{image_id}/bytes"


def image_record(tenant: str, image_id: str) -> str:
    return f"{images(tenant)}{image_id}{RECORD}"


def image_tiles(tenant: str, image_id: str) -> str:
    """The folder of all sets of tiles that were made of an image."""
    return f"{images(tenant)}{image_id}/tiles/"


def image_tile(tenant: str, image_id: str, folder: str, level: int, row: int, column: int) -> str:
    """folder: of one set of tiles."""
    return f"{image_tiles(tenant, image_id)}{folder}/{level}/{row}_{column}"


def files(tenant: str) -> str:
    return f"{tenant}/files/"


def file_bytes(tenant: str, file_id: str) -> str:
    """The file as it was uploaded."""
    return f"{files(tenant)}{file_id}/bytes"


def file_record(tenant: str, file_id: str) -> str:
    return f"{files(tenant)}{file_id}{RECORD}"


def uploads(tenant: str) -> str:
    return f"{tenant}/uploads/"


def upload(tenant: str, upload_id: str) -> str:
    """The folder of an upload that goes straight to the store."""
    return f"{uploads(tenant)}{upload_id}/"


def upload_record(tenant: str, upload_id: str) -> str:
    return f"{upload(tenant, upload_id)}record.json"


def upload_part(tenant: str, upload_id: str, number: int) -> str:
    """number: from 1."""
    return f"{upload(tenant, upload_id)}{number:05}"


def leases(tenant: str) -> str:
    return f"{tenant}/leases/"


def lease(tenant: str, file_id: str) -> str:
    """An empty object, as old as the last renewal of the lease of a file."""
    return f"{leases(tenant)}{file_id}"


def jobs(tenant: str) -> str:
    return f"{tenant}/jobs/"


def job(tenant: str, job_id: str) -> str:
    """The folder of a job's requests and results."""
    return f"{jobs(tenant)}{job_id}/"


def datastore(tenant: str) -> str:
    """The images and labels that clients of MONAI Label keep here."""
    return f"{tenant}/datastore/"


def datastore_image(tenant: str, key: str) -> str:
    """The folder of an image and its labels. key: hexadecimal digits."""
    return f"{datastore(tenant)}{key}/"


# Of the service and of no tenant: no name of a tenant begins with "_".
SIGNING_SECRET = "_service/signing-secret"
