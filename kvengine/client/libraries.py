"""Libraries that are needed only to connect to a server."""

import functools
import importlib
from typing import Any

from kvengine.errors import InvalidRequest


@functools.cache
def needed(name: str) -> Any:
    """Return a module of a library.

    Raises:
        InvalidRequest: the library is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        library = name.partition(".")[0]
        raise InvalidRequest(
            f"to connect to a server, kvengine needs {library}: pip install 'kvengine[client]'"
        ) from error
