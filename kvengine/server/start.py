"""The start of a server: it generates what its database does not have yet.

Invariants:

* The account, the first token and the first namespace are generated once.
"""

from __future__ import annotations

import re
import secrets
from typing import NamedTuple

from kvengine.database.database import Database
from kvengine.errors import InvalidRequest, VersionConflict
from kvengine.namespace.layout import ACCOUNT
from kvengine.server.auth.token_store import TokenStore

FIRST_NAMESPACE = "default"
TOKEN_NAME = "first"  # noqa: S105 - a name, not a secret
ACCOUNT_ID = re.compile(r"[0-9a-zA-Z_-]{1,64}")


class Start(NamedTuple):
    """What a server starts with."""

    account: str
    new_token: str | None  # created now, to be shown once
    new_namespace: str | None  # the id, if created now


def account_of(db: Database, given: str | None) -> str:
    """Return the account of a server: the one given, or the one generated for its database.

    Raises:
        InvalidRequest: the account is not valid in a path.
    """
    if given:
        if not ACCOUNT_ID.fullmatch(given):
            raise InvalidRequest(
                "an account id must have 1 to 64 letters, digits, '_' or '-' (Cloudflare's are 32 "
                f"hex digits), not {given!r}"
            )
        return given
    kept = db.store.get(ACCOUNT)
    if kept is None:
        kept = secrets.token_hex(16).encode()
        if not db.store._parts.is_read_only:
            try:
                db.store.put(ACCOUNT, kept, if_version=0)
            except VersionConflict:  # another process generated one meanwhile
                return account_of(db, None)
    return kept.decode("ascii", "replace")


def first_start(db: Database, account: str | None, token: str | None) -> Start:
    """Create what a server needs and its database does not have yet.

    Args:
        db: open for writing.
        account, token: from the environment, or None.

    Raises:
        InvalidRequest: the account is not valid in a path.
    """
    chosen = account_of(db, account)
    store = TokenStore(db, chosen)
    new_token = new_namespace = None
    if not token and not any(kept.admin and kept.account == chosen for kept in store.all()):
        new_token, _ = store.create(TOKEN_NAME, admin=True)
    if not db.namespaces():
        new_namespace = db.create_namespace(FIRST_NAMESPACE).id
    return Start(chosen, new_token, new_namespace)
