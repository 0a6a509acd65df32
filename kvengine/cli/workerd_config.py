"""``kvengine workerd-config``: print workerd configuration that binds Workers to a server.

workerd can't read a header from its environment, so the configuration contains the token, or
names a file that does.

Invariants:

* The output can be pasted into a configuration unchanged: texts are escaped.
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
NO_URL = "expected http://HOST:PORT, https://HOST:PORT, HOST:PORT or unix:/PATH"


@click.command(name="workerd-config")
@click.argument("bindings", nargs=-1, required=True, metavar="BINDING=ID...")
@click.option(
    "--url",
    default="http://127.0.0.1:8787",
    show_default=True,
    help="URL of the server; HOST:PORT and unix:/PATH work too.",
)
@click.option(
    "--token",
    envvar="KVENGINE_TOKEN",
    show_envvar=True,
    help="Token for the Worker.  [default: a placeholder]",
)
@click.option(
    "--token-file",
    metavar="FILE",
    help='Embed this file instead, which holds "Bearer TOKEN" without a newline. The path is '
    "relative to the configuration.",
)
def workerd_config(
    bindings: tuple[str, ...], url: str, token: str | None, token_file: str | None
) -> None:
    """Print workerd configuration for KV bindings of a Worker.

    A binding makes a namespace of a server available to the Worker.
    For each BINDING=ID it has a service, whose headers carry the namespace and the token, and a
    binding of the Worker to that service.
    """
    pairs = [_pair(text) for text in bindings]
    if token_file is not None:
        authorization = f"embed {_quoted(token_file)}"
    else:
        authorization = _quoted(f"Bearer {_checked(token or PLACEHOLDER)}")
    write_text("# Add to `services` in the configuration:")
    for name, namespace_id in pairs:
        write_text(_service(name, namespace_id, url, authorization))
    write_text("# Add to `bindings` of the Worker:")
    for name, _ in pairs:
        write_text(f"    (name = {_quoted(name)}, kvNamespace = {_quoted(_service_name(name))}),")


def _pair(text: str) -> tuple[str, str]:
    """Return the name of a binding and the id of its namespace."""
    name, _, namespace_id = text.partition("=")
    if not BINDING.fullmatch(name) or not NAMESPACE_ID.fullmatch(namespace_id):
        raise click.UsageError(
            f"{text!r} is not a valid BINDING=ID: expected a variable name and the 32 hex digits "
            "of a namespace id, as `kvengine namespace list` prints them"
        )
    return name, namespace_id


def _service_name(binding: str) -> str:
    return f"kvengine-{binding}"


def _service(binding: str, namespace_id: str, url: str, authorization: str) -> str:
    """Return the service behind a binding."""
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
    """Return the address workerd connects to and, with TLS, the host name to verify."""
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
        raise click.UsageError("--token contains characters that are not allowed in a header")
    return token


def _quoted(text: str) -> str:
    """Return a text as a Cap'n Proto string literal."""
    return json.dumps(text, ensure_ascii=False)
