"""Each database has the same methods: here, on a server, and at an edge."""

import inspect

import pytest

import kvengine
from kvengine.client.base import DatabaseBase

DATABASES = [kvengine.Database, kvengine.RemoteDatabase, kvengine.Edge]
METHODS = sorted(name for name in dir(DatabaseBase) if not name.startswith("_"))


@pytest.mark.parametrize("cls", DATABASES)
@pytest.mark.parametrize("name", METHODS)
def test_signatures_and_docstrings_are_the_same(cls, name):
    written, found = getattr(DatabaseBase, name), getattr(cls, name)
    assert inspect.getdoc(found) == inspect.getdoc(written) != ""
    if isinstance(written, property):
        assert isinstance(found, property)
        return
    wanted = inspect.signature(written)
    signature = inspect.signature(found)
    assert signature.parameters == wanted.parameters
    if wanted.return_annotation != "Any":  # each has namespaces of its own
        assert signature.return_annotation == wanted.return_annotation
