"""``kvengine token``: create, list and revoke tokens of a server."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

import kvengine
from kvengine.cli.arguments import data_option, json_option
from kvengine.cli.failures import CommandFailed
from kvengine.cli.formatting import json_line, printable_text
from kvengine.cli.output import message, output, write_text
from kvengine.cli.target import Commands, utf8
from kvengine.errors import KeyNotFound, StoreLocked
from kvengine.server.auth.token_store import TokenStore
from kvengine.server.start import account_of

if TYPE_CHECKING:
    from kvengine.server.auth.token_remote import RemoteTokens


@click.group(cls=Commands)
def token() -> None:
    """Create, list and revoke tokens of a server.

    Without --url, this works on the data folder, also while a server runs on it. With --url, it
    works on a server, such as one on another machine; set KVENGINE_TOKEN to an admin token of
    that server.
    """


def _where_options(command: Any) -> Any:
    command = click.option(
        "--url", envvar="KVENGINE_URL", show_envvar=True, help="URL of a running server."
    )(command)
    return data_option(command)


@contextmanager
def _tokens(
    data: str, url: str | None, *, read_only: bool = False
) -> Iterator["TokenStore | RemoteTokens"]:
    if url:
        from kvengine.server.auth.token_remote import RemoteTokens  # noqa: PLC0415 - of an extra

        with RemoteTokens(url) as remote:
            yield remote
        return
    try:
        db = kvengine.open(data, read_only=read_only, create=False)
    except StoreLocked as error:
        raise CommandFailed(
            f"{error.path} is in use by process {error.pid}; if that is a server, give its URL "
            "with --url, and set KVENGINE_TOKEN to an admin token"
        ) from error
    with db:
        yield TokenStore(db, account_of(db, _account()))


def _account() -> str | None:
    return click.get_current_context().params.get("account")


@token.command()
@_where_options
@click.argument("name", type=utf8)
@click.option(
    "--namespace", "namespaces", type=utf8, multiple=True, metavar="TITLE",
    help="Limit to this namespace, by title or id; can be repeated.  [default: all]",
)  # fmt: skip
@click.option("--write", is_flag=True, help="Allow writes.")
@click.option(
    "--admin",
    is_flag=True,
    help="Allow everything: writes, and managing namespaces and tokens.",
)
@click.option("--expires-in", type=click.IntRange(min=1), metavar="SECONDS", help="Lifetime.")
@click.option(
    "--rate", type=float, metavar="N", help="Requests per second.  [default: the server's]"
)
@click.option(
    "--account", envvar="KVENGINE_ACCOUNT", show_envvar=True, help="Account id of the server."
)
@json_option
def create(
    data: str,
    url: str | None,
    name: str,
    namespaces: tuple[str, ...],
    write: bool,
    admin: bool,
    expires_in: int | None,
    rate: float | None,
    account: str | None,
    as_json: bool,
) -> None:
    """Create a token called NAME and print it. It can't be shown again."""
    del account  # account_of() asks the context
    with _tokens(data, url) as tokens:
        secret, made = tokens.create(
            name,
            namespaces=list(namespaces) or None,
            write=write,
            admin=admin,
            expires_in_s=expires_in,
            rate=rate,
        )
    if as_json:
        output().write(json_line({"secret": secret, **asdict(made)}))
        return
    write_text(secret)
    message(f"created token {made.id} ({made.name!r}); it can't be shown again")


@token.command(name="list")
@_where_options
@json_option
def list_tokens(data: str, url: str | None, as_json: bool) -> None:
    """List tokens: id, permission, namespaces, name. The secrets themselves are not stored."""
    with _tokens(data, url, read_only=True) as tokens:
        found = tokens.all()
    for one in found:
        if as_json:
            output().write(json_line(asdict(one)))
            continue
        right = "admin" if one.admin else "write" if one.write else "read"
        where = "all" if one.namespaces is None else ",".join(one.namespaces)
        write_text(f"{one.id}\t{right}\t{where}\t{printable_text(one.name)}")


@token.command()
@_where_options
@click.argument("token_id", type=utf8, metavar="ID")
def revoke(data: str, url: str | None, token_id: str) -> None:
    """Revoke the token with this ID, effective immediately."""
    with _tokens(data, url) as tokens:
        try:
            gone = tokens.revoke(token_id)
        except KeyNotFound:
            raise CommandFailed(f"no token has the id {token_id!r}") from None
    message(f"revoked token {gone.id} ({gone.name!r})")
