"""Create, list and revoke tokens.

Invariants:

* A token is returned once, when it is created; the store can't recover it.
* After revoke() returns, the server refuses every request with the token.
"""

from __future__ import annotations

from typing import Any

from kvengine.database.database import Database
from kvengine.errors import InvalidRequest, InvalidType, KeyNotFound
from kvengine.namespace.layout import TOKENS
from kvengine.server.auth import tokens
from kvengine.server.auth.tokens import Token

NAME_CHARS_MAX = 100


class TokenStore:
    """The tokens in a database.

    Args:
        db: an open database.
        account: of the tokens.

    Thread-safety: threads may share it.
    """

    def __init__(self, db: Database, account: str) -> None:
        self._db, self._account = db, account

    def create(
        self,
        name: str,
        *,
        namespaces: Any = None,
        write: bool = False,
        admin: bool = False,
        expires_in_s: int | None = None,
        rate: float | None = None,
    ) -> tuple[str, Token]:
        """Create a token; return its secret and its record.

        Args:
            name: a description, 1 to 100 characters.
            namespaces: ids or titles; None: all.
            write: allow writes.
            admin: allow everything, including managing namespaces and tokens.
            expires_in_s: its lifetime in seconds; None: unlimited.
            rate: requests per second; None: the server's rate.

        Raises:
            InvalidRequest, InvalidType: an argument has an invalid value or type.
            NamespaceNotFound: there is no such namespace.
        """
        check_description(name, namespaces, write, admin, expires_in_s, rate)
        if admin and namespaces is not None:
            raise InvalidRequest("an admin token can't be limited to namespaces")
        ids = None if namespaces is None else tuple(self._id_of(one) for one in namespaces)
        now = int(self._db.clock.time())
        token = Token(
            tokens.new_id(),
            name,
            self._account,
            ids,
            write or admin,
            admin,
            now,
            None if expires_in_s is None else now + expires_in_s,
            rate,
        )
        secret = tokens.new_secret()
        key = TOKENS + tokens.digest(secret.encode())
        self._db.store.put(key, token.encode(), expires_at=token.expires)
        return secret, token

    def _id_of(self, namespace: str) -> str:
        infos = self._db.namespaces()
        for info in infos:
            if namespace in (info.title, info.id):
                return info.id
        return self._db.namespace_by_id(namespace).id  # raises

    def all(self) -> list[Token]:
        """Return the tokens, by name."""
        found = [tokens.decode(entry.value) for entry in self._db.store.scan(TOKENS)]
        return sorted(found, key=lambda token: (token.name, token.id))

    def revoke(self, token_id: str) -> Token:
        """Revoke a token, and return its record.

        Raises:
            KeyNotFound: no token has this id.
        """
        for entry in self._db.store.scan(TOKENS):
            token = tokens.decode(entry.value)
            if token.id == token_id:
                self._db.store.delete(entry.key)
                return token
        raise KeyNotFound(token_id)


def check_description(
    name: Any, namespaces: Any, write: Any, admin: Any, expires_in_s: Any, rate: Any
) -> None:
    """Check the arguments of create(), which may come from JSON and have any type.

    Raises:
        InvalidType: an argument has the wrong type; "false" is not False.
        InvalidRequest: a name is too long, or a number outside its range.
    """
    if not isinstance(name, str) or not 1 <= len(name) <= NAME_CHARS_MAX:
        raise InvalidRequest(f"a token's name must be a string of 1 to {NAME_CHARS_MAX} characters")
    for what, value in (("write", write), ("admin", admin)):
        if not isinstance(value, bool):
            raise InvalidType(f"{what} must be true or false, not {_shown(value)}")
    if namespaces is not None and (
        not isinstance(namespaces, (list, tuple))
        or not all(isinstance(one, str) for one in namespaces)
    ):
        raise InvalidType(
            f"namespaces must be a list of titles or ids, or null for all, not {_shown(namespaces)}"
        )
    if expires_in_s is not None:
        if isinstance(expires_in_s, bool) or not isinstance(expires_in_s, int):
            raise InvalidType(f"expires_in_s must be an integer, not {_shown(expires_in_s)}")
        if not 0 < expires_in_s < 1 << 40:
            raise InvalidRequest(
                f"expires_in_s must be at least 1 second, not {_shown(expires_in_s)}"
            )
    if rate is not None:
        if isinstance(rate, bool) or not isinstance(rate, (int, float)):
            raise InvalidType(f"rate must be a number of requests per second, not {_shown(rate)}")
        if not 0 < rate < 1e9:
            raise InvalidRequest(f"rate must be above 0 and below 1e9, not {_shown(rate)}")


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {str(value)[:40]!r}"
