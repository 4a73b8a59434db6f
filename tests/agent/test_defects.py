"""Each defect of Lotus' dagstore and of its wrapper, by its number, and the tests that show that it is not here."""

from __future__ import annotations

import importlib

import pytest

SHOWN_ABSENT = {
    "D-1": ("lifecycle:test_d1_recovering_goes_on_after_a_restart",
            "dagstore:test_d1_what_was_recovering_recovers_after_a_restart",
            "recovering:test_d1_a_shard_that_recovers_after_a_restart_can_be_recovered_by_name_too"),
    "D-2": ("lifecycle:test_d2_a_release_never_makes_an_errored_shard_available",),
    "D-3": ("lifecycle:test_d3_destroying_what_is_in_use_is_refused",
            "dagstore:test_d3_destroying_what_is_leased_is_refused_and_keeps_its_record"),
    "D-4": ("lifecycle:test_d4_destroying_what_is_being_indexed_cancels_that_and_answers_all_who_wait",
            "lifecycle:test_d4_what_a_late_worker_says_of_a_destroyed_shard_is_ignored",
            "dagstore:test_d4_destroying_while_indexing_cancels_the_work_and_nothing_comes_back"),
    "D-5": ("dagstore:test_d5_acquires_that_are_cancelled_at_any_moment_leave_nothing_open",),
    "D-6": ("dagstore:test_d6_looking_at_all_shards_while_they_are_destroyed_hangs_nobody",),
    "D-7": ("events:test_d7_a_subscriber_that_falls_behind_is_cut_and_the_others_go_on",
            "service:test_d7_a_reader_that_does_not_read_is_cut_and_delays_nobody",
            "traces:test_d7_a_reader_that_does_not_keep_up_loses_the_oldest_and_holds_up_nobody",
            "traces:test_d7_traces_that_nobody_reads_keep_no_shard_waiting",
            "initialising:test_d7_a_stream_that_nobody_reads_holds_up_nothing_else"),
    "D-8": ("lifecycle:test_d8_releasing_more_than_was_taken_is_the_callers_mistake_and_changes_nothing",
            "leases:test_d8_a_session_holds_a_shard_or_does_not"),
    "D-9": ("dagstore:test_d9_stopping_ends_the_index_of_a_lazy_shard_too",),
    "D-10": ("dagstore:test_d10_of_shards_that_have_nothing_to_remove_nothing_is_said",),
    "D-11": ("crash:test_d11_no_acknowledged_shard_is_lost_and_each_becomes_available_however_often_it_is_killed",
             "dagstore:test_d11_an_outcome_that_does_not_fit_on_the_disk_is_an_error_that_can_be_recovered",
             "dagstore:test_d11_listing_a_thousand_shards_leaves_others_their_turn"),
    "D-12": ("dagstore:test_d12_a_missing_file_is_gone_and_a_damaged_one_corrupt",),
    "D-13": ("recovering:test_d13_acquiring_tries_again_each_time_the_delay_is_over_and_not_once_only",),
    "D-14": ("lifecycle:test_d14_the_first_index_of_a_lazy_shard_is_called_off_when_all_who_wanted_it_have_gone",
             "recovering:test_d14_an_index_that_nobody_waits_for_any_more_is_not_begun",
             "application:test_d14_a_call_whose_client_is_gone_holds_nothing_when_its_index_is_done"),
    "X-1": ("dagstore:test_x1_a_cancelled_acquire_gives_back_what_it_took",),
    "X-2": ("knobs:test_x2_what_is_sealed_has_a_limit_of_its_own_and_keeps_nobody_else_waiting",),
    "X-3": ("knobs:test_x3_as_many_looks_are_under_way_as_allowed_and_zero_is_no_limit",),
    "X-4": ("dagstore:test_x4_what_could_not_be_registered_is_said_and_can_be_registered_again",),
    "X-5": ("knobs:test_x5_room_is_made_as_often_as_told_and_what_comes_of_it_is_said",),
    "X-7": ("recovering:test_what_is_quarantined_is_recovered_by_name_only",  # acquire, recover, destroy
            "service:test_whoever_waits_when_it_stops_is_told"),  # closing reaches all
}  # fmt: skip
OF_DEALS = {"X-6"}
"""A shard outlives the deal that brought it: nothing that a store without deals can do, or undo."""


def test_every_number_has_a_test() -> None:
    numbers = {f"D-{number}" for number in range(1, 15)} | {f"X-{number}" for number in range(1, 8)}
    assert {*SHOWN_ABSENT, *OF_DEALS} == numbers


@pytest.mark.parametrize("defect", SHOWN_ABSENT)
def test_the_tests_are_there(defect: str) -> None:
    for test in SHOWN_ABSENT[defect]:
        module, _, name = test.partition(":")
        assert callable(getattr(importlib.import_module(f"tests.agent.test_{module}"), name))
