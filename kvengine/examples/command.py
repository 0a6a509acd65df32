"""What the examples share: a command with --data and --port, and secrets.

Invariants:

* The line with the URL is printed when requests are answered and a signal stops the server.
* After SIGINT or SIGTERM requests under way are finished, the database is closed, and a temporary
  folder is removed; then the process ends with status 0.
"""

import hmac
import secrets
import signal
import socket
import sys
import textwrap
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import click

import kvengine

HOST = "127.0.0.1"
SECRET_CHARS_MIN = 16

Function = Callable[..., Any]


class Example(click.Command):
    """A command whose help is its docstring, unchanged, and whose errors take one line."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the docstring; commands in it must not be wrapped."""
        formatter.write_paragraph()
        formatter.write(textwrap.indent(self.help or "", "  "))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the example until a signal ends it."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _stop)
        try:
            return super().invoke(ctx)
        except (kvengine.KvError, OSError) as error:
            raise click.ClickException(str(error)) from None


def _stop(_number: int, _frame: object) -> NoReturn:
    sys.exit(0)  # an exception: what is open is closed on its way out


def example(doc: str | None) -> Callable[[Function], Example]:
    """Make a function a command that gets `data` and `port`; *doc* is its help."""

    def decorate(main: Function) -> Example:
        port = click.option(
            "--port",
            type=click.IntRange(0, 65535),
            default=8000,
            show_default=True,
            help="Port on this machine; 0: any that is free.",
        )
        data = click.option(
            "--data",
            metavar="DIR",
            callback=_folder,
            help="Folder of the database.  [default: a temporary one]",
        )
        return click.command(cls=Example, help=doc)(data(port(main)))

    return decorate


def _folder(ctx: click.Context, _option: click.Parameter, folder: str | None) -> str:
    return folder or ctx.with_resource(TemporaryDirectory(prefix="kvengine-example-"))


def secret_option(name: str, text: str) -> Callable[[Function], Function]:
    """Add an option for a secret; if it is not given, one is generated and printed."""
    variable = name.lstrip("-").replace("-", "_").upper()

    def given_or_new(_ctx: click.Context, _option: click.Parameter, secret: str | None) -> str:
        if secret is None:
            secret = secrets.token_urlsafe(SECRET_CHARS_MIN)
            click.echo(f"{variable}={secret}")
        if len(secret) < SECRET_CHARS_MIN:
            raise click.BadParameter(f"it must have {SECRET_CHARS_MIN} characters or more")
        return secret

    return click.option(
        name,
        envvar=variable,
        show_envvar=True,
        callback=given_or_new,
        help=f"{text}  [default: a new one, printed]",
    )


def is_admin(authorization: str | None, admin_token: str) -> bool:
    """Return whether an Authorization header has the admin's token, in constant time."""
    return hmac.compare_digest((authorization or "").encode(), f"Bearer {admin_token}".encode())


def listen(port: int) -> socket.socket:
    """Listen on a port of this machine."""
    return socket.create_server((HOST, port))


def announce(listener: socket.socket, hint: str) -> None:
    """Print the URL and an example request; {url} in the hint is replaced by the address."""
    url = f"http://{HOST}:{listener.getsockname()[1]}"
    click.echo(f"Serving {url} until Ctrl-C; try: {hint.replace('{url}', url)}")
