"""``kvengine workerd-config``: what a configuration of workerd needs so that Workers find kvengine.

workerd reads no header from its environment, so the token stands in the configuration, or in a file
beside it.

Invariants:

* What is printed can be pasted into a configuration as it is: texts are escaped.
"""

import json
import re
from urllib.parse import urlsplit

import click

from kvengine.cli.output import write_text

BINDING = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
NAMESPACE_ID = re.compile(r"[0-9a-f]{32}")
PLACEHOLDER = "PUT-A-TOKEN-HERE"
DEFAULT_PORTS = {"http": 80, "https": 443}
NO_URL = "give http://HOST:PORT, https://HOST:PORT, HOST:PORT or unix:/PATH"


@click.command(name="workerd-config")
@click.argument("bindings", nargs=-1, required=True, metavar="BINDING=ID...")
@click.option(
    "--url",
    default="http://127.0.0.1:8787",
    show_default=True,
    help="Where the server listens; also HOST:PORT, or unix:/PATH of a socket.",
)
@click.option(
    "--token",
    envvar="KVENGINE_TOKEN",
    show_envvar=True,
    help="What the Worker may do.  [default: a placeholder]",
)
@click.option(
    "--token-file",
    metavar="FILE",
    help='Let workerd read it: FILE, seen from the configuration, holds "Bearer TOKEN" and no '
    "line end.",
)
def workerd_config(
    bindings: tuple[str, ...], url: str, token: str | None, token_file: str | None
) -> None:
    """Print what makes namespaces of a server the KV bindings of a Worker on workerd.

    For each BINDING=ID it is a service with the headers that name the namespace and the token, and
    the Worker's binding to it.
    """
    pairs = [_pair(text) for text in bindings]
    if token_file is not None:
        authorization = f"embed {_quoted(token_file)}"
    else:
        authorization = _quoted(f"Bearer {_checked(token or PLACEHOLDER)}")
    write_text("# Into `services` of the configuration:")
    for name, namespace_id in pairs:
        write_text(_service(name, namespace_id, url, authorization))
    write_text("# Into `bindings` of the Worker:")
    for name, _ in pairs:
        write_text(f"    (name = {_quoted(name)}, kvNamespace = {_quoted(_service_name(name))}),")


def _pair(text: str) -> tuple[str, str]:
    """Return the name of a binding and the id of its namespace."""
    name, _, namespace_id = text.partition("=")
    if not BINDING.fullmatch(name) or not NAMESPACE_ID.fullmatch(namespace_id):
        raise click.UsageError(
            f"{text!r} is not BINDING=ID: the name of a variable, and the 32 hex digits that "
            "`kvengine namespace list` shows"
        )
    return name, namespace_id


def _service_name(binding: str) -> str:
    return f"kvengine-{binding}"


def _service(binding: str, namespace_id: str, url: str, authorization: str) -> str:
    """Return the service that a binding asks."""
    address, host = _address(url)
    headers = (
        f'(injectRequestHeaders = [\n      (name = "KV-Namespace", value = "{namespace_id}"),\n'
        f'      (name = "Authorization", value = {authorization}),\n    ])'
    )
    if host is None:
        protocol = f"http = {headers}"
    else:
        protocol = (
            f"https = (options = {headers},\n"
            f"    tlsOptions = (trustBrowserCas = true), certificateHost = {_quoted(host)})"
        )
    name = _quoted(_service_name(binding))
    return f"    (name = {name}, external = (address = {_quoted(address)}, {protocol})),"


def _address(url: str) -> tuple[str, str | None]:
    """Return where workerd connects to, and with TLS the name in the certificate."""
    if url.startswith("unix:/"):
        return url, None
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port
    except ValueError:
        raise click.UsageError(f"--url {url!r}: {NO_URL}") from None
    extra = parts.path.strip("/") or parts.query or parts.fragment or parts.username
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or extra:
        raise click.UsageError(f"--url {url!r}: {NO_URL}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    address = f"{host}:{port or DEFAULT_PORTS[parts.scheme]}"
    return address, parts.hostname if parts.scheme == "https" else None


def _checked(token: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?", token):
        raise click.UsageError("--token has characters that a header can't hold")
    return token


def _quoted(text: str) -> str:
    """Return a text as Cap'n Proto writes it."""
    return json.dumps(text, ensure_ascii=False)
