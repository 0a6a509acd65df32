"""Create, list and revoke the tokens of a remote server, over /v1/tokens."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx

from kvengine.client.authorization import bearer
from kvengine.errors import InvalidRequest, KeyNotFound, KvError, UpstreamUnavailable
from kvengine.server.auth.tokens import Token

T = TypeVar("T")
TIMEOUT_S = 30.0


class RemoteTokens:
    """TokenStore over HTTP; with the token in KVENGINE_TOKEN.

    Args:
        url: of the server.

    Raises:
        InvalidRequest: the token is missing, or is not valid in a header.
    """

    def __init__(self, url: str) -> None:
        secret = os.environ.get("KVENGINE_TOKEN")
        if not secret:
            raise InvalidRequest("--url needs an admin token of the server in KVENGINE_TOKEN")
        headers = {"Authorization": bearer(secret)}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.close()

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
        """Create a token; see TokenStore.create."""
        description = {
            "name": name,
            "namespaces": namespaces,
            "write": write,
            "admin": admin,
            "expires_in_s": expires_in_s,
            "rate": rate,
        }
        return self._call("POST", "/v1/tokens", _created, description)

    def all(self) -> list[Token]:
        """Return all tokens, by name."""
        return self._call("GET", "/v1/tokens", _listed)

    def revoke(self, token_id: str) -> Token:
        """Revoke a token; see TokenStore.revoke."""
        return self._call("DELETE", f"/v1/tokens/{quote(token_id, safe='')}", _revoked)

    def _call(
        self, method: str, path: str, read: Callable[[dict[str, Any]], T], body: Any = None
    ) -> T:
        where = self._http.base_url
        try:
            answer = self._http.request(method, path, json=body)
            found = answer.json()
            if answer.is_success:
                return read(found)
            said = found["error"] if isinstance(found, dict) and "error" in found else found
            text = f"the server responded with {answer.status_code}: {said}"
        except httpx.HTTPError as error:
            raise UpstreamUnavailable(f"can't reach the server at {where}: {error}") from error
        except (ValueError, LookupError, TypeError) as error:
            raise KvError(
                f"the server at {where} did not respond as kvengine does; check the URL"
            ) from error
        if answer.status_code == httpx.codes.NOT_FOUND and method == "DELETE":
            raise KeyNotFound(path.rpartition("/")[2])
        raise (
            InvalidRequest(text) if answer.status_code == httpx.codes.BAD_REQUEST else KvError(text)
        )


def _created(found: dict[str, Any]) -> tuple[str, Token]:
    return found["secret"], _token(found["token"])


def _listed(found: dict[str, Any]) -> list[Token]:
    return [_token(one) for one in found["tokens"]]


def _revoked(found: dict[str, Any]) -> Token:
    return _token(found["token"])


def _token(fields: dict[str, Any]) -> Token:
    names = fields["namespaces"]
    return Token(**{**fields, "namespaces": None if names is None else tuple(names)})
