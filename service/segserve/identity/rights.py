"""Rights: what an identity may do. A role has several, and the scopes of a key or a token may narrow them."""

from enum import Flag, auto

from segserve.errors import BadInput, quote
from segserve.types import AccessRole


class Right(Flag):
    """Rights that a request needs its sender to have. The lower-case names are the scopes of keys and tokens."""

    READ = auto()  # look at models, and at the tenant's images, files, jobs and results
    UPLOAD = auto()  # store images and files
    SEGMENT = auto()  # click, and segment whole images
    JOBS = auto()  # submit, change, cancel and retry jobs
    DELETE = auto()  # delete images, files and labels
    METRICS = auto()  # read /metrics
    OPERATE = auto()  # what concerns the whole service, and other tenants


NO_RIGHTS = Right(0)
ALL_RIGHTS = ~NO_RIGHTS
LABELLING = Right.READ | Right.UPLOAD | Right.SEGMENT | Right.JOBS | Right.DELETE

ROLE_RIGHTS = {
    AccessRole.ANNOTATOR: LABELLING,
    AccessRole.BATCH: LABELLING,
    AccessRole.OPERATOR: ALL_RIGHTS,
    AccessRole.METRICS: Right.METRICS,
}


def list_names(rights: Right) -> list[str]:
    """Return the names of rights, as scopes have them."""
    return [right.name.lower() for right in rights if right.name is not None]


def parse_scopes(scopes: list[str]) -> Right:
    """Return the rights that scopes name. Raises BadInput for a name that is none."""
    rights = NO_RIGHTS
    for scope in scopes:
        try:
            rights |= Right[scope.upper()]
        except KeyError:
            raise BadInput(
                f"There is no scope {quote(scope)}.",
                field="scopes",
                remedy=f"Scopes are: {', '.join(list_names(ALL_RIGHTS))}.",
            ) from None
    return rights
