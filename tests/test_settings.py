"""Settings are parameters with names and defaults, so editors complete them and a typo fails."""

import dataclasses
import inspect
import re
import typing

import pytest

import kvengine
import kvengine.aio
import kvengine.testing
from kvengine.edge.settings import Settings
from kvengine.options import Options
from kvengine.testing import World

# A database decides these itself.
OF_A_DATABASE = {"groups", "oldest_needed"}
# A replica is made if there is none, and is written to by its follower.
OF_A_REPLICA = {"read_only", "create", "oldest_needed"}
# In memory there is no disk to wait for.
IN_MEMORY = {"durability": "os"}

TAKES_OPTIONS = {
    kvengine.Store.__init__: ({}, set()),
    kvengine.Store.in_memory: (IN_MEMORY, set()),
    kvengine.open: ({}, OF_A_DATABASE),
    kvengine.Database.in_memory: (IN_MEMORY, OF_A_DATABASE),
    kvengine.Follower.__init__: ({}, OF_A_REPLICA),
    kvengine.aio.open: ({}, OF_A_DATABASE),
    kvengine.aio.Database.in_memory: (IN_MEMORY, OF_A_DATABASE),
}


def check(function, dataclass, other_defaults, left_out):
    parameters = inspect.signature(function).parameters
    hints = typing.get_type_hints(function)
    for setting in dataclasses.fields(dataclass):
        if setting.name in left_out:
            assert setting.name not in parameters
            continue
        found = parameters[setting.name]
        assert found.kind is found.KEYWORD_ONLY
        assert found.default == other_defaults.get(setting.name, setting.default), setting.name
        assert hints[setting.name] == setting.type, setting.name


@pytest.mark.parametrize("function", TAKES_OPTIONS, ids=lambda one: one.__qualname__)
def test_each_option_of_a_store_is_a_parameter(function):
    check(function, Options, *TAKES_OPTIONS[function])


SMALL_EDGES = {
    "memory_bytes": 1 << 20, "watermark_groups": 1 << 8, "change_buffer_bytes": 1 << 20,
}  # fmt: skip


@pytest.mark.parametrize(
    ("edge", "other"), [(kvengine.Edge, {}), (kvengine.aio.Edge, {}), (World, SMALL_EDGES)]
)
def test_each_setting_of_an_edge_is_a_parameter(edge, other):
    types = typing.get_type_hints(Settings)
    parameters = inspect.signature(edge.__init__).parameters
    for setting in dataclasses.fields(Settings):
        found = parameters[setting.name]
        default = other.get(setting.name, setting.default)
        assert (found.kind, found.default) == (found.KEYWORD_ONLY, default), setting.name
        assert found.annotation == types[setting.name].__name__


@pytest.mark.parametrize(
    "make",
    [
        kvengine.Store,
        lambda path, **typo: kvengine.Store.in_memory(**typo),
        kvengine.open,
        lambda path, **typo: kvengine.Database.in_memory(**typo),
        lambda path, **typo: kvengine.connect("http://127.0.0.1:1", **typo),
        lambda path, **typo: kvengine.Edge("http://127.0.0.1:1", path=path, **typo),
        lambda path, **typo: kvengine.Follower(kvengine.Store.in_memory(), path, **typo),
        lambda path, **typo: kvengine.Cache(1 << 20, **typo),
        lambda path, **typo: World(**typo),
        kvengine.aio.open,
        lambda path, **typo: kvengine.aio.Database.in_memory(**typo),
        lambda path, **typo: kvengine.aio.connect("http://127.0.0.1:1", **typo),
        lambda path, **typo: kvengine.aio.Edge("http://127.0.0.1:1", path=path, **typo),
    ],
)
def test_a_typo_is_a_type_error_before_anything_is_made(make, tmp_path):
    with pytest.raises(TypeError, match="unexpected keyword argument 'durabilty'"):
        make(tmp_path / "new", durabilty="os")
    assert not (tmp_path / "new").exists()


TAKES_ANY = {"update"}  # the keys of a dict


def functions(one):
    if not inspect.isclass(one):
        return {one.__name__: one} if callable(one) else {}
    if issubclass(one, (tuple, Exception)):
        return {}
    found = {name: getattr(one, name) for name in dir(one) if not name.startswith("_")}
    if one.__init__ is not object.__init__:
        found["__init__"] = one.__init__
    return {name: function for name, function in found.items() if callable(function)}


PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (kvengine, kvengine.aio, kvengine.testing)
    for name in module.__all__
    if name != "__version__"
}


@pytest.mark.parametrize("name", PUBLIC)
def test_nothing_public_takes_arguments_of_any_name(name):
    for each, function in functions(PUBLIC[name]).items():
        kinds = {one.kind for one in inspect.signature(function).parameters.values()}
        assert each in TAKES_ANY or inspect.Parameter.VAR_KEYWORD not in kinds, each


@pytest.mark.parametrize("name", PUBLIC)
def test_what_a_docstring_calls_an_argument_is_one(name):
    """Else a parameter was renamed, and its description was not."""
    described = {"": PUBLIC[name], **functions(PUBLIC[name])}
    for each, function in described.items():
        if not (text := re.search(r"Args:\n((?: {4}.*\n?|\n)+)", inspect.getdoc(function) or "")):
            continue
        names = ", ".join(re.findall(r"^ {4}(\w+(?:, \w+)*):", text[1], re.MULTILINE)).split(", ")
        try:
            parameters = inspect.signature(function).parameters
        except ValueError:  # a compiled class
            continue
        assert [one for one in names if one and one not in parameters] == [], each
