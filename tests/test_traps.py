"""The traps of building Durable Objects on Ray, and what keeps us out of each.

Owns one table: every known trap names the tests that prove it harmless, or says in a
sentence why it cannot happen here. A name that leads to no test fails.
"""

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

TESTS = Path(__file__).parent


class Trap(NamedTuple):
    """`proofs` are `path::test` below this folder; `because` is the sentence."""

    what: str
    proofs: tuple[str, ...] = ()
    because: str = ""


def trap(what: str, *proofs: str, because: str = "") -> Trap:
    return Trap(what, proofs, because)


TRAPS = {
    1: trap(
        "Two live instances of a name: raylet frozen or not reaped, a kill that frees "
        "the name first, an actor that is slow to leave.",
        "system/cluster/test_nodes.py::test_a_room_that_outlives_its_node_cannot_write",
        "system/cluster/test_nodes.py::test_a_node_that_was_frozen_wakes_up_to_nothing",
        "system/cluster/test_fencing.py::test_a_room_that_continues_after_it_was_taken_over",
        "system/cluster/test_fencing.py::test_a_frozen_room_is_replaced_and_shows_nothing",
        "system/cluster/test_pools.py::test_a_pool_that_continues_after_it_was_taken_over",
        "system/cluster/test_pools.py::test_a_frozen_pool_is_replaced_and_shows_nothing",
        "actors/test_pool.py::test_the_second_of_a_name_supersedes_the_first",
        "gateway/live/test_stub.py::test_an_older_incarnation_has_nothing_to_say",
    ),
    2: trap(
        "The epoch is taken after loading, so a zombie's last write is missed.",
        "actors/test_loading.py::test_the_epoch_comes_before_anything_is_read",
        "actors/test_loading.py::test_who_comes_second_loads_nothing",
    ),
    3: trap(
        "Check and then write, in two commands, fences nobody.",
        "cfmessenger/storage/test_log.py::test_a_superseded_epoch_appends_nothing",
        "cfmessenger/storage/test_log.py"
        "::test_whoever_reads_the_same_epoch_and_comes_second_is_fenced",
        "actors/test_activation.py::test_of_two_activations_one_survives",
        "actors/test_activation.py::test_a_losers_mirror_is_refused",
    ),
    4: trap(
        "A promoted replica has lost epochs and acknowledged messages.",
        because="Nothing here promotes a replica: there is one Valkey, and a replica "
        "serves only the periodic look at the sessions of open sockets. Whoever "
        "promotes one by hand gets what it held.",
    ),
    5: trap(
        "An answer of Valkey means memory, not disk, unless it is told otherwise.",
        "cfmessenger/cli/test_embedded_valkey.py"
        "::test_what_was_answered_survives_a_kill",
        "cfmessenger/cli/test_embedded_valkey.py::test_fsync_is_what_the_setting_says",
        "gateway/live/test_sockets.py::test_an_echo_is_in_the_log_before_it_is_seen",
        "system/cluster/test_faults.py::test_valkey_is_killed_and_started_again",
        "system/cluster/test_faults.py::test_the_disk_is_full",
    ),
    6: trap(
        "A pipeline without an answer may have been executed: sent again, it doubles.",
        "cfmessenger/storage/test_log.py"
        "::test_a_cut_leaves_the_outcome_unknown_until_the_next_epoch",
        "cfmessenger/storage/test_log.py::test_what_lands_late_lands_below_the_fence",
        "actors/test_activation.py"
        "::test_an_unknown_outcome_resets_and_each_message_appears_once",
        "system/cluster/test_faults.py::test_valkey_is_frozen_for_seven_seconds",
    ),
    7: trap(
        "Calls of an async actor are reordered, and 1,000 that wait are a deadlock.",
        "test_layers.py::test_every_import_is_one_that_its_place_may_make",
        "actors/test_gates.py"
        "::test_steps_come_out_once_in_order_and_after_their_appends",
        because="Ray never carries a message: only the namespace server calls actors, "
        "with control calls that return at once. Messages have links of their own, and "
        "an object reaches another only by a notification that nobody awaits.",
    ),
    8: trap(
        "What blocks the loop also stops the lease, and the rooms beside it.",
        "system/cluster/test_fencing.py::test_a_room_whose_loop_is_blocked_is_replaced",
        "actors/test_host.py::test_a_host_that_cannot_look_shows_nothing_until_it_can",
        "actors/test_host.py::test_a_superseded_object_finds_out_by_itself",
    ),
    9: trap(
        "Ray's lookups block for a minute while its control store is away.",
        "test_layers.py::test_every_import_is_one_that_its_place_may_make",
        "gateway/live/test_sockets.py::test_a_room_that_cannot_be_reached_is_a_503",
        "system/cluster/test_up.py::test_whatever_dies_is_there_again",
        because="Gateways do not import ray; they ask another process and do not wait "
        "for ever.",
    ),
    10: trap(
        "An exception in an actor's constructor is its end; arguments are replayed.",
        "actors/test_host.py"
        "::test_dedicated_a_start_that_fails_leaves_it_for_the_next_try",
        "actors/test_activation.py::test_a_valkey_that_stays_away_ends_the_activation",
        because="The constructor decodes settings and touches nothing; without "
        "restarts no argument is used twice, and the epoch is none of them.",
    ),
    11: trap(
        "A call that Ray retries is executed twice.",
        "system/cluster/test_faults.py::test_a_room_is_killed_at_random",
        because="Actors are made with max_task_retries=0 and max_restarts=0, and no "
        "call changes a room.",
    ),
    12: trap(
        "Warm workers belong to one driver and one environment, and are not refilled.",
        "system/cluster/test_warm_pool.py"
        "::test_a_room_takes_a_warm_worker_and_another_takes_its_place",
        "system/cluster/test_warm_pool.py::test_more_rooms_than_workers_start_all_the_same",
        because="One driver makes every actor of a node, without a runtime "
        "environment; a pool that is empty or not refilled costs the time of a cold "
        "start and nothing else.",
    ),
    13: trap(
        "Actors run at nice 15 and on any node.",
        "system/cluster/test_up.py::test_one_life",
        "system/cluster/test_nodes.py::test_a_room_is_one_actor_whichever_gateway_asks",
        "system/cluster/test_location.py::test_a_hint_is_followed_where_it_can_be",
        because="Without a hint any node will do for a room.",
    ),
    14: trap(
        "Authentication depends on the environment it is started in.",
        "system/cluster/test_nodes.py::test_nobody_drives_ray_without_the_token",
        "system/cluster/test_up.py::test_one_life",
    ),
    15: trap(
        "Ghosts: half-open sockets, and those of a gateway that crashed.",
        "gateway/live/test_connection.py::test_a_client_that_answers_pings_is_alive",
        "system/cluster/test_gateways.py::test_the_sockets_of_a_dead_gateway_leave",
        "system/cluster/test_gateways.py::test_the_only_gateway_dies_and_is_started_again",
        "system/cluster/test_gateways.py::test_a_sleeping_room_drops_a_dead_gateway_at_its_wake",
        "system/cluster/test_gateways.py::test_a_frozen_gateway_comes_back_under_a_new_name",
    ),
    16: trap(
        "Many first joins at once, and a join that meets the decision to sleep.",
        "system/contract/test_namespace.py::test_twenty_at_once_are_one_flight",
        "system/cluster/test_nodes.py::test_a_room_is_one_actor_whichever_gateway_asks",
        "system/cluster/test_hibernation.py::test_a_message_that_meets_a_room_falling_asleep",
        "actors/test_activation.py"
        "::test_whoever_attaches_while_it_falls_asleep_is_told",
    ),
    17: trap(
        "A call lands on an actor that is leaving.",
        "system/cluster/test_hibernation.py::test_a_message_that_meets_a_process_that_ends",
        "actors/test_host.py::test_what_comes_while_it_leaves_is_not_taken",
        "actors/test_host.py::test_who_has_not_read_the_end_may_still_speak",
    ),
    18: trap(
        "An alarm fires twice, or is lost over a restart.",
        "actors/test_activation.py::test_the_alarm_rings_by_itself",
        because="Alarms are a timer of the activation over what its machine remembers; "
        "there is no table of alarms that two could claim, and none outlives a room "
        "that may sleep.",
    ),
    19: trap(
        "One registry of presence is asked by everybody.",
        "cfmessenger/chat/test_presence.py"
        "::test_a_join_storm_costs_each_socket_a_frame_a_tick",
        "gateway/live/test_wire_presence.py::test_a_burst_of_changes_is_one_partial_sync",
        "system/cluster/test_faults.py::test_presence_is_killed",
    ),
    20: trap(
        "A node that is cut off keeps its rooms for minutes.",
        "system/cluster/test_nodes.py::test_a_node_that_was_frozen_wakes_up_to_nothing",
        "system/cluster/test_fencing.py::test_an_idle_room_that_was_superseded_goes",
        "system/cluster/test_faults.py::test_a_room_that_is_cut_off_from_valkey",
    ),
    21: trap(
        "Nobody reaps a raylet, so its workers never learn that it died.",
        "system/cluster/test_nodes.py::test_a_room_that_outlives_its_node_cannot_write",
    ),
    22: trap(
        "Order that follows clocks goes wrong with them.",
        "cfmessenger/storage/test_log.py::test_ids_are_epoch_and_seq",
        "cfmessenger/storage/test_log.py"
        "::test_readers_see_one_sequence_whatever_the_epochs",
        "cfmessenger/test_clock.py::test_a_clock_that_is_set_back_moves_nothing_back",
    ),
}


@cache
def defined_in(path: Path) -> frozenset[str]:
    found = re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text(), re.MULTILINE)
    return frozenset(found)


def test_there_are_twenty_two() -> None:
    assert list(TRAPS) == list(range(1, 23))


@pytest.mark.parametrize("number", TRAPS)
def test_what_keeps_us_out_of_it_exists(number: int) -> None:
    known = TRAPS[number]
    assert known.proofs or known.because
    for proof in known.proofs:
        path, _, name = proof.partition("::")
        assert (TESTS / path).is_file(), proof
        assert name.startswith("test_") and name in defined_in(TESTS / path), proof


def test_a_name_that_leads_nowhere_is_noticed() -> None:
    assert "test_there_are_twenty_two" in defined_in(Path(__file__))
    assert "test_that_nobody_wrote" not in defined_in(Path(__file__))
