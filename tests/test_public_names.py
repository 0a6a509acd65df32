"""The public interface: what ``kvengine`` exports, exactly, and that each name explains itself."""

import inspect
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import kvengine
from kvengine import errors

ERRORS = {
    "AccessDenied",
    "UpstreamUnavailable",
    "LogCompacted",
    "ConsumerLocked",
    "CorruptData",
    "InvalidRequest",
    "InvalidType",
    "KeyNotFound",
    "KvError",
    "LimitExceeded",
    "NamespaceExists",
    "NamespaceNotFound",
    "NotAStore",
    "NotCaughtUp",
    "ProtocolError",
    "RateLimited",
    "ReplicaDiverged",
    "StorageError",
    "StorageFull",
    "StoreClosed",
    "StoreBusy",
    "StoreLocked",
    "StoreReadOnly",
    "UnsupportedFormat",
    "VersionConflict",
}
NAMES = ERRORS | {
    "SEED_PRICES",
    "Bill",
    "PriceTable",
    "RemoteSource",
    "Usage",
    "price",
    "promote",
    "BulkReport",
    "Change",
    "Consumer",
    "ConsumerInfo",
    "Database",
    "DatabaseChange",
    "Digest",
    "Follower",
    "Cache",
    "CachedStore",
    "Edge",
    "EdgeNamespace",
    "EdgeStats",
    "Entry",
    "ValueRead",
    "GroupSize",
    "ExportReport",
    "ImportReport",
    "KeyChange",
    "KeyDetails",
    "KeyInfo",
    "Limits",
    "ListResult",
    "LogServer",
    "Namespace",
    "NamespaceInfo",
    "RELAXED",
    "STRICT",
    "SalvageReport",
    "Stats",
    "Store",
    "ValueWithMetadata",
    "VerifyReport",
    "connect",
    "RemoteDatabase",
    "RemoteNamespace",
    "connect_log",
    "open",
    "salvage",
    "serve_log",
    "verify",
}
STORE_METHODS = {
    "backup",
    "batch",
    "checkpoint",
    "close",
    "compact",
    "consumer",
    "consumers",
    "delete",
    "digest",
    "get",
    "get_entry",
    "get_many",
    "get_view",
    "group_size",
    "history",
    "in_memory",
    "keys",
    "put",
    "scan",
    "snapshot",
    "stats",
    "sync",
    "tail",
    "verify",
    "wait",
}


def test_exports_are_these_and_no_others() -> None:
    assert set(kvengine.__all__) - {"__version__"} == NAMES
    visible = {
        name
        for name, value in vars(kvengine).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert visible == NAMES


def test_the_version_is_that_of_the_changelog() -> None:
    """Errors tell kvengine 0.1 apart, so what says ``--version`` must not be 0.1 by mistake."""
    root = Path(__file__).parent.parent
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    newest = re.search(r"^## (\S+)", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert kvengine.__version__ == project["version"] == newest[1]


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_export_has_a_docstring_and_says_where_it_comes_from(name: str) -> None:
    value = getattr(kvengine, name)
    assert inspect.getdoc(value)
    assert value.__module__.partition(".")[0] == "kvengine"


@pytest.mark.parametrize("name", sorted(STORE_METHODS))
def test_each_method_of_store_has_a_docstring(name: str) -> None:
    assert inspect.getdoc(getattr(kvengine.Store, name))


def test_every_error_is_exported_and_belongs_to_the_tree() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, BaseException)
    }
    assert defined == ERRORS
    for name in ERRORS:
        assert getattr(kvengine, name) is getattr(errors, name)
        assert issubclass(getattr(errors, name), errors.KvError)
