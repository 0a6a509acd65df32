"""The bugs that tests/planted.py plants: mistakes of one place, and the tests that see them.

T1 to T10 once survived the whole suite.
"""

from __future__ import annotations

from typing import NamedTuple


class Bug(NamedTuple):
    """A mistake.

    name: what it would mean for users.
    file: where, below kvengine/.
    old, new: the text there, which must be unique, and what the mistake makes of it.
    tests: below tests/; at least one must fail.
    """

    name: str
    path: str
    old: str
    new: str
    test_ids: tuple[str, ...]

    @property
    def file(self) -> str:
        """The file, from the root of the repository."""
        return f"kvengine/{self.path}"

    @property
    def tests(self) -> tuple[str, ...]:
        """The ids of the tests, from the root of the repository."""
        return tuple(f"tests/{test}" for test in self.test_ids)

    @property
    def is_compiled(self) -> bool:
        """True if a compiler is needed."""
        return self.path.endswith((".pyx", ".pxd"))


def bug(name: str, path: str, old: str, new: str, *tests: str) -> Bug:
    """Return a bug; a line each is enough for most."""
    return Bug(name, path, old, new, tests)


# fmt: off
FOUND = (
    bug("T1 a durable mark behind damage is ignored",
        "engine/recovery.py",
        "if last_durable_mark(self.reader, row.id, start + 16, file.size_bytes):", "if False:",
        "crash/test_durable_mark.py::test_a_bad_record_before_a_durable_mark_is_damage"),
    bug("T2 a restored center is not noticed, position ahead",
        "tier/disk.py",
        "self.position is not None and self.position[0] > origin_version", "False",
        "world/test_world.py::test_a_disk_notices_a_center_that_was_restored[ahead]"),
    bug("T2 a restored center is not noticed, position behind",
        "tier/disk.py",
        "if as_of > self._origin and self._is_of_an_earlier_life(key):", "if False:",
        "tier/test_location_disk.py::test_what_an_earlier_life_knew_of_a_later_center_is_not_believed",
        "world/test_world.py::test_a_disk_notices_a_center_that_was_restored[behind]"),
    bug("T3 a position is on disk before the drops",
        "tier/location.py",
        "                self._apply_all(news, now, on_its_way, applied)\n",
        "                if self.copies.disk and news.upto > self.position:\n"
        "                    self.copies.disk.reach(news.upto, self.covered_from)\n"
        "                self._apply_all(news, now, on_its_way, applied)\n",
        "tier/test_location_disk.py::"
        "test_a_crash_between_any_two_writes_to_the_disk_shows_nothing_old"),
    bug("T4 a min_version reader joins an older question",
        "tier/asking.py", "flight.floor < floor", "False",
        "tier/test_location.py::test_a_min_version_reader_does_not_join_an_older_question"),
    bug("T5 stale_if_error shows what is below min_version",
        "tier/asking.py",
        "floor = max(ask.floor, self.floors.of_all)", "floor = self.floors.of_all",
        "tier/test_location.py::test_stale_if_error_shows_nothing_below_min_version"),
    bug("T6 a put whose answer was lost lifts no floor",
        "database/edge_writing.py",
        "except UpstreamUnavailable:\n            raise\n",
        "except UpstreamUnavailable:\n            version = NOTHING\n            raise\n",
        "server/test_edge_writes.py::test_a_write_whose_answer_was_lost_is_read_here"),
    bug("T7 a consumer's position is durable before its changes",
        "engine/consumer.py",
        "store.sync()  # a position must not", "pass  # a position must not",
        "crash/test_consumer_cut.py::test_every_step"),
    bug("T8 REST DELETE ignores if_version",
        "server/rest/values.py",
        "namespace.delete(call.key_name, if_version=if_version)", "namespace.delete(call.key_name)",
        "server/rest/test_deletes.py::test_a_delete_of_another_version_deletes_nothing"),
    bug("T9 REST bulk delete is not atomic",
        "server/rest/bulk.py",
        "delete_many(names(file), atomic=True)", "delete_many(names(file), atomic=False)",
        "server/rest/test_deletes.py::test_a_bulk_delete_with_a_bad_key_deletes_nothing"),
    bug("T10 increment does not compare and set",
        "namespace/writing.py",
        "if_version=0 if entry is None else entry.version,", "if_version=None,",
        "namespace/test_read_and_write_at_once.py::"
        "test_an_increment_sees_what_was_written_since_it_read"),
    bug("T10 touch does not compare and set",
        "namespace/writing.py", "if_version=found,", "if_version=None,",
        "namespace/test_read_and_write_at_once.py::"
        "test_a_touch_keeps_what_was_written_since_it_read"),
)
FILE = (
    bug("the folder is not locked, only the file in it",
        "file/folder.pyx",
        "        if flock(folder_fd, operation) != 0 and errno == EAGAIN:\n",
        "        if False:\n",
        "file/test_folder.py::test_the_lock_outlives_its_file"),
    bug("nlink of the folder is not looked at",
        "file/folder.pyx", "found.st_nlink == 0", "found.st_nlink < 0",
        "file/test_folder.py::test_a_folder_that_was_removed_and_a_file_of_it_are_told_apart"),
    bug("the manifest of a stranger is taken for one's own",
        "file/folder.pyx",
        "if found.st_dev == self.device \\\n",
        "return PRESENT\n                if found.st_dev == self.device \\\n",
        "file/test_folder.py::test_a_file_of_somebody_else_shows_another_store"),
    bug("a file takes its place before it is durable",
        "file/local.py", "                    output.sync()\n", "                    pass\n",
        "file/test_local.py::test_replace_syncs_the_bytes_before_the_name"),
    bug("names are not synced after a replacement",
        "file/local.py", "        if durable:\n            self.sync()\n", "",
        "file/test_local.py::test_replace_syncs_the_bytes_before_the_name"),
    bug("an older LOCK text keeps the next reader from knowing of a crash",
        "file/local.py", "self._was_left_open = not shared and bool(self._lock_text())", "pass",
        "engine/test_live_copy.py"),
)
ENGINE = (
    bug("a put is not refused where another version is",
        "engine/indexing.pyx",
        "if write.if_version >= 0 and write.found != <uint64_t>write.if_version:", "if False:",
        "engine/test_threads.py::test_compare_and_set_loses_no_increment"),
    bug("puts take the reserve of deletes",
        "engine/appending.pyx",
        "self.grow(aligned(end + write.size), only_deletes(write))",
        "self.grow(aligned(end + write.size), True)",
        "engine/test_full_disk.py::test_puts_do_not_take_what_is_kept_for_deletes"),
    bug("a log grows in a folder that is gone",
        "engine/appending.pyx",
        "if self.commits.is_lost():  # else nobody syncs", "if False:  # else nobody syncs",
        "engine/test_replaced_folder.py::test_a_log_does_not_grow_in_a_folder_that_is_gone"),
    bug("no record carries the mark of what is durable",
        "engine/appending.pyx", "first = DURABLE", "first = 0",
        "crash/test_durable_mark.py"),
    bug("a batch is recovered in part",
        "engine/appending.pyx", "(MORE if i < n - 1 else 0)", "0",
        "engine/test_batch.py", "crash/test_power_cut.py"),
    bug("the name of a new segment is not durable before a write in it counts",
        "engine/durable.pyx",
        "self.held.fd if load_word(&self.page[NAMED]) < self.active_id else -1", "-1",
        "engine/test_durability.py::"
        "test_a_new_segment_has_its_name_synced_before_a_write_counts"),
    bug("a write is reported durable in a folder that is gone",
        "engine/durable.pyx", "            return ESTALE\n", "            pass\n",
        "engine/test_replaced_folder.py::"
        "test_no_put_is_reported_durable_in_a_folder_that_is_gone"),
    bug("writes go on after a failed sync",
        "engine/durable.pyx",
        "self.on_failure(self._error_of_write())", "pass",
        "crash/test_io_errors.py::test_after_a_failed_sync_no_level_writes_any_more"),
    bug("a rollback does not ask the disk which manifest is there",
        "engine/store_files.py",
        "            if not self._has_taken_place(unfinished):\n"
        "                self.unfinished = None\n                raise\n",
        "            self.unfinished = None\n            raise\n",
        "engine/test_interrupted_jobs.py::test_which_manifest_is_there_can_not_be_known"),
    bug("whether the manifest was replaced can't be seen without a descriptor",
        "engine/store_files.py", "if before is not None and", "if False and",
        "crash/test_no_descriptors.py"),
    bug("E7: the segment before a roll is not synced any more",
        "engine/log_end.pyx",
        "            return FULL\n        self.commits.keep()\n", "            return FULL\n",
        "engine/test_segment_roll.py"),
    bug("E26: pages are believed to be of 4 KiB",
        "file/mapped.pyx", "PAGE_BYTES = sysconf(_SC_PAGESIZE)", "PAGE_BYTES = 4096",
        "file/test_page_size.py"),
    bug("an interrupted change of the manifest is not completed",
        "engine/store_files.py",
        "if not self._has_taken_place(self.unfinished):", "if True:",
        "engine/test_interrupted_jobs.py::"
        "test_any_exception_at_any_step_of_a_job_changes_nothing_or_everything"),
    bug("files that a manifest names are removed",
        "engine/store_files.py",
        "                if name not in named:\n", "                if True:\n",
        "engine/test_interrupted_jobs.py"),
    bug("files go while a backup copies them",
        "engine/store_files.py", "self.pins.count or self.unfinished", "self.unfinished",
        "engine/test_backup.py::"
        "test_files_that_a_job_replaces_meanwhile_stay_until_they_are_copied"),
    bug("what the control page vouches for is not looked for",
        "engine/recovery.py",
        "self._must_reach = max(self._must_reach, manifest.version) if until is None else until",
        "self._must_reach = manifest.version if until is None else until",
        "crash/test_torn_header.py::"
        "test_a_torn_header_is_damage_if_something_in_the_segment_was_durable"),
    bug("a segment behind the end is dropped though it was durable",
        "engine/recovery.py",
        "or last_durable_mark(self.reader, row.id, HEADER_BYTES, end)", "or False",
        "crash/test_torn_header.py::test_a_torn_header_is_damage_if_a_later_segment_vouches_for_it"),
    bug("old bytes behind the end come back",
        "engine/recovery.py",
        "                file.shorten(self.end.offset)\n", "                pass\n",
        "crash/test_power_cut.py"),
    bug("a background thread ends with the first exception",
        "engine/job_thread.py",
        "            self._retry_at = time.monotonic() + self.failures.pause_s()\n"
        "            return self.failures.pause_s()\n",
        "            return None\n",
        "engine/test_job_thread.py::test_the_background_survives_any_exception"),
    bug("a failed sync of the interval is not told",
        "engine/job_thread.py",
        "            self.failures.note(error)\n            return None\n",
        "            return None\n",
        "engine/test_interval_sync.py::"
        "test_a_sync_of_the_interval_that_fails_makes_the_store_read_only"),
    bug("the index of another seed is believed",
        "engine/trust.py",
        "    is_right = saved.seed_check == index_file.seed_check(manifest.seed)\n",
        "    is_right = True\n",
        "engine/test_index_file.py::test_the_index_of_another_seed_is_refused"),
    bug("a consumer goes on past changes that were lost",
        "engine/positions.py",
        "if found is not None and found.position > version:", "if False:",
        "engine/test_consumer_lost.py"),
    bug("a position moves back",
        "engine/positions.py",
        "position=max(old.position, version),", "position=version,",
        "engine/test_consumer.py::test_a_position_outlives_the_store_and_never_moves_back"),
    bug("of two who come to sleep one misses a write",
        "engine/bell.pxd",
        "word, &seen, seen + 1, 0,", "word, &seen, 0, 0,",
        "engine/test_waking.py::"
        "test_one_that_is_about_to_sleep_does_not_take_the_bit_of_another_for_its_own"),
    bug("who lost its lease moves the position",
        "engine/consumer.py",
        "            if not lease.is_held:\n                raise",
        "            if False:\n                raise",
        "engine/test_consumer_lease.py::test_who_lost_the_lease_does_not_move_the_position"),
    bug("a child of a fork keeps the lease of its parent",
        "file/lease.py",
        "        fork_watch(self, Lease.release)\n", "",
        "engine/test_consumer_lease.py::"
        "test_a_child_does_not_keep_the_lease_of_its_parent"),
    bug("changes go on after the lease was let go",
        "engine/consumer.py",
        "                if not self.has(lease):\n                    return\n", "",
        "engine/test_consumer_lease.py::"
        "test_what_was_given_before_letting_go_can_not_be_acknowledged_after_it"),
    bug("a position is not read anew under the lease",
        "engine/consumer.py",
        "        start = self._load()\n        self._lost",
        "        start = self._start = getattr(self, '_start', None) or self._load()\n"
        "        self._lost",
        "engine/test_consumer_lease.py"),
    bug("a removed lease is held on",
        "file/lease.py",
        "return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)", "return True",
        "engine/test_consumer_lease.py::test_who_lost_the_lease_does_not_move_the_position"),
    bug("a child of a fork writes into the store of its parent",
        "engine/opening.py",
        "    if store.options.read_only or store.is_released:\n        return\n", "    return\n",
        "test_fork.py::test_a_store_opened_for_writing_before_a_fork_is_refused_in_the_child"),
    bug("a reader does not notice that another folder is at its path",
        "engine/follower.py",
        "            store.directory.check_path()\n", "            pass\n",
        "engine/test_follower_places.py::test_a_reader_of_a_folder_that_was_replaced_says_so"),
)
TIER = (
    bug("a value is held though its flight was forgotten",
        "tier/cache.pyx", "or flight is not None and flight.is_void():", "or False:",
        "tier/test_flights.py::test_what_is_forgotten_while_it_is_made_is_not_kept"),
    bug("clear() lets those who make values keep them",
        "tier/cache.pyx", "        self.epoch.now += 1\n", "",
        "tier/test_flights.py::test_what_is_forgotten_while_it_is_made_is_not_kept"),
    bug("setdefault gives a value whose time is over",
        "tier/cache.pyx",
        "and not self.table.has_ended(slot, self.now(asked)):\n            there[0]",
        ":\n            there[0]",
        "tier/test_cache.py::"
        "test_setdefault_gives_nothing_that_has_ended_and_holds_the_new_value_anew"),
    bug("who waits for an interrupted maker waits forever, or gets nothing",
        "tier/flights.pyx",
        "                    own.result = make(own)\n                    return own.result\n"
        "                except Exception as error:\n                    own.error = error\n"
        "                    raise\n                except BaseException:\n"
        "                    own.is_left = True\n",
        "                    own.result = make(own)\n                    return own.result\n"
        "                except Exception as error:\n                    own.error = error\n"
        "                    raise\n                except BaseException:\n",
        "tier/test_flights.py::test_who_waits_takes_over_when_the_maker_is_interrupted"),
    bug("the breaker never opens",
        "tier/breaker.py",
        "is_silent = now - self._answered_at >= self._settings.grace_s", "is_silent = False",
        "tier/test_breaker.py"),
    bug("all readers are probes",
        "tier/breaker.py", "        self._probe_sent = now\n        return True\n",
        "        return True\n",
        "tier/test_breaker.py"),
    bug("a version that was asked for before a write settles its doubt",
        "tier/floors.py", "if number <= count:", "if True:",
        "tier/test_doubts.py::test_a_version_that_was_asked_for_before_the_write_settles_nothing"),
    bug("a gap in the news is trusted",
        "tier/location.py", "        self.covered_from = version\n", "",
        "tier/test_location.py::test_when_changes_are_gone_copies_live_on_their_own_time_only"),
    bug("a location in a child answers from copies that nobody keeps current",
        "tier/asking.py",
        "self.closed, self.why_closed = True, FORKED", "self.why_closed = FORKED",
        "database/test_edge_fork.py"),
    bug("who waits for a question whose asker was interrupted is forgotten",
        "tier/asking.py", "self._later(0.0, lambda: self._pass_on(flights))", "pass",
        "tier/test_interrupted.py"),
)
OTHERS = (
    bug("a gap in what comes from the source is passed over",
        "replication/order_guard.py", "if piece.after > self.position:", "if False:",
        "replication/test_order_guard.py"),
    bug("readers of a replica see half of a batch",
        "replication/intake.py", "        if passed.whole:\n", "        if True:\n",
        "replication/test_follower_model.py",
        "replication/test_follower.py::test_readers_see_only_states_that_the_source_had"),
    bug("a replica that holds nothing whole is promoted",
        "replication/promoting.py", "if origin.position is None:", "if False:",
        "cli/test_promote.py::test_what_holds_nothing_whole_is_not_promoted"),
    bug("a life is rounded down",
        "namespace/limits.py", "moment + seconds + (now > moment)", "moment + seconds",
        "namespace/test_lifetimes.py"),
    bug("a value that was made replaces what was put meanwhile",
        "namespace/filling.py", "key, data, if_version=0, **options)", "key, data, **options)",
        "namespace/test_filling_races.py"),
    bug("a put into a namespace that is deleted meanwhile stays",
        "namespace/writing.py",
        "            self._stays(name)\n            return version\n"
        "        raise _contention(key)\n\n    def delete(",
        "            return version\n        raise _contention(key)\n\n    def delete(",
        "namespace/test_writing.py::"
        "test_a_write_that_is_under_way_leaves_nothing_in_a_deleted_namespace"),
    bug("after an interrupted change the catalog is not read again",
        "database/catalog.py",
        "        if not self._is_whole and not self._lock.is_mine():", "        if False:",
        "database/test_interrupted.py::test_an_exception_at_every_line"),
    bug("numbers of namespaces are given twice",
        "database/catalog.py", "next_number=self._next_number + 1)", "next_number=0)",
        "database/test_catalog.py::test_numbers_are_not_used_again"),
    bug("keys of a slow writer outlive their namespace",
        "database/removal.py",
        "            while self._sweep(prefix):\n                pass",
        "            self._sweep(prefix)",
        "database/test_removal_races.py::test_keys_are_looked_for_in_one_pass_and_once_more"),
    bug("what was written down is counted again",
        "metering/ledger.py", "                self._begun = rows\n", "",
        "database/test_usage.py"),
    bug("what is included lowers the bill",
        "metering/pricing.py", "max(used - included, Decimal(0))", "used - included",
        "metering/test_pricing.py"),
    bug("a question gets the answers of another",
        "client/questions.py", "                start = end\n", "",
        "client/test_questions.py::test_each_gets_its_own_answers"),
    bug("a child shares the connections of its parent",
        "client/connection.py", "        fork_watch(self, Connection._after_fork)\n", "",
        "client/test_fork.py"),
    bug("an error loses its attributes on the way",
        "errors.py", "    error.__dict__.update(state)\n", "",
        "test_errors.py"),
    bug("async close does not wait for what is under way",
        "aio/runner.py", "                wait(running)\n", "",
        "aio/test_calls.py::test_the_last_call_comes_when_no_other_is_under_way_any_more"),
    bug("a second async close returns before the first",
        "aio/runner.py", "        await asyncio.shield(asyncio.wrap_future(self._last))\n",
        "            await asyncio.shield(asyncio.wrap_future(self._last))\n",
        "client/test_lives.py::test_a_second_close_waits_for_the_first"),
    bug("the command line ignores --if-version",
        "cli/put.py", "            if_version=if_version,\n", "",
        "cli/test_put_get_delete.py::test_if_version_writes_only_over_that_version"),
    bug("a conflict exits as any failure",
        "cli/failures.py", "    (VersionConflict, ExitCode.CONFLICT),\n", "",
        "cli/test_failures.py::test_exit_code_of_each_error"),
)
SERVER = (
    bug("a token of another account opens this one",
        "server/access.py",
        "return known if known.token.account == self._account else None", "return known",
        "server/test_tokens.py::test_a_token_of_another_account_is_useless"),
    bug("a revoked token stays valid",
        "server/access.py",
        "            self._known.pop(digest, None)\n            return None\n",
        "            return self._known.get(digest)\n",
        "server/test_tokens.py::test_a_revoked_token_is_useless_at_once"),
    bug("a token takes all there is",
        "server/admission.py", "        if mine > of_one:\n", "        if False:\n",
        "server/test_costs.py::test_requests_of_a_token"),
    bug("what a request took is not given back",
        "server/admission.py", "        self.taken[what] -= count\n", "",
        "server/test_links.py::test_clients_that_have_left_hold_nothing",
        "server/test_costs.py::test_bodies_in_memory"),
    bug("trailers are not counted",
        "server/framing.pyx", "if self.trailers > trailer_max:", "if False:",
        "server/test_framing.py::test_extensions_and_trailers_are_counted"),
    bug("a trailer is believed to be part of the body",
        "server/framing.pyx",
        "self.state = DATA if self.left else TRAILER_START",
        "self.state = DATA if self.left else ENDED",
        "server/test_framing.py"),
    bug("a chunk may end without CR LF",
        "server/framing.pyx",
        "            if c != 13:\n                raise ValueError(\"a chunk is longer",
        "            if False:\n                raise ValueError(\"a chunk is longer",
        "server/test_framing.py::test_what_is_no_body"),
    bug("nobody asks for a token before a request is forwarded",
        "server/forward.py", "            if principal is None:\n", "            if False:\n",
        "server/test_links.py::test_nothing_is_forwarded_without_a_token"),
    bug("JSON may be as deep as it likes",
        "server/json_body.py", "or depth > DEPTH_MAX:", "or False:",
        "server/test_costs.py::test_nested_json"),
    bug("the socket of another server is removed",
        "server/listening.py", " and identity(self._path) == self._made:", ":",
        "server/test_ends.py::test_only_the_own_socket_is_removed"),
)
# fmt: on
BUGS = (*FOUND, *FILE, *ENGINE, *TIER, *OTHERS, *SERVER)
