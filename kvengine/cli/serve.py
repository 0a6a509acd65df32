"""``kvengine serve``: a server for programs in any language, wrangler and Workers."""

import os
from typing import TYPE_CHECKING, Any

import click

from kvengine.cli.arguments import data_option
from kvengine.cli.failures import CommandFailed
from kvengine.cli.output import flush, message, on_terminal, write_text

if TYPE_CHECKING:
    from kvengine.server.start import Start

MEBIBYTE = 1 << 20


@click.command()
@data_option
@click.option(
    "--host", default="127.0.0.1", show_default=True,
    help="Address to listen on. A host name stands for its IPv4 address.",
)  # fmt: skip
@click.option(
    "--port", default=8787, show_default=True, type=click.IntRange(0, 65535),
    help="Port to listen on. 0: any free port.",
)  # fmt: skip
@click.option("--unix-socket", metavar="PATH", help="Listen on a Unix socket instead.")
@click.option(
    "--workers", default=0, show_default=True, type=click.IntRange(0, 256),
    help="Worker processes, under a supervisor. 0: one process, no supervisor.",
)  # fmt: skip
@click.option(
    "--limits", default="strict", show_default=True, type=click.Choice(["strict", "relaxed"]),
    help="strict: as at Cloudflare, including one write per second per key.",
)  # fmt: skip
@click.option(
    "--durability", default="group", show_default=True,
    type=click.Choice(["group", "sync", "interval", "os"]), help="When a write is acknowledged.",
)  # fmt: skip
@click.option(
    "--rate", type=click.FloatRange(min=0.001), metavar="N", help="Requests per second per token."
)
@click.option(
    "--connections", default=10_000, show_default=True, type=click.IntRange(min=2), metavar="N",
    help="Connections open at once; at most half from one address.",
)  # fmt: skip
@click.option(
    "--streams-per-token", default=100, show_default=True, type=click.IntRange(1, 500), metavar="N",
    help="Open watches and console tabs per token. The same number of log readers is allowed.",
)  # fmt: skip
@click.option(
    "--body-memory", default=512, show_default=True, type=click.IntRange(min=8), metavar="MIB",
    help="Memory for request bodies; at most half per token.",
)  # fmt: skip
@click.option(
    "--no-auth", is_flag=True, help="Require no token: every client has full access. Loopback only."
)
@click.option(
    "--tls-certificate", metavar="FILE", type=click.Path(exists=True, dir_okay=False), help="PEM."
)
@click.option(
    "--tls-key", metavar="FILE", type=click.Path(exists=True, dir_okay=False), help="PEM."
)
@click.option("--upstream", metavar="URL", help="Run as an edge: a cache in front of this server.")
@click.option(
    "--upstream-ca", metavar="FILE", type=click.Path(exists=True, dir_okay=False),
    help="PEM file of CA certificates for the upstream.  [default: those of certifi]",
)  # fmt: skip
@click.option(
    "--name", default="edge", show_default=True, metavar="NAME", help="Name of this edge."
)
@click.option(
    "--memory", default=256, show_default=True, type=click.IntRange(min=1), metavar="MIB",
    help="Cache size of an edge.",
)  # fmt: skip
@click.option(
    "--log-format", default="text", show_default=True, type=click.Choice(["text", "json"]),
    help="Format of the log on standard error, which never holds keys, values or tokens.",
)  # fmt: skip
@click.option("--access-log", is_flag=True, help="Log each request. This slows reads.")
def serve(data: str, **options: Any) -> None:
    """Serve the namespaces in a folder over HTTP.

    The server speaks Cloudflare's REST API, for SDKs and wrangler, and workerd's KV protocol, for
    Workers. KVENGINE_TOKEN and KVENGINE_ACCOUNT set the first token and the account id. Without
    them, the first start generates, stores and prints both. An edge sends its upstream
    KVENGINE_UPSTREAM_TOKEN or, if that is not set, KVENGINE_TOKEN; the token must allow reading
    all namespaces.

    \b
    SIGTERM   finish requests in progress, sync, exit
    SIGHUP    restart gracefully, without refusing connections
    """
    try:
        from kvengine.server.main import run  # noqa: PLC0415 - of an extra
        from kvengine.server.settings import ServerSettings  # noqa: PLC0415
    except ImportError as error:
        raise CommandFailed(
            f"the server needs {error.name}; install it with: pip install 'kvengine[server]'"
        ) from error
    strict = options["limits"] == "strict"
    upstream = options["upstream"]
    if upstream and not _is_given("data"):
        data = ""  # an edge caches in memory unless a folder is given
    token = os.environ.get("KVENGINE_TOKEN") or None
    settings = ServerSettings(
        data=data,
        host=options["host"],
        port=options["port"],
        unix_socket=options["unix_socket"],
        workers=options["workers"],
        limits=options["limits"],
        durability=options["durability"],
        rate=options["rate"],
        connections=options["connections"],
        streams_per_token=options["streams_per_token"],
        bodies_bytes=options["body_memory"] * MEBIBYTE,
        is_open=options["no_auth"],
        certificate=options["tls_certificate"],
        private_key=options["tls_key"],
        upstream=upstream,
        upstream_ca=options["upstream_ca"],
        upstream_token=os.environ.get("KVENGINE_UPSTREAM_TOKEN") or token,
        name=options["name"],
        memory_bytes=options["memory"] * MEBIBYTE,
        log_format=options["log_format"],
        access_log=options["access_log"],
        key_write_interval_s=1.0 if strict else 0.0,
        account=os.environ.get("KVENGINE_ACCOUNT") or None,
        first_token=token,
    )
    run(settings, lambda url, start: _told(settings.data, url, start))


def _is_given(option: str) -> bool:
    """True unless an option has its default."""
    source = click.get_current_context().get_parameter_source(option)
    return source is not click.core.ParameterSource.DEFAULT


def _told(data: str, url: str, start: "Start") -> None:
    """Print the address of the server, and what the first start generated."""
    write_text(f"serving {data or 'a cache in memory'}")
    write_text(f"  url        {url}")
    write_text(f"  account    {start.account}")
    if start.new_token is not None:
        kept = _kept_from_journal(data, start.new_token)
        write_text(f"  token      {start.new_token if kept is None else f'in {kept}'}")
        message("this token is shown only once; create more with: kvengine token create")
    if start.new_namespace is not None:
        write_text(f"  namespace  {start.new_namespace}")
    flush()


def _kept_from_journal(data: str, token: str) -> str | None:
    """Under systemd, write the token to a file that only its owner can read; return the path.

    Output goes to the journal there, which other users can read, and which is kept.
    """
    if not os.environ.get("JOURNAL_STREAM") or on_terminal():
        return None
    path = os.path.join(data, "first-token")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise CommandFailed(f"can't write the first token to {path}: {error.strerror}") from error
    with open(descriptor, "w", encoding="ascii") as file:
        os.fchmod(descriptor, 0o600)
        file.write(token + "\n")
    return path
