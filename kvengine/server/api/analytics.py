"""POST /client/v4/graphql: usage, as Cloudflare's GraphQL analytics reports it.

Two data sets (developers.cloudflare.com/kv/observability/metrics-analytics):
kvOperationsAdaptiveGroups with requests and latencies by date, action and namespace, and
kvStorageAdaptiveGroups with keys and bytes by date and namespace.  Counts come from the library's
metering.  Latencies are measured since the server started, over all namespaces, and are reported
for today.

Invariants:

* A token sees only the namespaces that it may read.
* The size of a query is limited before it is validated: analytics_query.py.
* Rows are grouped by exactly the dimensions that the query selects.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator
from datetime import date, timedelta
from typing import Any

from graphql import (
    FieldNode,
    FragmentSpreadNode,
    GraphQLResolveInfo,
    InlineFragmentNode,
    build_schema,
    execute,
)

from kvengine.database.database import Database
from kvengine.errors import InvalidRequest
from kvengine.server.api.analytics_query import checked
from kvengine.server.api.rest.envelope import MALFORMED, ApiError
from kvengine.server.auth.access import Principal
from kvengine.server.backend import Backend
from kvengine.server.http.body.json_body import json_of
from kvengine.server.http.messages import Request, Response
from kvengine.server.monitoring.figures import Figures

BODY_BYTES_MAX = 1 << 16
DAYS_MAX = 31  # the retention of Cloudflare
ROWS_MAX = 10_000
ACTIONS = {"read": "reads", "write": "writes", "delete": "deletes", "list": "lists"}
QUANTILES = {"P25": 0.25, "P50": 0.5, "P75": 0.75, "P90": 0.9, "P99": 0.99, "P999": 0.999}
Info = GraphQLResolveInfo[Any]
SCHEMA = build_schema("""
scalar Date
scalar Time
scalar uint64
scalar Order
type Query { viewer: Viewer! }
type Viewer { accounts(filter: AccountFilter, limit: Int): [Account!]! }
input AccountFilter { accountTag: String }
input OperationsFilter {
  namespaceId: String, namespaceId_in: [String!], actionType: String, actionType_in: [String!],
  date: Date, date_geq: Date, date_leq: Date, date_gt: Date, date_lt: Date,
  datetime_geq: Time, datetime_leq: Time
}
input StorageFilter {
  namespaceId: String, namespaceId_in: [String!],
  date: Date, date_geq: Date, date_leq: Date, date_gt: Date, date_lt: Date,
  datetime_geq: Time, datetime_leq: Time
}
type Account {
  kvOperationsAdaptiveGroups(filter: OperationsFilter, limit: Int, orderBy: [Order!]):
    [Operations!]!
  kvStorageAdaptiveGroups(filter: StorageFilter, limit: Int, orderBy: [Order!]): [Storage!]!
}
type Operations {
  count: uint64, sum: OperationsSum, dimensions: OperationsDimensions, quantiles: Latencies
}
type OperationsSum { requests: uint64! }
type OperationsDimensions { date: Date, actionType: String, namespaceId: String }
type Latencies {
  latencyMsP25: Float, latencyMsP50: Float, latencyMsP75: Float, latencyMsP90: Float,
  latencyMsP99: Float, latencyMsP999: Float
}
type Storage { max: StorageMax, dimensions: StorageDimensions }
type StorageMax { keyCount: uint64!, byteCount: uint64! }
type StorageDimensions { date: Date, namespaceId: String }
""")


class Analytics:
    """The analytics of a server's account.

    Args:
        backend: with a database.
        figures: latencies of the server.
    """

    def __init__(self, backend: Backend, figures: Figures) -> None:
        self._backend, self._figures = backend, figures

    async def answer(self, request: Request, principal: Principal) -> Response:
        """Answer a query.

        Raises:
            ApiError: the body is not a query.
        """
        text = f"a query has at most {BODY_BYTES_MAX} bytes"
        asked = await json_of(request, BODY_BYTES_MAX, text)
        if not isinstance(asked, dict) or not isinstance(asked.get("query"), str):
            raise ApiError(400, MALFORMED, 'send a JSON object such as {"query": "{ viewer ... }"}')
        variables = asked.get("variables")
        document, errors = checked(SCHEMA, asked["query"])
        if document is None:
            return Response.json({"data": None, "errors": errors})
        found = execute(
            SCHEMA,
            document,
            root_value={"viewer": {"accounts": self._accounts}},
            context_value=principal,
            variable_values=variables if isinstance(variables, dict) else None,
        )
        result = await found if isinstance(found, Awaitable) else found
        errors = None if result.errors is None else [error.formatted for error in result.errors]
        return Response.json({"data": result.data, "errors": errors})

    def _accounts(self, _info: Info, **given: Any) -> list[dict[str, Any]]:
        wanted = (given.get("filter") or {}).get("accountTag", self._backend.account)
        if wanted != self._backend.account:
            return []
        return [
            {
                "kvOperationsAdaptiveGroups": self._operations,
                "kvStorageAdaptiveGroups": self._storage,
            }
        ]

    async def _operations(self, info: Info, **given: Any) -> list[dict[str, Any]]:
        chosen = given.get("filter") or {}
        today = self._today()
        dimensions = asked_dimensions(info)
        groups: dict[tuple[Any, ...], int] = {}
        for namespace_id, day in await self._days(info.context, chosen):
            for action, name in ACTIONS.items():
                if not matches(chosen, "actionType", action):
                    continue
                row = {"date": day.date, "actionType": action, "namespaceId": namespace_id}
                key = tuple(row[one] for one in dimensions)
                groups[key] = groups.get(key, 0) + getattr(day.counts, name)
        rows = [
            {
                "count": count,
                "sum": {"requests": count},
                "dimensions": dict(zip(dimensions, key, strict=True)),
                "quantiles": self._latencies(dict(zip(dimensions, key, strict=True)), today),
            }
            for key, count in groups.items()
            if count
        ]
        return page(rows, given)

    async def _storage(self, info: Info, **given: Any) -> list[dict[str, Any]]:
        dimensions = asked_dimensions(info)
        by_day: dict[tuple[Any, ...], dict[str, list[int]]] = {}
        for namespace_id, day in await self._days(info.context, given.get("filter") or {}):
            row = {"date": day.date, "namespaceId": namespace_id}
            key = tuple(row[one] for one in dimensions)
            total = by_day.setdefault(key, {}).setdefault(day.date, [0, 0])
            total[0] += day.keys
            total[1] += day.bytes
        rows = [
            {
                "max": {
                    "keyCount": max(total[0] for total in totals.values()),
                    "byteCount": max(total[1] for total in totals.values()),
                },
                "dimensions": dict(zip(dimensions, key, strict=True)),
            }
            for key, totals in by_day.items()
        ]
        return page(rows, given)

    def _latencies(self, row: dict[str, Any], today: str) -> dict[str, float] | None:
        """Return the latencies of a row, in milliseconds; None if they are not known."""
        if row.get("date", today) != today:
            return None
        times = self._figures.of_action(row.get("actionType"))
        if not any(times.counts):
            return None
        return {
            f"latencyMs{name}": times.quantile(share) * 1e3 for name, share in QUANTILES.items()
        }

    def _today(self) -> str:
        days = int(self._backend.clock.time()) // 86_400
        return str(date(1970, 1, 1) + timedelta(days=days))

    async def _days(self, principal: Principal, chosen: dict[str, Any]) -> list[tuple[str, Any]]:
        """Return (namespace id, DayUsage) of the namespaces and days that match a filter."""
        db = self._backend.database
        first, last = bounds(chosen, date.fromisoformat(self._today()))
        ids = [
            info.id
            for info in await db.namespaces()
            if principal.token.allows(info.id, write=False)
            and matches(chosen, "namespaceId", info.id)
        ]
        return await db._runner.run(lambda: list(days_of(db._inner, ids, first, last)))


def days_of(db: Database, ids: Iterable[str], first: date, last: date) -> Iterator[tuple[str, Any]]:
    """Yield (namespace id, DayUsage) of namespaces between two days."""
    months = sorted({f"{first + timedelta(days=n):%Y-%m}" for n in range((last - first).days + 1)})
    for namespace_id in ids:
        for month in months:
            for day in db.usage(namespace_id, month=month).by_day:
                if str(first) <= day.date <= str(last):
                    yield namespace_id, day


def bounds(chosen: dict[str, Any], today: date) -> tuple[date, date]:
    """Return the first and the last day that match a filter.

    Raises:
        InvalidRequest: a bound is not a date.
    """
    first, last = today - timedelta(days=DAYS_MAX), today
    for name, text in chosen.items():
        field, _, how = name.partition("_")
        if field not in ("date", "datetime") or text is None:
            continue
        try:
            day = date.fromisoformat(str(text)[:10])
        except ValueError:
            raise InvalidRequest(f"{name} must start with a date such as 2026-11-23") from None
        if how in ("", "geq", "gt"):
            first = max(first, day + timedelta(days=how == "gt"))
        if how in ("", "leq", "lt"):
            last = min(last, day - timedelta(days=how == "lt"))
    return first, last


def matches(chosen: dict[str, Any], name: str, value: str) -> bool:
    """True if a value matches a filter on its name, or on its name with "_in"."""
    one, some = chosen.get(name), chosen.get(f"{name}_in")
    return (one is None or one == value) and (some is None or value in some)


def asked_dimensions(info: Info) -> list[str]:
    """Return the names of the dimensions that a query selects."""
    found: list[str] = []

    def look(selections: Any, inside: bool) -> None:
        for one in selections:
            if isinstance(one, FieldNode):
                if inside and one.name.value != "__typename":
                    found.append(one.name.value)
                elif one.name.value == "dimensions" and one.selection_set is not None:
                    look(one.selection_set.selections, True)
            elif isinstance(one, InlineFragmentNode):
                look(one.selection_set.selections, inside)
            elif isinstance(one, FragmentSpreadNode):
                look(info.fragments[one.name.value].selection_set.selections, inside)

    for node in info.field_nodes:
        if node.selection_set is not None:
            look(node.selection_set.selections, False)
    return sorted(set(found))


def page(rows: list[dict[str, Any]], given: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows in the order and within the limit of a query.

    Raises:
        InvalidRequest: the limit or the order is not valid.
    """
    limit = given.get("limit")
    if limit is not None and limit < 1:
        raise InvalidRequest(f"limit must be at least 1, not {limit}")
    return ordered(rows, given.get("orderBy"))[: min(limit or ROWS_MAX, ROWS_MAX)]


def ordered(rows: list[dict[str, Any]], order: Any) -> list[dict[str, Any]]:
    """Return rows ordered by names such as ["date_ASC"]; without names, by dimensions."""
    found = sorted(rows, key=lambda row: [str(one) for one in row["dimensions"].values()])
    for text in reversed(list(order or ())):
        name, _, way = text.rpartition("_")
        if way not in ("ASC", "DESC"):
            raise InvalidRequest(f"orderBy names must end in _ASC or _DESC, not {text[:40]!r}")
        found.sort(key=lambda row: _value(row, name), reverse=way == "DESC")
    return found


def _value(row: dict[str, Any], name: str) -> Any:
    outer, _, inner = name.partition("_")
    if outer in ("sum", "max") and outer in row and inner in row[outer]:
        return row[outer][inner]
    if name in row["dimensions"]:
        return row["dimensions"][name]
    raise InvalidRequest(f"can't order by {name[:40]!r}: the query does not select it")
