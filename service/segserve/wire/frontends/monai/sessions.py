"""Volumes that a client sent for a while: /session. A session belongs to its client, and ends by itself."""

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from segserve.app import Service
from segserve.types import FrontendName
from segserve.wire.frontends.monai.forms import SentFile
from segserve.wire.frontends.monai.volumes import Volume, Volumes
from segserve.wire.frontends.sessions import Sessions

Json = dict[str, Any]


@dataclass
class MonaiSession:
    """name: of the file, as the client calls it. created_at, used_at: seconds since the epoch."""

    volume: Volume
    name: str
    created_at: float = field(default_factory=time.time)
    used_at: float = field(default_factory=time.time)


class MonaiSessions:
    """`MonaiSessions` opens, finds and ends sessions. The file of a session is deleted when it ends."""

    def __init__(self, service: Service, volumes: Volumes) -> None:
        self._volumes, self._idle_s = volumes, service.settings.session_idle_s
        self.sessions = Sessions[MonaiSession](service, FrontendName.MONAI, partial(delete_file, volumes))

    async def open(self, files: list[SentFile]) -> tuple[str, Json]:
        """Store the files of one volume, and return the id of a session with its description.

        Raises Busy, BadInput, and what `Volumes.add_own` raises.
        """
        self.sessions.reserve()
        volume = await self._volumes.add_own([each.file for each in files])
        session = MonaiSession(volume, files[0].name if len(files) == 1 else f"{len(files)} files")
        try:
            session_id = self.sessions.open(session)
        except BaseException:
            await self._volumes.delete_own(volume)
            raise
        return session_id, self._describe(session)

    def describe(self, session_id: str) -> Json:
        """Return the description of a session of the current client. Raises SessionNotFound."""
        with self.sessions.use(session_id) as session:
            session.used_at = time.time()
            return self._describe(session)

    def end(self, session_id: str) -> Json:
        """End a session, and return its description. Raises SessionNotFound."""
        description = self.describe(session_id)
        self.sessions.end(session_id)
        return description

    def _describe(self, session: MonaiSession) -> Json:
        """Return the fields of MONAI Label's session. Where the file lies is nobody's business."""
        return {
            "name": session.name,
            "path": "",
            "image": session.name,
            "meta": {"slices": session.volume.slices},
            "create_ts": int(session.created_at),
            "last_access_ts": int(session.used_at),
            "expiry": int(self._idle_s),
        }


async def delete_file(volumes: Volumes, session: MonaiSession) -> None:
    await volumes.delete_own(session.volume)
