"""Audit lines of commands: who has changed keys or tenants on this machine."""

import getpass

from segserve.audit_log import AuditLog
from segserve.settings import load_settings


def audit(action: str, ids: dict[str, str], **fields: str) -> None:
    """Write a line to the audit log, where this machine's settings name one. fields: more about what was changed."""
    audit_log = AuditLog(load_settings().audit_log)
    audit_log.write(action, name=getpass.getuser(), ids=ids, **fields)
    audit_log.close()
