"""The public interface: what ``kvengine`` exports, exactly, and that each name explains itself."""

import inspect
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import kvengine
from kvengine import errors
from kvengine.engine.access.batch import Batch
from kvengine.testing import World

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
# What dir() shows of each public class: what is not for users has an underscore.
ATTRIBUTES = {
    "Bill": "lines month total",
    "BulkReport": "ok successful_key_count unsuccessful_keys",
    "Cache": (
        "cache_info clear currsize delete expire get getsizeof items keys maxsize memoize "
        "memory_usage peek pop popitem set setdefault ttl update values"
    ),
    "CachedStore": (
        "cache_info clear delete get get_many items keys pop popitem put setdefault store "
        "update values"
    ),
    "Consumer": "acknowledge batches changes lag name position release remove restart",
    "ExportReport": "bytes keys last_key version",
    "Follower": "catch_up caught_up close database differences lag promote store wait",
    "ImportReport": "bytes expired keys refused resumed_at skipped",
    "Limits": (
        "bulk_bytes bulk_pairs cache_ttl_min_s get_bytes get_keys get_types key_bytes "
        "list_keys metadata_bytes title_chars ttl_min_s value_bytes"
    ),
    "LogServer": "close",
    "PriceTable": (
        "base from_json gigabyte included_deletes included_gigabytes included_lists "
        "included_reads included_writes million_deletes million_lists million_reads "
        "million_writes of"
    ),
    "RemoteSource": "pieces tail uuid version",
    "SalvageReport": "kept lost_ranges",
    "Stats": (
        "disk_bytes durability failures index_bytes key_runs keys last_error "
        "last_error_at live_bytes log_bytes read_only segments space_amplification "
        "version"
    ),
    "Store": (
        "backup batch checkpoint clear close closed compact consumer consumers delete "
        "digest get get_entry get_many get_view group_size history in_memory items keys "
        "path pop popitem put scan setdefault snapshot stats sync tail update values "
        "verify version wait"
    ),
    "Usage": "as_json by_day by_namespace bytes counts gigabyte_months keys month",
    "VerifyReport": "bytes files ok problems records",
    "Batch": "commit delete put size_bytes version",
    "World": (
        "backup begin crash cut heal later namespace node now partition read report "
        "restore run start_read start_write wait_for write"
    ),
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


@pytest.mark.parametrize("name", sorted(ATTRIBUTES))
def test_dir_shows_what_is_for_users(name: str) -> None:
    shown = {"Batch": Batch, "World": World}.get(name) or getattr(kvengine, name)
    assert [one for one in dir(shown) if not one.startswith("_")] == ATTRIBUTES[name].split()


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_export_has_a_docstring_and_says_where_it_comes_from(name: str) -> None:
    value = getattr(kvengine, name)
    assert inspect.getdoc(value)
    assert value.__module__.partition(".")[0] == "kvengine"


@pytest.mark.parametrize("name", ATTRIBUTES["Store"].split())
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


NAMESPACE = """
    id title limits
    get get_many get_metadata get_with_metadata exists ttl
    put add delete pop touch persist increment get_or_set memoize
    put_many delete_many delete_prefix
    list keys count size watch history
    export_file import_file
    items values popitem setdefault update clear
"""
DATABASE = """
    limits clock version closed close sync
    namespace namespace_by_id namespaces create_namespace set_bounds rename delete
    wait_for_removals
    tail usage
"""


@pytest.fixture(scope="module")
def public_objects():
    with (
        kvengine.Database.in_memory() as database,
        kvengine.Edge(database) as edge,
        kvengine.connect("http://127.0.0.1:1") as remote,
    ):
        yield {
            "Database": database,
            "Edge": edge,
            "RemoteDatabase": remote,
            "Namespace": database.namespace("n"),
            "EdgeNamespace": edge.namespace("n"),
            "RemoteNamespace": kvengine.RemoteNamespace(remote, "0" * 32, 1),
        }


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("Namespace", NAMESPACE),
        ("EdgeNamespace", NAMESPACE + "read"),  # a value, and how old it may be
        ("RemoteNamespace", NAMESPACE),
        ("Database", DATABASE + "store in_memory snapshot consumer consumers"),
        ("Edge", DATABASE + "name settings upstream stats"),
        ("RemoteDatabase", DATABASE + "url account log_source"),
    ],
)
def test_what_is_not_for_users_has_an_underscore(public_objects, name, listed):
    found = {one for one in dir(public_objects[name]) if not one.startswith("_")}
    assert found == set(listed.split())
