"""Limit the size of an analytics query before it is validated.

Invariants:

* The counts bound the work even if a query repeats aliases, fragments and directives: validation
  compares fields in pairs, and each data set reads a month of every namespace.
"""

from __future__ import annotations

from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    parse,
    validate,
)

# Cloudflare's console asks for a few data sets at a time.
TOKENS_MAX, DEPTH_MAX, FIELDS_MAX, DIRECTIVES_MAX, SETS_MAX = 2000, 12, 200, 20, 20


def checked(schema: GraphQLSchema, query: str) -> tuple[DocumentNode | None, list[Any] | None]:
    """Return a valid query, or None and its errors."""
    try:
        document = parse(query, no_location=True, max_tokens=TOKENS_MAX)
        check_size(document)
    except GraphQLError as error:
        return None, [error.formatted]
    except RecursionError:
        return None, [{"message": "the query is nested too deeply"}]
    errors = validate(schema, document, max_errors=5)
    return (None, [error.formatted for error in errors]) if errors else (document, None)


def check_size(document: DocumentNode) -> None:
    """Refuse a query that is too large; each use of a fragment counts.

    Raises:
        GraphQLError: the query is too large.
    """
    fragments = {
        one.name.value: one
        for one in document.definitions
        if isinstance(one, FragmentDefinitionNode)
    }
    count = Asked()
    for definition in document.definitions:
        if not isinstance(definition, FragmentDefinitionNode):
            count.look(definition, 0, fragments)
        else:
            count.look(definition, 0, {})


class Asked:
    """The size of a query."""

    def __init__(self) -> None:
        self.fields = self.directives = self.sets = 0

    def look(self, node: Any, depth: int, fragments: dict[str, Any]) -> None:
        """Count the contents of a node.

        Raises:
            GraphQLError: the query is too large.
        """
        self.directives += len(getattr(node, "directives", None) or ())
        if isinstance(node, FieldNode):
            self.fields += 1
            self.sets += node.name.value.endswith("AdaptiveGroups")
        if isinstance(node, FragmentSpreadNode):
            self.fields += 1
            found = fragments.get(node.name.value)
            if found is not None:
                self.look(found, depth, fragments)
        if (
            depth > DEPTH_MAX
            or self.fields > FIELDS_MAX
            or self.directives > DIRECTIVES_MAX
            or self.sets > SETS_MAX
        ):
            raise GraphQLError(
                f"a query can have at most {DEPTH_MAX} levels, {FIELDS_MAX} fields, {SETS_MAX} "
                f"data sets and {DIRECTIVES_MAX} directives"
            )
        selections = getattr(node, "selection_set", None)
        for one in () if selections is None else selections.selections:
            self.look(one, depth + 1, fragments)
