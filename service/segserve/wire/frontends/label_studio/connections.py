"""The setups of Label Studio's projects. They are kept in this process, as many as fit."""

from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import ip_address

import httpx
from cachetools import LRUCache

from segserve.errors import NotAllowed
from segserve.identity.identity import current_tenant
from segserve.settings import Settings
from segserve.wire.frontends.label_studio.bodies import OptionsIn, SetupIn
from segserve.wire.frontends.label_studio.label_config import LabelConfig, parse_label_config
from segserve.wire.frontends.sent_images import run_if_large

# Characters of the label configs and options of all projects, and those that any project counts for.
MAX_KEPT_CHARACTERS = 16 << 20
PROJECT_CHARACTERS = 1 << 14


@dataclass(frozen=True)
class Connection:
    """The connection of a project.

    tenant: whose key came with the setup.
    url: of Label Studio, without a slash at its end; None where nobody has allowed the address that it gives itself.
    hostname: that address, or empty. token: for its files; empty where there is none. characters: that it counts for.
    """

    project: str
    tenant: str
    url: str | None = None
    hostname: str = ""
    token: str = field(default="", repr=False)
    options: OptionsIn = field(default_factory=OptionsIn)
    config: LabelConfig | None = None
    characters: int = PROJECT_CHARACTERS

    @property
    def scope(self) -> str:
        """Return what tells apart whose files these are: an image that one token has fetched is not another's."""
        return f"{self.tenant}\0{self.url}\0{sha256(self.token.encode()).hexdigest()}"

    def expect_url(self) -> str:
        """Return the URL of Label Studio. Raises NotAllowed."""
        if self.url is not None:
            return self.url
        if not self.hostname:
            raise NotAllowed(
                f"Project {self.project!r} has not connected since the service started.",
                field="project",
                remedy="Open Settings, Model of the project, which connects it again.",
            )
        raise NotAllowed(
            f"Files of Label Studio may not be fetched from {self.hostname!r}.",
            field="hostname",
            remedy="Ask the operator to set SEGSERVE_LABEL_STUDIO_URL to Label Studio's address.",
        )


class Connections:
    """`Connections` remembers the projects of each tenant. A setup takes the place of the project's last one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connections: LRUCache[tuple[str, str], Connection] = LRUCache(
            MAX_KEPT_CHARACTERS, getsizeof=lambda connection: connection.characters
        )

    async def add(self, setup: SetupIn) -> Connection:
        """Remember a project. Raises BadInput, TooLarge where its label config cannot be read."""
        settings, hostname = self._settings, (setup.hostname or "").rstrip("/")
        config = await read_label_config(setup.label_config) if setup.label_config else None
        token = setup.access_token or ""
        url = choose_url(settings, hostname)
        if settings.label_studio_token and settings.label_studio_url:
            token = settings.label_studio_token
        characters = PROJECT_CHARACTERS + len(setup.label_config) + len(setup.extra_params.model_dump_json())
        tenant = current_tenant()
        connection = Connection(
            setup.project, tenant, url, hostname, token, setup.extra_params, config, characters
        )
        self._connections[tenant, setup.project] = connection
        return connection

    def get(self, project: str | None) -> Connection:
        """Return a project. One that has not connected has what the operator's settings say."""
        tenant = current_tenant()
        known = self._connections.get((tenant, project or ""))
        if known is not None:
            return known
        settings = self._settings
        url = settings.label_studio_url if settings.label_studio_token else None
        return Connection(
            project or "", tenant, url and url.rstrip("/"), token=settings.label_studio_token or ""
        )

    def find_number(self, number: int) -> list[Connection]:
        """Return the projects with this number of Label Studio. Their ids are "number.time of creation"."""
        tenant = current_tenant()
        return [
            each
            for each in self._connections.values()
            if each.tenant == tenant and each.project.partition(".")[0] == str(number)
        ]

    def forget(self, project: str) -> None:
        self._connections.pop((current_tenant(), project), None)


async def read_label_config(text: str) -> LabelConfig:
    """Read a label config, a large one in a thread. Raises BadInput, TooLarge."""
    return await run_if_large(len(text), lambda: parse_label_config(text))


def choose_url(settings: Settings, hostname: str) -> str | None:
    """Return where a project's files are fetched from, None: nowhere.

    The operator's setting counts. Without it, what the setup says counts where both sides are on this machine only:
    nobody else can send a setup then, and it leads nowhere else.
    """
    if settings.label_studio_url:
        return settings.label_studio_url.rstrip("/")
    if settings.is_exposed:
        return None
    try:
        url = httpx.URL(hostname)
    except httpx.InvalidURL:
        return None
    if url.scheme not in ("http", "https") or url.userinfo or url.query or url.fragment:
        return None
    return hostname if is_loopback(url.host) else None


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
