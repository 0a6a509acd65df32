"""Each namespace has the same methods: here, at an edge, over the network, and for asyncio."""

import inspect

import pytest

import kvengine
import kvengine.aio
from kvengine.aio.remote import RemoteNamespace as AsyncRemoteNamespace
from kvengine.client.namespace import RemoteNamespace
from kvengine.database.edge_namespace import EdgeNamespace

SYNC = [kvengine.Namespace, EdgeNamespace, RemoteNamespace]
ASYNC = [kvengine.aio.Namespace, kvengine.aio.EdgeNamespace, AsyncRemoteNamespace]

# Methods of a dict, which can't be awaited as such.
OF_A_DICT = {"clear", "items", "popitem", "setdefault", "update", "values"}
# How old a value may be is a question to an edge, and so is what it knows of that.
OF_AN_EDGE = {"read"}
READS = {"get", "get_many", "get_metadata", "get_with_metadata"}
FRESHNESS = {"cache_ttl", "min_version", "stale_if_error"}
# Over the network it may have to be asked for, so asyncio awaits it.
ASKED_FOR = {"title"}


def public(cls):
    return {name for name in dir(cls) if not name.startswith("_")} - {"id", "limits"}


def parameters(cls, method):
    found = inspect.signature(getattr(cls, method)).parameters.values()
    left_out = FRESHNESS if method in READS else set()
    return [(one.name, one.kind, one.default) for one in found if one.name not in left_out]


@pytest.mark.parametrize("cls", [*SYNC, *ASYNC], ids=lambda cls: cls.__module__)
def test_it_has_the_same_methods_with_the_same_parameters(cls):
    wanted = public(kvengine.Namespace) - (OF_A_DICT if cls in ASYNC else set())
    assert public(cls) - OF_AN_EDGE == wanted
    for method in sorted(wanted - ASKED_FOR):
        assert parameters(cls, method) == parameters(kvengine.Namespace, method), method
    for method in sorted(public(cls)):
        assert inspect.getdoc(getattr(cls, method)), method


@pytest.mark.parametrize("cls", [*SYNC, *ASYNC], ids=lambda cls: cls.__module__)
def test_no_argument_is_passed_on_unnamed(cls):
    for method in public(cls) - ASKED_FOR - {"update"}:
        kinds = {one.kind for one in inspect.signature(getattr(cls, method)).parameters.values()}
        assert not kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}, method


@pytest.mark.parametrize("cls", [*SYNC, *ASYNC], ids=lambda cls: cls.__module__)
def test_every_read_may_say_how_old_a_value_may_be(cls):
    wanted = FRESHNESS if "Edge" in cls.__name__ else {"cache_ttl"}
    for method in READS - {"get_metadata"}:
        assert wanted <= inspect.signature(getattr(cls, method)).parameters.keys(), method


@pytest.mark.parametrize("method", sorted(public(kvengine.Namespace) - READS - ASKED_FOR))
def test_annotations_are_the_same(method):
    wanted = inspect.signature(getattr(kvengine.Namespace, method)).parameters
    for cls in (*SYNC, *(ASYNC if method not in OF_A_DICT else [])):
        found = inspect.signature(getattr(cls, method)).parameters
        assert [one.annotation for one in found.values()] == [
            one.annotation for one in wanted.values()
        ], cls


@pytest.mark.parametrize("method", sorted((READS | OF_AN_EDGE) - {"get"}))  # get is compiled
def test_annotations_of_reads_at_an_edge_are_the_same(method):
    of_sync, of_async = (
        inspect.signature(getattr(cls, method)).parameters.values()
        for cls in (EdgeNamespace, kvengine.aio.EdgeNamespace)
    )
    assert [str(one) for one in of_async] == [str(one) for one in of_sync]


@pytest.mark.parametrize("method", sorted(public(kvengine.Namespace)))
@pytest.mark.parametrize("cls", [EdgeNamespace, RemoteNamespace])
def test_docstrings_are_the_same(cls, method):
    if cls is EdgeNamespace and method in READS:
        return  # it has more arguments, which say how old a value may be
    assert inspect.getdoc(getattr(cls, method)) == inspect.getdoc(
        getattr(kvengine.Namespace, method)
    )
