"""Sorting of key entries, as C sees it."""

from libc.stdint cimport uint64_t

from kvengine.engine.order.key_buffer cimport KeyEntry

cdef void sort_entries(KeyEntry *entries, KeyEntry *spare, uint64_t n) noexcept nogil
