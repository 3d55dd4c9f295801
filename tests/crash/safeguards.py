"""Shows that the proof can fail: takes each safeguard out of the library in turn, and names the check that misses it.

    python -m tests.crash.safeguards [--page docs/proof.md] [WORD ...]

The checks are tests of this folder, called as they are. One that passes without the safeguard, or fails by anything but
what it asserts, makes the program exit with 1. This is the one place in the tests that knows lines of the library: one
that has only moved is found again; one that was written anew has to be written anew here.
"""

from __future__ import annotations

import argparse
import errno
import logging
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .campaign import put_into_page
from .removal import Caught, Check, Safeguard, look


def _test(name: str, *arguments: Any) -> Check:
    return Check(name, arguments)


def _crashes(workload: str, level: str) -> Check:
    return Check("test_crash.test_holds_its_promises_whatever_a_crash_leaves", (workload, level))


def _failures(workload: str, level: str) -> Check:
    return Check("test_faults.test_survives_the_failure_of_each_call", (workload, level))


def _lines(call: str) -> Check:
    return Check("test_faults.test_stays_in_step_whatever_line_is_interrupted", (call,))


def _hidden(call: str) -> Check:
    return Check("test_faults.test_forgets_no_failure_that_an_interruption_hides", (call, True))


def _damages(test: str, life: str, level: str, closed: bool) -> Check:
    from damage_campaign import compacted_subject, small_subject

    make = {"small": small_subject, "compacted": compacted_subject}[life]
    return Check(f"test_damage.{test}", (make, level, closed))


_BITS = "test_sees_every_flipped_bit"
_CUTS = "test_sees_every_truncation"
_SPLICES = "test_sees_every_frame_out_of_its_place"
_ROW = b"\x96\xd3" + bytes(8) + (b"\xd3" + bytes(8)) * 2 + b"\xd3\x7f" + b"\xff" * 7 + b"\xa6system\x81\xa1n\x01"


def _hostile(*operation: Any) -> Check:
    return Check("test_damage.test_refuses_what_no_store_would_write", (list(operation),))


SAFEGUARDS: list[Safeguard] = [
    # ------------------------------------------------------------ what the bytes say
    Safeguard(
        "the checksum of a record",
        "G1, G2",
        (
            """
            - if crc32(payload, crc32(window[at : at + _FRAME.size], self._seed)) != checksum:
            + if False:
            """,
        ),
        (_damages(_BITS, "small", "power", True), _crashes("tiny", "process")),
    ),
    Safeguard(
        "the generation in the checksum",
        "G1",
        (
            """
            - self.seed = crc32(self.generation)
            + self.seed = 0
            """,
        ),
        (_test("test_crash.test_lets_no_dropped_record_come_up_again_out_of_a_freed_block", "process"),),
    ),
    Safeguard(
        "the sequence number",
        "G1",
        (
            """
            - if sequence != self.records:
            + if False:
            """,
        ),
        (_damages(_SPLICES, "small", "power", True),),
    ),
    Safeguard(
        "the place of the marks",
        "G1",
        (
            """
            - if payload == BASE_END if self.based else payload in (CLOSE, CUT):
            + if False:
            """,
        ),
        (_test("test_damage.test_takes_a_mark_in_no_other_place", [b"\xa8base end", b"\xa8base end"], []),),
    ),
    Safeguard(
        "the checksum of the header",
        "G1",
        (
            """
            - if crc32(head[: _HEADER.size]) != _CHECKSUM.unpack_from(head, _HEADER.size)[0]:
            + if False:
            """,
        ),
        (_damages(_BITS, "compacted", "process", True),),
    ),
    Safeguard(
        "the major version and the flags",
        "R6",
        (
            """
            - if major > MAJOR:
            + if False:
            """,
            """
            - if flags & ~KNOWN_FLAGS:
            + if False:
            """,
        ),
        (
            _test("test_damage.test_leaves_a_file_of_the_future_alone", 2, 0),
            _test("test_damage.test_leaves_a_file_of_the_future_alone", 1, 1),
        ),
    ),
    Safeguard(
        "synced-to, believed",
        "R2, R3",
        (
            """
            - if promised > scan.end or (not scan.based and scan.records + after):
            + if not scan.based and scan.records + after:
            """,
        ),
        (_damages(_BITS, "small", "power", True), _damages("test_tells_where_the_damage_is", "small", "power", True)),
    ),
    Safeguard(
        "synced-to, written",
        "R2, R3",
        (
            """
              self.synced_position = reached
            - self._synced_to = end
            """,
        ),
        (_damages(_BITS, "compacted", "power", False),),
    ),
    Safeguard(
        "synced-to, not beyond its own record",
        "G3",
        (
            """
            - if synced_to > self.end:
            + if False:
            """,
        ),
        (_test("test_damage.test_tells_of_a_promise_that_cannot_be"),),
    ),
    Safeguard(
        "the search for records behind damage trusts no length",
        "R3",
        (
            """
            - step = 1
            + step = FRAME_BYTES + length
            """,
        ),
        (_damages(_BITS, "small", "power", True),),
    ),
    Safeguard(
        "the end-of-base mark",
        "M1, R3",
        (
            """
            - if scan.reason is None and scan.based:
            + if scan.reason is None:
            """,
            """
            - if promised > scan.end or (not scan.based and scan.records + after):
            + if promised > scan.end:
            """,
            """
            - if not scan.based:
            + if False:
            """,
        ),
        (_damages(_CUTS, "compacted", "power", False),),
    ),
    # ------------------------------------------------------------ what hostile bytes may cost
    Safeguard(
        "no frame is longer than the file",
        "G3",
        (
            """
            - if length > self.size - self.end - FRAME_BYTES:
            + if False:
            """,
        ),
        (_test("test_damage.test_makes_no_room_for_what_a_length_claims", 5000, True),),
    ),
    Safeguard(
        "no look beyond the end for a long frame",
        "G3",
        (
            """
            - if length <= self.size - self.end and window.startswith(_MARKER):
            + if window.startswith(_MARKER):
            """,
        ),
        (_test("test_damage.test_makes_no_room_for_what_a_length_claims", 2**32 - 1, False),),
    ),
    Safeguard(
        "no look beyond the end in the search",
        "G3",
        (
            """
            - if length <= end - offset - FRAME_BYTES and max(sequence, synced_to) < _IMPLAUSIBLE:
            + if max(sequence, synced_to) < _IMPLAUSIBLE:
            """,
        ),
        (_damages(_BITS, "small", "process", False),),
    ),
    Safeguard(
        "no room for a record of the feed that claims to be long",
        "G3",
        (
            """
            - window = disk.read(descriptor, min(length, disk.size(descriptor) - offset), offset)
            + window = disk.read(descriptor, length, offset)
            """,
        ),
        (_test("test_damage.test_makes_no_room_for_a_length_that_was_damaged_under_an_open_store"),),
    ),
    Safeguard(
        "the patience of the search",
        "G3",
        (
            """
            - if length > patience:
            + if False:
            """,
        ),
        (_test("test_damage.test_gives_up_a_search_that_was_made_to_last"),),
    ),
    Safeguard(
        "no array is longer than was seen",
        "G3",
        (
            """
            - packed, use_list=…
            + packed, use_list=use_list, max_bin_len=max_bin_len, max_ext_len=_NONE_AT_ALL
            """,
        ),
        (_test("test_damage.test_makes_no_room_for_what_nested_arrays_claim", b"\xdc\x20\x00"),),
    ),
    Safeguard(
        "the shapes of operations",
        "G3",
        (
            """
            - if not shape(operation):
            + if False:
            """,
        ),
        (_hostile(1, 0, "", _ROW), _hostile(7, 0, 2**60, True)),
    ),
    Safeguard(
        "the kinds of operations",
        "G3",
        (
            """
            - raise ValueError(f"an operation of kind {operation[0]}, which is unknown {where} the base")
            + continue
            """,
        ),
        (_hostile(11, 0), _hostile(8, 0, ["k"], [_ROW])),
    ),
    Safeguard(
        "the heads of rows",
        "G3",
        (
            """
            - unpack_head = …unpack_from
            + return True
            """,
        ),
        (_hostile(1, 0, "k", _ROW[:29] + b"\xd3\x40" + bytes(7) + _ROW[37:]),),
    ),
    Safeguard(
        "the content of items",
        "G3",
        (
            """
            - if type(…) is not str or type(…) is not dict:
            + if False:
            """,
        ),
        (_test("test_damage.test_shows_no_content_that_is_none", b"\xa6system\x90"),),
    ),
    Safeguard(
        "no extension types, and no bytes, in data",
        "G3",
        (
            """
            - packed, use_list=…
            + packed, use_list=use_list, max_array_len=_LONG_ARRAY
            """,
        ),
        (_test("test_damage.test_shows_no_content_that_is_none", b"\xa6system\x81\xa1n\xd4\x05a"),),
    ),
    Safeguard(
        "no data is nested deeper than it may be",
        "G3",
        (
            """
            - if _is_too_deep(data, len(row)):
            + if False:
            """,
        ),
        (_test("test_damage.test_shows_no_content_that_is_none", b"\xa6system\x81\xa1n" + b"\x91" * 128 + b"\xc0"),),
    ),
    Safeguard(
        "the numbers of events leave no gap",
        "G3, P3",
        (
            """
            - if number != state.counter:
            + if False:
            """,
        ),
        (_hostile(1, 0, "k", _ROW[:2] + (1).to_bytes(8, "big") + _ROW[10:]),),
    ),
    Safeguard(
        "what is added was absent, what is updated there",
        "G3",
        (
            """
            - if (operation[2] in state.rows) is (kind == ADD):
            + if False:
            """,
        ),
        (_hostile(2, 0, "k", _ROW),),
    ),
    # ------------------------------------------------------------ creation and compaction
    Safeguard(
        "the sync of the directory at creation",
        "R6",
        (
            """
              self.placed = True
            - self._disk.sync_directory(self._path)
            + if self._mode is not None:
            +     self._disk.sync_directory(self._path)
            """,
        ),
        (_crashes("tiny", "power"),),
    ),
    Safeguard(
        "the sync of the directory after the rename of a compaction",
        "M1",
        (
            """
              self.placed = True
            - self._disk.sync_directory(self._path)
            + if self._mode is None:
            +     self._disk.sync_directory(self._path)
            """,
        ),
        (_crashes("compaction by hand", "power"),),
    ),
    Safeguard(
        "the fsync before the rename",
        "M1, R6",
        (
            """
            - self._disk.sync(self.descriptor)
              self.placed = None
            """,
        ),
        (_crashes("tiny", "process"), _crashes("compaction by hand", "none")),
    ),
    Safeguard(
        "the counter in the base",
        "M2, P3",
        (
            """
            - state.counter,
            - state.counter,
            + len(state.rows),
            + len(state.rows),
            """,
        ),
        (_crashes("compaction by hand", "process"),),
    ),
    Safeguard(
        "what is written while a compaction runs is noted",
        "M3",
        (
            """
            - ….note(operations)
            + pass
            """,
        ),
        (_crashes("compaction by itself", "process"),),
    ),
    Safeguard(
        "the new file has the old one's mode",
        "M1",
        (
            """
            - self._disk.set_mode(self.descriptor, self._mode)…
            + pass
            """,
        ),
        (_test("test_compaction.test_keep_the_files_mode"),),
    ),
    Safeguard(
        "a compaction that fails takes its file away",
        "F4",
        (
            """
            - self._disk.remove(self._temporary)
            + pass
            """,
        ),
        (
            _test("test_faults.test_keeps_the_old_log_when_compaction_fails", "write"),
            _failures("compaction by itself", "process"),
        ),
    ),
    Safeguard(
        "a new file that cannot be prepared is let go",
        "F4",
        (
            """
              if self.descriptor >= 0 or not isinstance(error, OSError):
            -     self.__exit__()
            +     pass
            """,
        ),
        (_test("test_faults.test_keeps_the_old_log_when_compaction_fails", "set_mode"),),
    ),
    Safeguard(
        "a compaction that fails does not fail the write",
        "F4",
        (
            """
              except OSError as error:
            +     raise
                  from logging import getLogger
            """,
        ),
        (_failures("compaction by itself", "process"),),
    ),
    Safeguard(
        "a failure after the rename is final",
        "F4, F2",
        (
            """
            - if new.file.placed is False:
            + if True:
            """,
        ),
        (_test("test_faults.test_fails_when_the_name_of_the_compacted_log_cannot_be_synced"),),
    ),
    Safeguard(
        "a leftover of a process that died is removed",
        "R1, R8",
        (
            """
            - disk.remove(temporary)
            + pass
            """,
        ),
        (_crashes("tiny", "process"),),
    ),
    # ------------------------------------------------------------ writing
    Safeguard(
        'the fsync at "power"',
        "P1",
        (
            """
            - log.sync(position)
            + pass
            """,
        ),
        (_crashes("tiny", "power"),),
    ),
    Safeguard(
        "the real disk syncs a file",
        "P1, P2",
        (
            """
            - _sync_data(descriptor)
            + pass
            """,
        ),
        (_test("test_disk.test_sync_files_and_directories_for_good"),),
    ),
    Safeguard(
        "the real disk syncs a directory",
        "M1, R6",
        (
            """
            - os.fsync(descriptor)
            + pass
            """,
        ),
        (_test("test_disk.test_sync_files_and_directories_for_good"),),
    ),
    Safeguard(
        "a sync covers what came before it only",
        "P2",
        (
            """
            - reached, end = self.position, …
              self._sync_file()
            + reached, end = self.position, …
            """,
        ),
        (_test("test_group_commit.test_cover_with_a_sync_what_came_before_it_only"),),
    ),
    Safeguard(
        "who waited for somebody else's sync sees whether it was for him, too",
        "P1 P4",
        (
            """
              self._wait(position)
            - if self.synced_position >= position and self.failed is None:
            -     return
            + return
            """,
        ),
        (_test("test_group_commit.test_share_one_sync_among_all_that_wait"),),
    ),
    Safeguard(
        "events are told of what is on the medium",
        "P1",
        (
            """
            - if self._durability == "power":
            + if changes:
            +     self._teller.tell(position)
            + if self._durability == "power":
            """,
        ),
        (_test("test_group_commit.test_tell_callbacks_only_of_what_is_on_the_medium"),),
    ),
    Safeguard(
        "a batch is one record",
        "P3",
        (
            """
            - place = log.append(operations)
            + for operation in operations:
            +     place = log.append([operation])
            """,
        ),
        (_crashes("batches", "process"),),
    ),
    Safeguard(
        "the log before memory",
        "F1",
        (
            """
            - place = log.append(operations)
              changes: …
            - …engine.apply(operations, place, changes)
            + self._engine.apply(operations, log.size, changes)
            + log.append(operations)
            """,
        ),
        (
            _test("test_faults.test_undoes_a_write_that_the_disk_refuses", errno.ENOSPC, 0.4),
            _failures("tiny", "process"),
        ),
    ),
    Safeguard(
        "the cut after a failed write",
        "F1",
        (
            """
              except OSError:
            -     self.…cut()
                  raise
              except BaseException:
            """,
        ),
        (
            _test("test_faults.test_undoes_a_write_that_the_disk_refuses", errno.ENOSPC, 0.4),
            _failures("tiny", "process"),
        ),
    ),
    Safeguard(
        "the cut before the next write of what was interrupted",
        "F3",
        (
            """
              if self._ragged:
            -     self.…cut()
                  self._seal()
            """,
        ),
        (_test("test_faults.test_stays_in_step_at_each_line_of_a_write", "process", True, False),),
    ),
    Safeguard(
        "the mark where a write was cut",
        "P3, F1",
        (
            """
            - self._seal()
            + self._ragged = False
            """,
        ),
        (
            _test("test_faults.test_lets_no_refused_write_come_up_again", "none", "refused", False),
            _test("test_faults.test_lets_no_refused_write_come_up_again", "process", "killed", True),
        ),
    ),
    Safeguard(
        "the mark where a process before may have cut, or lost, a write",
        "P3, R4",
        (
            """
            - self._ragged = not self._is_marked
            """,
        ),
        (_test("test_faults.test_lets_no_refused_write_come_up_again", "process", "killed", False),),
    ),
    Safeguard(
        "the sync of the mark where a write was cut",
        "P3, F2",
        (
            """
            - self._sync_file()
              # In one step, for one that is interrupted: the file and the number belong together.
            """,
        ),
        (_test("test_faults.test_fails_where_the_mark_of_a_cut_cannot_be_synced"),),
    ),
    Safeguard(
        "the cut before the mark of a clean end of what was interrupted",
        "F3, R5",
        (
            """
              self.check_usable()
            - self._mend_end()
              if self._is_read_only:
            """,
        ),
        (
            _test("test_faults.test_stays_in_step_at_each_line_of_a_write", "process", False, False),
            _test("test_faults.test_lets_no_refused_write_come_up_again", "none", "refused, and closed", False),
        ),
    ),
    Safeguard(
        "the sync after a cut",
        "F1",
        (
            """
            - self._sync_file()
              self._ahead.allocated_to = 0
            """,
        ),
        (_failures("tiny", "process"),),
    ),
    Safeguard(
        "refusal after a failed fsync",
        "F2",
        (
            """
            - self.failed = error
            """,
            """
            - if under_way is not None and not under_way.locked() and …
            + if False:
            """,
        ),
        (
            _test("test_faults.test_refuses_writes_once_the_outcome_is_unknown", "sync", "power"),
            _failures("tiny", "power"),
        ),
    ),
    Safeguard(
        "doubt from before an fsync until it has succeeded",
        "F2, F3",
        (
            """
            - if under_way is not None and not under_way.locked() and …
            + if False:
            """,
        ),
        (_hidden("long set"), _hidden("first after a clean end")),
    ),
    Safeguard(
        "doubt while the log changes files",
        "F2, F3",
        (
            """
            - self.failed = InterruptedError("the change…
            """,
        ),
        (_test("test_log.test_know_of_a_failure_that_was_never_noted", "sync_directory"),),
    ),
    Safeguard(
        "a compaction whose step was interrupted is not gone on with",
        "F3",
        (
            """
            - compaction, self.running = self.running, None
            + compaction = self.running
              assert compaction is not None
            """,
        ),
        (_test("test_compaction.test_go_on_with_no_compaction_that_lacks_a_part"),),
    ),
    Safeguard(
        "a failed fsync is not retried",
        "F2",
        (
            """
                  self._disk.sync(self.…descriptor)
              except OSError as error:
            -     raise self.fail(error) from error
            +     self._under_way = None
            +     raise
              except BaseException:
            """,
        ),
        (_failures("tiny", "power"),),
    ),
    Safeguard(
        "a write interrupted between log and memory fails the store",
        "F3",
        (
            """
            - if not self._unsettled:
            + if True:
            """,
        ),
        (_lines("set"),),
    ),
    Safeguard(
        "a handler that interrupted the store is refused",
        "F3",
        (
            """
            - if self._lock._is_owned() or self._log.sync_lock._is_owned():…
            + if False:
            """,
        ),
        (
            _test("test_signals.test_refuse_a_handler_that_interrupted_the_store", "set", "write", "before"),
            _test("test_signals.test_refuse_a_handler_that_interrupted_the_store", "close", "write", "before"),
        ),
    ),
    # ------------------------------------------------------------ maps
    Safeguard(
        "the map is let go before the file is cut",
        "F1",
        (
            """
            - self._ahead.unmap()
              try:
                  self._disk.truncate(…)
              except OSError as error:
            """,
        ),
        (_test("test_faults.test_stays_in_step_at_each_line_of_a_write", "process", True, True),),
    ),
    Safeguard(
        "the map is let go before what was allocated is taken away",
        "F1",
        (
            """
              self.allocate_from = sys.maxsize
            - self.unmap()
            """,
        ),
        (_crashes("tiny", "none"),),
    ),
    Safeguard(
        "the map of the old file is let go with it",
        "M1",
        (
            """
            - self._ahead.unmap()
              self.release_all()
              self._replaced.size = …
            """,
        ),
        (_crashes("compaction by hand", "none"),),
    ),
    Safeguard(
        "a map is let go with the file",
        "F5, R8",
        (
            """
            - self._ahead.unmap()
              self.release_all()
              descriptor, self.descriptor = …
            """,
        ),
        (_test("test_mapped.test_let_the_map_go_with_a_log_that_failed"),),
    ),
    Safeguard(
        "only what is allocated is mapped",
        "F1",
        (
            """
            - self._disk.allocate(descriptor, size, stop)
            """,
        ),
        (_crashes("tiny", "none"),),
    ),
    Safeguard(
        "an allocation that fails does not fail the write",
        "F1",
        (
            """
                  self.window = self._disk.map(…)
            - except OSError:
            + except NotImplementedError:
            """,
        ),
        (_failures("tiny", "none"),),
    ),
    Safeguard(
        "an allocation that failed is not tried at each write",
        "F1",
        (
            """
            - self.allocate_from = end + ahead
            """,
        ),
        (_test("test_mapped.test_write_plainly_what_cannot_be_mapped", "allocate", errno.ENOSPC),),
    ),
    Safeguard(
        "no map where a page that is allocated may still want space",
        "F1",
        (
            """
            - return kind in _ALLOCATING and b"dax" not in options
            + return True
            """,
        ),
        (
            _test("test_mapped.test_map_only_where_space_is_promised", "xfs", "rw", False),
            _test("test_mapped.test_map_only_where_space_is_promised", "ext4", "rw,dax=always", False),
        ),
    ),
    Safeguard(
        "what was allocated ahead is taken away before the mark of a clean end",
        "R5",
        (
            """
            - self._ahead.trim(…)
              if sync:
                  self.sync()
            """,
        ),
        (_crashes("tiny", "none"),),
    ),
    Safeguard(
        "a mark with zeros behind it is none",
        "R5",
        (
            """
            - return self.closed and self.end == self.size
            + return self.closed and self.reason is None
            """,
        ),
        (_test("test_mapped.test_take_a_mark_in_front_of_zeros_for_none"),),
    ),
    Safeguard(
        "zeros are what was allocated ahead only where that ends",
        "R2, G2",
        (
            """
            - if end % ALLOCATED_BYTES:
            + if False:
            """,
        ),
        (_test("test_mapped.test_count_zeros_that_nobody_allocated"),),
    ),
    Safeguard(
        "a reader looks again at what was no record",
        "R7",
        (
            """
            - if looked_at == self.end:
            + if True:
            """,
        ),
        (_test("test_mapped.test_read_what_a_writer_appends_meanwhile"),),
    ),
    Safeguard(
        "a record where there was none tells of a writer",
        "R7",
        (
            """
              except ValueError:
                  return False
            - return True
            + return False
            """,
        ),
        (_test("test_mapped.test_read_beside_a_writer_whose_file_keeps_its_size"),),
    ),
    # ------------------------------------------------------------ closing and opening
    Safeguard(
        "the sync before the mark of a clean end",
        "P2, R3",
        (
            """
            - if sync:
            -     self.sync()
              self._append(CLOSE)
            """,
        ),
        (_damages(_BITS, "compacted", "process", True),),
    ),
    Safeguard(
        "the sync behind the mark of a clean end",
        "P2, R5",
        (
            """
              self._append(CLOSE)
            - if sync:
            -     self.sync()
            """,
        ),
        (_crashes("tiny", "process"),),
    ),
    Safeguard(
        "the mark of a clean end is taken off before the first write",
        "R5",
        (
            """
            - if self._is_marked:
            -     self._unmark()
            + self._is_marked = False
            """,
        ),
        (_test("test_crash.test_tells_of_an_unclean_end_of_which_nothing_is_left"), _crashes("sessions", "process")),
    ),
    Safeguard(
        "a close that fails lets go",
        "F5",
        (
            """
                  self._log.close(sync=sync)
            - finally:
            + except NotImplementedError:
            +     pass
            + else:
            """,
        ),
        (_failures("tiny", "process"),),
    ),
    Safeguard(
        "an opening that fails gives the lock back",
        "R8",
        (
            """
            - lock.withdraw()
            """,
        ),
        (_test("test_faults.test_leaves_nothing_behind_when_opening_fails", "process", "torn"),),
    ),
    Safeguard(
        "a torn tail is cut before anything is written",
        "R4",
        (
            """
            - if scan.size > scan.end:
            -     ….…cut()
            """,
        ),
        (_test("test_crash.test_cuts_a_torn_tail_at_once_and_tells_of_it_once"),),
    ),
    Safeguard(
        "the bytes of a torn tail are kept",
        "R2",
        (
            """
            - kept_in = …
            + kept_in = None
            """,
        ),
        (_crashes("tiny", "process"),),
    ),
    Safeguard(
        'a new file at "power" after an unclean end',
        "R4",
        (
            """
            - if rewrite:
            + if False:
            """,
        ),
        (_test("test_faults.test_rewrites_the_log_at_power_after_a_failed_fsync"),),
    ),
    Safeguard(
        "a new file when whole records lie behind the tear",
        "P3, R4",
        (
            """
            - self._behind_tear = after
            """,
        ),
        (_test("test_crash.test_lets_no_dropped_record_come_up_again_behind_a_mark", "process"),),
    ),
    Safeguard(
        "what an opening shows is synced",
        "R4",
        (
            """
            - self._disk.sync(self.…descriptor)
              self._disk.sync_directory(self.path)
            """,
        ),
        (
            _test("test_crash.test_holds_its_promises_through_whole_lives"),
            _test("test_crash.test_keeps_what_an_open_has_shown_of_a_store_closed_without_sync"),
        ),
    ),
    Safeguard(
        "the name of what an opening shows is synced",
        "R4, P2",
        (
            """
              self._disk.sync(self.…descriptor)
            - self._disk.sync_directory(self.path)
            """,
        ),
        (_test("test_crash.test_syncs_the_name_of_a_log_that_was_left_without"),),
    ),
    Safeguard(
        "what was closed without a sync is synced when it is shown",
        "R4",
        (
            """
            - elif scan.synced_to < scan.place:
            + elif False:
            """,
        ),
        (_test("test_crash.test_keeps_what_an_open_has_shown_of_a_store_closed_without_sync"),),
    ),
    Safeguard(
        "a mark of a clean end that was found is synced at the next one",
        "R5",
        (
            """
              elif sync:
                  # The mark is there; whether who wrote it lived to sync it, nobody knows.
            -     self._sync_file()
            +     pass
            """,
        ),
        (_test("test_crash.test_keeps_the_mark_of_a_clean_end_that_another_process_did_not_live_to_sync"),),
    ),
    # ------------------------------------------------------------ processes
    Safeguard(
        "the lock against a second writer",
        "L1",
        (
            """
            - self._lock.acquire()
            + pass
            """,
        ),
        (_test("test_store.test_open_a_second_writer"),),
    ),
    Safeguard(
        "refusal in the child of a fork",
        "L2",
        (
            """
            - store._refuse(StoreForked, …
            """,
        ),
        (_test("test_processes.test_end_a_batch_of_the_parent_in_the_child"),),
    ),
    Safeguard(
        "the child of a fork lets the file go",
        "L2",
        (
            """
            - store._log.abandon()
            + pass
            """,
        ),
        (_test("test_processes.test_keep_no_descriptor_in_the_child"),),
    ),
]


# ---------------------------------------------------------------- the table


def table(found: Iterable[tuple[Safeguard, Sequence[Caught]]]) -> Iterator[str]:
    """Markdown."""
    yield "| without | clauses | is caught by | which says |"
    yield "|---|---|---|---|"
    for safeguard, caught in found:
        for place, each in enumerate(caught):
            start = "| |" if place else f"| {safeguard.name} | {safeguard.clauses}"
            check = str(each.check).replace("|", "\\|")
            yield f"{start} | {check} | {_shortened(each.said)} |"


def _shortened(said: str | None) -> str:
    if said is None:
        return "**nothing**"
    said = re.sub(r"[\s\0-\x1f]+", " ", said)
    said = re.sub(r"(/[\w.-]+)+/", "…/", said).replace("|", "\\|")
    return said if len(said) <= 90 else said[:89] + "…"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.crash.safeguards",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help="only safeguards with one of these in their names")
    parser.add_argument("--page", type=Path, help="write the table into this page as well")
    parser.add_argument("--seconds", action="store_true", help="tell how long each check took")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    found = []
    gaps = 0
    for safeguard in SAFEGUARDS:
        if options.words and not any(word in safeguard.name for word in options.words):
            continue
        try:
            caught = look(safeguard)
        except LookupError as error:
            print(f"{safeguard.name}: {error}")
            gaps += 1
            continue
        found.append((safeguard, caught))
        gaps += not all(each.is_real for each in caught)
        if options.seconds:
            for each in caught:
                print(f"{each.seconds:6.2f} s {safeguard.name}: {each.check}: {each.said}", flush=True)
    lines = list(table(found))
    print("\n".join(lines))
    if options.page is not None:
        put_into_page(options.page, "safeguards", lines)
    print(f"\n{len(found)} safeguards, {gaps} gaps")
    return 1 if gaps else 0


if __name__ == "__main__":
    sys.exit(main())
