"""The labels of the security requirements, and the tests that prove each.

A label is a demand on the session (S), the challenge (T), access (A), limits (L), the
web (W), logs (G), Valkey (V), Ray (R), secrets (K), the supply chain (C), the economics
of refusing (E), the server below the application (D6) or bad input (H, J, F, P). It
names its proofs, or says in a sentence why there are none to name;
`tests/system/security/test_labels.py` fails on a name that leads nowhere.
"""

from __future__ import annotations

from typing import NamedTuple


class Label(NamedTuple):
    """`proofs` are `path::test` below tests/; `because` is why there are no more."""

    what: str
    proofs: tuple[str, ...] = ()
    because: str = ""


def _in(path: str, *tests: str) -> tuple[str, ...]:
    return tuple(f"{path}.py::test_{test}" for test in tests)


_SESSIONS = "cfmessenger/accounts/test_sessions"
_TURNSTILE = "cfmessenger/accounts/test_turnstile"
_LOG = "cfmessenger/test_log_format"
_LOGIN_RATE = "cfmessenger/accounts/test_login_rate"
_SETTINGS = "cfmessenger/test_settings"
_OWN_VALKEY = "cfmessenger/cli/test_embedded_valkey"
_DECODING = "cfmessenger/wire/test_decoding"
_SERVER = "gateway/server/test_configuration"
_MIDDLEWARE = "gateway/test_middleware"
_ADMISSION = "gateway/api/test_admission"
_BAD = "gateway/api/test_bad_input"
_CONNECTION = "gateway/live/test_connection"
_SOCKET = "gateway/server/test_websocket_protocol"
_ENDPOINTS = "gateway/api/test_endpoints"
_LOGINS = "gateway/live/test_logins"
_SOCKETS = "gateway/live/test_sockets"
_ROOMS = "gateway/live/test_wire_rooms"
_DATA = "gateway/api/test_data"
_ACCESS = "system/security/test_access"
_EDGE = "system/security/test_edge"
_EXPOSURE = "system/security/test_exposure"
_LIMITS = "system/security/test_limits"
_REPLICA = "system/security/test_replica"
_STATIC = "system/security/test_static"

LABELS: dict[str, Label] = {
    # The server below the application.
    "D6a": Label(
        "A head, a body or a handshake that never ends is cut off.",
        (
            *_in(
                _SERVER,
                "a_request_that_does_not_come_to_its_end",
                "a_head_that_drips_has_the_same_deadline",
                "a_handshake_that_nobody_answers",
                "an_answer_that_nobody_reads",
                "a_body_that_goes_on_after_its_answer",
            ),
        ),
    ),
    "D6b": Label(
        "An upgrade that the WebSocket library cannot read is answered.",
        _in(_SERVER, "an_upgrade_that_is_refused_instead_of_hanging"),
    ),
    "D6c": Label("A header has an end.", _in(_SERVER, "a_head_that_is_refused")),
    "D6d": Label(
        "Pings without end are abuse, and pongs nobody reads are dropped.",
        (
            *_in(
                _SOCKET,
                "more_than_ten_pings_a_second_are_abuse",
                "pongs_that_nobody_reads_are_dropped",
            ),
            *_in(_CONNECTION, "more_than_ten_pings_a_second_are_abuse"),
        ),
    ),
    "D6e": Label(
        "A body has at most 64 KiB, declared or not.",
        _in(
            _MIDDLEWARE,
            "a_body_of_64_kib_and_one_byte_more",
            "a_body_that_grows_is_cut_off_too",
        ),
    ),
    "D6f": Label(
        "Origin is looked at.",
        _in(_ADMISSION, "origins", "our_own_origin_has_the_default_port_or_none"),
    ),
    "D6g": Label(
        "No log line has a query string.",
        (
            *_in(_SERVER, "nothing_logs_a_url_with_its_query"),
            *_in(_MIDDLEWARE, "one_line_a_request_without_the_query_and_within_a_line"),
        ),
    ),
    # Sessions.
    "S-1": Label(
        "256 random bits, kept as their SHA-256 alone, compared in constant time.",
        (
            *_in(_SESSIONS, "a_token_is_random_and_valkey_never_sees_it"),
            *_in(
                _STATIC,
                "s1_secrets_are_compared_in_constant_time",
                "s1_what_must_not_be_guessed_comes_from_secrets",
            ),
        ),
    ),
    "S-2": Label(
        "An id we never issued is never adopted.",
        (
            *_in(_SESSIONS, "what_we_never_issued_is_no_session"),
            *_in(_ACCESS, "s2_a_session_of_ones_own_choice_is_never_adopted"),
        ),
    ),
    "S-3": Label(
        "20 idle minutes and 12 hours in all, by the record itself.",
        _in(
            _SESSIONS,
            "idle_for_twenty_minutes",
            "twelve_hours_are_the_end_whatever_happens",
            "a_record_that_valkey_kept_too_long_is_dead_all_the_same",
            "valkey_forgets_a_session_when_it_ends",
        ),
    ),
    "S-4": Label(
        "Logout closes its sockets on every gateway, a lost word at the next look; "
        "the look may be at a replica, which ends nobody by lagging.",
        (
            *_in(
                _LOGINS,
                "logout_closes_the_logins_sockets_everywhere",
                "a_lost_word_is_found_at_the_next_look",
            ),
            *_in(
                "gateway/live/test_heartbeat", "logout_is_heard_after_the_channel_broke"
            ),
            *_in(
                _REPLICA,
                "s4_a_replica_in_step_is_asked_instead_of_the_primary",
                "s4_a_replica_that_lags_ends_nobody",
                "s4_a_silent_replica_keeps_no_ended_session_alive",
                "s4_a_replica_that_was_cut_off_is_not_believed",
                "s4_a_replica_that_is_gone_costs_one_warning",
                "s4_without_either_nobody_is_ended",
                "s4_sockets_outlive_a_replica_and_not_a_logout",
            ),
        ),
    ),
    "S-5": Label(
        "Logging out of one session leaves the other alone.",
        (
            *_in(_SESSIONS, "logout_ends_one_login_under_whatever_token_and_says_so"),
            *_in(_LOGINS, "logout_closes_the_logins_sockets_everywhere"),
        ),
    ),
    "S-6": Label(
        "A ticket, bound to the session, once and for 30 s; no token in anything "
        "that is written. (1), the cookie, falls away.",
        (
            *_in(
                _SESSIONS,
                "a_ticket_is_good_once_and_only_before_a_refresh",
                "a_ticket_ends_and_dies_with_its_session",
            ),
            *_in(_LOGINS, "a_ticket_opens_one_socket"),
            *_in(_EXPOSURE, "s6_g2_nothing_that_was_written_holds_a_secret"),
        ),
        "There are no cookies. A ticket is bound to the session and not to a room, "
        "since the session may enter the room in any case.",
    ),
    "S-7": Label(
        "A token counts where the contract says, and two that disagree do not.",
        (
            *_in(_ACCESS, "s7_a_token_in_another_place_is_not_looked_at"),
            *_in(
                _ADMISSION,
                "the_four_ways_to_present_a_session",
                "two_that_disagree_are_refused",
            ),
            *_in(_LOGINS, "subprotocols_and_tokens_that_disagree"),
        ),
    ),
    "S-8": Label(
        "A foreign page opens no socket; who sends no Origin is no page.",
        (
            *_in(_ACCESS, "s8_a_foreign_page_opens_no_socket_whatever_it_holds"),
            *_in(_ADMISSION, "origins", "the_order_of_the_checks"),
        ),
        "The rows about cookies fall away with them.",
    ),
    # The challenge.
    "T-1": Label(
        "siteverify for each login, with an idempotency key and the visitor's address.",
        (
            *_in(_TURNSTILE, "what_is_asked"),
            *_in(_ENDPOINTS, "login_names_the_field_and_never_its_value"),
        ),
    ),
    "T-2": Label(
        "Success is not enough: host name and action must be ours.",
        _in(
            _TURNSTILE,
            "tokens_of_other_sites_do_not_count",
            "a_refused_token_is_the_visitors",
        ),
    ),
    "T-3": Label(
        "Whatever is no verdict is no pass.",
        (
            *_in(
                _TURNSTILE,
                "no_verdict_is_asked_once_more_with_the_same_key_and_never_passes",
                "the_second_attempt_may_pass",
                "nobody_listens",
                "without_valkey_nothing_passes",
                "a_refused_secret_is_ours_and_not_asked_twice",
            ),
            *_in(_ENDPOINTS, "login_when_turnstile_is_away"),
            *_in(_SETTINGS, "beyond_loopback_a_real_turnstile_secret_is_needed"),
        ),
    ),
    "T-4": Label(
        "Cloudflare's test secrets do what is published, and on loopback only.",
        (
            *_in(
                _TURNSTILE,
                "no_secret_and_the_published_ones_are_answered_here",
                "any_other_secret_is_asked_about",
            ),
            *_in(_SETTINGS, "beyond_loopback_a_real_turnstile_secret_is_needed"),
        ),
    ),
    "T-5": Label(
        "One token is one login, over all gateways.",
        _in(_TURNSTILE, "of_many_uses_at_once_one_passes_over_two_gateways"),
        "Not for the published test secrets.",
    ),
    # Access.
    "A-1": Label(
        "Routes x nobody, A, B, a bot, a session that ended.",
        (
            *_in(
                _ACCESS,
                "a1_http",
                "a1_sockets",
                "a1_whatever_is_not_public_asks_who_one_is",
                "a1_whatever_is_a_socket_asks_who_one_is",
                "a1_a_stranger_sees_no_direct_room",
                "a1_nobody_is_a_bot",
                "a1_a_session_of_a_bot_would_be_nobodys",
                "a1_a_receipt_from_outside_the_room_counts_for_nothing",
            ),
            *_in(
                _DATA,
                "nobody_learns_of_anothers_orders",
                "people_are_read_by_all_and_changed_by_themselves",
                "without_a_session_nothing_is_said",
            ),
            *_in(_SOCKETS, "a_room_one_may_not_enter_is_not_made"),
        ),
    ),
    "A-2": Label(
        "What two say to each other reaches nobody else.",
        _in(_ACCESS, "a2_what_two_people_say_reaches_nobody_else"),
    ),
    "A-3": Label(
        "No e-mail address is shown.",
        because="The seeded addresses are invented and public; the original client "
        "shows them.",
    ),
    "A-4": Label(
        "Who lost the right to speak is not heard, on open sockets too.",
        (
            *_in(_ACCESS, "a4_a_session_that_ended_says_nothing_more"),
            *_in(_LOGINS, "a_session_that_nobody_uses_ends"),
        ),
        "Who is in a direct room never changes, and everybody is in the others.",
    ),
    # Limits.
    "L-1": Label(
        "A rate is the user's, whatever the user does.",
        (
            *_in(
                _LIMITS,
                "l1_nothing_makes_it_more",
                "l1_all_at_once",
            ),
            *_in(
                _ROOMS,
                "the_chat_rate_is_per_user_across_tabs_and_gateways",
                "the_nudge_window_slides_across_sockets",
                "rates_survive_sleep_and_crash",
            ),
            *_in(
                _EDGE,
                "l1_the_address_is_the_rightmost_that_no_proxy_of_ours_has",
                "l1_a_proxy_is_an_address_and_never_everybody",
            ),
            *_in(_SERVER, "a_spoofed_address_is_not_believed"),
            *_in(
                "cfmessenger/chat/test_ratelimit",
                "a_clock_set_back_locks_nobody_out_for_longer_than_a_window",
            ),
        ),
        "Counted inside the room's activation and not in Valkey.",
    ),
    "L-2": Label(
        "Five logins in ten seconds from one address, on any gateway.",
        (
            *_in(_LIMITS, "l2_a_forged_address_is_no_other_visitor"),
            *_in(_BAD, "the_sixth_login_is_too_many_on_any_gateway"),
            *_in(
                _LOGIN_RATE,
                "exactly_five_of_a_hundred_at_once_over_two_gateways",
                "who_counts_as_one_client",
            ),
        ),
        "Not per target user as well: anybody could keep a user out by it.",
    ),
    "L-3": Label(
        "Sockets per session and address, connections per address and in all.",
        (
            *_in(_SOCKETS, "there_is_room_for_so_many_sockets"),
            *_in(
                _EDGE,
                "l3_ipv6_sockets_are_counted_by_64",
                "l3_an_address_has_so_many_connections",
                "l3_a_trusted_proxy_has_as_many_as_it_needs",
                "l3_the_door_counts_who_is_in",
                "l3_the_door_forgets_who_left",
                "l3_files_are_kept_back_from_the_crowd",
                "l3_in_all_there_are_as_many_as_there_are_files_for",
            ),
        ),
    ),
    "L-4": Label(
        "Strangers make no room, rooms that are awake are capped, idle ones sleep.",
        (
            *_in(
                _SOCKETS, "a_stranger_makes_no_room", "a_room_sleeps_under_its_sockets"
            ),
            *_in(
                "system/cluster/test_ray_namespace",
                "a_full_node_says_so_and_makes_nothing",
            ),
        ),
    ),
    "L-5": Label(
        "Logs are trimmed; what is not the record goes by itself.",
        (
            *_in(_LIMITS, "l5_whatever_is_not_the_record_goes_by_itself"),
            *_in(
                "cfmessenger/storage/test_log",
                "trimming_keeps_the_newest_and_the_fence",
            ),
            *_in(_SESSIONS, "dead_tokens_are_not_remembered_for_ever"),
            *_in(
                "cfmessenger/storage/test_derived",
                "only_the_latest_rooms_of_a_user_are_kept",
            ),
        ),
        "The soak of an hour is not a test.",
    ),
    # The web.
    "W-1": Label(
        "CORS for exactly the listed origins, without credentials.",
        (
            *_in(
                _MIDDLEWARE,
                "listed_origins_may_read_answers_and_others_may_not",
                "a_preflight",
            ),
            *_in(_STATIC, "w1_an_origin_is_one_origin_and_never_all"),
        ),
    ),
    "W-2": Label(
        "nosniff, no referrer, no-store, a strict policy, our own windows alone.",
        (
            *_in(
                _EDGE,
                "w2_w3_every_answer_has_the_security_headers",
                "w2_a_page_runs_nothing_but_our_own",
                "w2_a_part_has_what_a_browser_obeys_for_it",
            ),
            *_in(_MIDDLEWARE, "security_headers"),
        ),
        "HSTS is for whoever ends TLS.",
    ),
    "W-3": Label(
        "No header says what runs.",
        (
            *_in(_SERVER, "no_header_says_what_we_run"),
            *_in(_EDGE, "w2_w3_every_answer_has_the_security_headers"),
        ),
    ),
    "W-4": Label(
        "What people write comes back as JSON and as they wrote it.",
        _in(_EXPOSURE, "w4_what_people_write_is_the_bytes_they_wrote"),
    ),
    "W-5": Label(
        "What a client sends comes back in no header.",
        (
            *_in(_EDGE, "w5_what_a_client_sends_comes_back_in_no_header"),
            *_in(_MIDDLEWARE, "any_other_is_replaced_by_a_new_uuid"),
        ),
    ),
    # Logs.
    "G-1": Label(
        "One record is one line, whatever a client wrote.",
        (
            *_in(
                _LOG,
                "a_client_cannot_forge_a_record",
                "a_record_that_cannot_be_formatted_still_is_one_line",
                "tracebacks_are_kept_on_the_line",
            ),
            *_in(_MIDDLEWARE, "one_line_a_request_without_the_query_and_within_a_line"),
        ),
    ),
    "G-2": Label(
        "No message, token or key in a log.",
        (
            *_in(_EXPOSURE, "s6_g2_nothing_that_was_written_holds_a_secret"),
            *_in(_LOG, "no_credential_is_logged_however_it_travelled"),
        ),
    ),
    "G-3": Label(
        "What an operator looks for is there.",
        (
            *_in(_EXPOSURE, "s6_g2_nothing_that_was_written_holds_a_secret"),
            *_in("gateway/test_metrics", "any_process_tells_the_sum_of_all"),
        ),
        "Logins, handshakes and refusals are access lines; close codes and rates are "
        "figures of /metrics.",
    ),
    "G-4": Label(
        "A flood of nonsense is few lines.",
        (
            *_in(_EDGE, "g4_a_flood_of_nonsense_is_few_lines"),
            *_in(_SOCKET, "bad_utf8_is_1007_without_a_traceback"),
        ),
        "The access log is a record: one line for each whole request.",
    ),
    # Valkey.
    "V-1": Label(
        "A user that can touch cfm:* and nothing else.",
        (
            *_in(
                _OWN_VALKEY,
                "only_our_keys_channels_and_commands",
                "every_listed_command_exists",
                "nobody_else_gets_in",
            ),
            *_in(_STATIC, "v1_the_shipped_acl_allows_what_we_use_and_nothing_more"),
        ),
    ),
    "V-2": Label(
        "A Unix socket in a folder of ours, and even there a password.",
        (
            *_in(_EXPOSURE, "v2_the_folders_of_sockets_and_secrets_are_ours_alone"),
            *_in(_OWN_VALKEY, "nobody_else_gets_in"),
        ),
    ),
    "V-3": Label(
        "TLS to Valkey can be had.",
        _in("cfmessenger/storage/test_resp", "tls_checks_certificate_and_name"),
    ),
    "V-4": Label(
        "Not a server that is too old.",
        (
            *_in(
                "cfmessenger/storage/test_valkey",
                "older_and_other_servers_are_refused",
            ),
            *_in(_STATIC, "c3_what_is_locked_has_the_known_fixes"),
        ),
        "Of somebody else's server the major version is looked at; deploy/ says which.",
    ),
    "V-5": Label(
        "A full memory refuses and forgets nothing.",
        _in("system/cluster/test_faults", "the_disk_is_full"),
        "noeviction is in both configurations; a full disk is refused by the same "
        "answer, and no test fills the memory.",
    ),
    "V-6": Label(
        "User text never becomes part of a key.",
        (
            *_in(_LOGIN_RATE, "who_counts_as_one_client"),
            *_in("cfmessenger/test_ids", "other_room_ids_are_refused"),
            *_in(
                "cfmessenger/accounts/test_users",
                "an_id_that_would_make_room_ids_ambiguous_is_refused",
            ),
        ),
    ),
    # Ray.
    "R-1": Label("No dashboard.", _in(_STATIC, "r1_ray_has_no_dashboard")),
    "R-2": Label(
        "No port beyond the gateway's answers without a key.",
        (
            *_in(_EXPOSURE, "r2_no_other_port_answers_without_a_key"),
            *_in("system/cluster/test_nodes", "nobody_drives_ray_without_the_token"),
            *_in("actors/test_namespace_server", "an_open_tcp_port_needs_a_key"),
            *_in("gateway/live/test_links", "a_real_host_refuses_a_wrong_key"),
            *_in(
                "actors/test_host",
                "whoever_is_not_greeted_is_told_why_and_not_listened_to",
                "a_gateway_that_asks_and_proves_nothing_is_no_gateway",
            ),
            *_in(
                "actors/test_namespace_server",
                "the_key_is_proved_by_both_ends_and_never_sent",
                "who_greets_and_proves_nothing_is_asked_nothing",
            ),
        ),
        "Without certificates it is no encryption: the network must be private.",
    ),
    "R-3": Label(
        "`up` listens on loopback alone.",
        (
            *_in(_EXPOSURE, "r3_only_loopback_listens_and_only_the_gateway_is_told"),
            *_in("system/cluster/test_up", "one_life"),
        ),
        "On a cluster of one's own the ports of Ray are that cluster's.",
    ),
    "R-4": Label(
        "No Ray Client server.",
        _in(_EXPOSURE, "r3_only_loopback_listens_and_only_the_gateway_is_told"),
    ),
    "R-5": Label(
        "Actors are sent msgpack and never objects.",
        (
            *_in(
                "cfmessenger/link/test_messages", "what_is_no_message_breaks_the_link"
            ),
            *_in(_STATIC, "c5_nothing_that_runs_what_it_reads"),
        ),
    ),
    "R-6": Label(
        "A Ray with the known fixes.",
        _in(_STATIC, "c3_what_is_locked_has_the_known_fixes"),
    ),
    "R-7": Label(
        "Workers have none of our secrets in their environment.",
        _in("system/cluster/test_up", "one_life"),
        "Which user they run as is whoever's who starts them.",
    ),
    "R-8": Label(
        "Between machines TLS, with certificates of both ends.",
        (
            *_in(
                "cfmessenger/test_tls",
                "who_has_no_good_certificate_is_refused",
                "who_the_replaced_authority_signed_is_refused_from_the_next_connection"
                "_on",
            ),
            *_in(
                "cfmessenger/link/test_secured",
                "who_is_not_of_this_authority_is_one_line_and_hears_nothing",
            ),
            *_in(
                "gateway/live/test_links",
                "with_tls_links_are_of_one_authority_and_outlive_its_certificates",
            ),
        ),
    ),
    # Secrets.
    "K-1": Label(
        "From the environment or a file; in no argument, repr or answer.",
        (
            *_in(_EXPOSURE, "k1_no_secret_is_in_an_argument_or_an_error"),
            *_in(_SETTINGS, "secrets_are_neither_in_repr_nor_in_a_refusal"),
            *_in("cfmessenger/cli/test_cli", "secrets_have_no_flag_and_all_else_has"),
            *_in(_OWN_VALKEY, "nothing_secret_is_readable_or_in_arguments"),
            *_in(
                _SETTINGS,
                "every_secret_may_stand_in_a_file",
                "what_is_wrong_with_a_secrets_file_is_said_without_what_is_in_it",
            ),
            *_in(
                "actors/test_host_settings",
                "nothing_secret_and_nothing_of_one_machine_travels",
            ),
            *_in(
                "cfmessenger/cli/test_ray_start",
                "secret_flags_go_into_the_environment",
            ),
        ),
    ),
    "K-2": Label(
        "A scan of the repository for secrets.",
        because="None are in it: keys are made at the first start, and the published "
        "test secrets are public. A scanner belongs to the host of the repository.",
    ),
    "K-3": Label(
        "Two keys during a rotation.",
        because="A ticket needs no key, and a Turnstile secret is rotated by a rolling "
        "restart within Cloudflare's own overlap.",
    ),
    # The supply chain.
    "C-1": Label(
        "A lock with hashes.",
        _in(
            "test_packaging",
            "every_locked_requirement_has_hashes_and_no_address",
            "the_lock_pins_every_declared_dependency",
        ),
    ),
    "C-2": Label(
        "A bill of materials.",
        because="requirements.lock is one, and any tool makes CycloneDX of it.",
    ),
    "C-3": Label(
        "No version with a known fault.",
        _in(_STATIC, "c3_what_is_locked_has_the_known_fixes"),
        "The faults known when it was written; no advisory service is asked.",
    ),
    "C-4": Label(
        "bandit.",
        because="Not a dependency; what it would find is C-5 and the linter's rules.",
    ),
    "C-5": Label(
        "Nothing runs what it reads, and SQL is never made of text.",
        (
            *_in(
                _STATIC,
                "c5_nothing_that_runs_what_it_reads",
                "c5_sql_is_never_made_of_text",
            ),
            *_in(_DATA, "what_means_something_to_sql_is_inert_everywhere"),
        ),
    ),
    # The economics of refusing.
    "E-1": Label(
        "A refusal asks no actor, and Valkey at most once.",
        (
            *_in(_SOCKETS, "a_stranger_makes_no_room"),
            *_in(_SESSIONS, "what_we_never_issued_is_no_session"),
        ),
        "Refusals a second are a figure of `python -m tests.system.security.flood`.",
    ),
    "E-2": Label(
        "Every queue and every table keyed by clients has an end.",
        (
            *_in(_STATIC, "e2_every_queue_has_an_end"),
            *_in(_EDGE, "l3_the_door_forgets_who_left"),
            *_in(_LOGINS, "a_login_is_forgotten_with_its_last_socket"),
            *_in(
                "cfmessenger/chat/test_ratelimit",
                "users_with_an_empty_window_are_dropped",
            ),
            *_in("gateway/test_metrics", "no_label_comes_from_a_client"),
            *_in(
                "gateway/live/test_stub",
                "one_socket_may_have_so_much_on_its_way_whatever_others_have",
                "who_floods_together_leaves_room_for_everybody",
            ),
        ),
    ),
    "E-3": Label(
        "No regular expression takes longer than its text.",
        _in(_DECODING, "any_bytes_are_answered"),
        "Every pattern that sees a client's text is anchored and has one repetition.",
    ),
    "E-4": Label(
        "No ranges, forms or files of the framework.",
        _in(_STATIC, "e4_no_ranges_forms_or_files_of_the_framework"),
    ),
    # Bad input: HTTP and handshakes.
    "H-1": Label(
        "A socket's path without an upgrade, another version, a bad key or method.",
        (
            *_in(_ENDPOINTS, "a_websocket_path_asked_plainly"),
            *_in(
                _SERVER,
                "an_upgrade_that_is_refused_instead_of_hanging",
                "a_short_websocket_key",
                "what_cannot_be_an_upgrade_is_a_request",
            ),
        ),
    ),
    "H-2": Label(
        "A missing or odd Host.",
        (
            *_in(_SERVER, "a_head_that_is_refused"),
            *_in(
                _EDGE,
                "http_an_odd_host_is_refused",
                "http_a_name_of_ours_is_served",
                "http_a_page_that_was_rebound_to_loopback_reads_nothing",
            ),
            *_in(_STATIC, "e4_no_ranges_forms_or_files_of_the_framework"),
        ),
        "On loopback only its own names; elsewhere any: nothing is built from one, and "
        "there are no cookies for a page of another name to borrow.",
    ),
    "H-3": Label(
        "No, garbled, ended and forged sessions, before the accept.",
        (
            *_in(
                _BAD, "handshakes_that_are_refused", "an_expired_session_opens_nothing"
            ),
            *_in(_ENDPOINTS, "without_a_session", "with_what_is_no_session"),
        ),
        "Nothing and something are told apart on purpose.",
    ),
    "H-4": Label("Foreign origins.", _in(_BAD, "handshakes_that_are_refused")),
    "H-5": Label(
        "Room ids of every bad kind, and no actor for them.",
        (
            *_in(_SOCKETS, "a_room_one_may_not_enter_is_not_made"),
            *_in(_ENDPOINTS, "history_of_a_room_one_may_not_read"),
            *_in("gateway/test_app", "whatever_stands_for_a_room_gets_to_the_door"),
            *_in(_ADMISSION, "rooms_one_may_not_enter", "a_direct_room_has_one_id"),
        ),
    ),
    "H-6": Label(
        "Heads too long or too many, twice framed, with NUL, and no HTTP at all.",
        _in(_SERVER, "a_head_that_is_refused"),
        "A bare LF ends a line, as RFC 9112 §2.2 allows.",
    ),
    "H-7": Label(
        "Media types and encodings that are none of ours.",
        (
            *_in(_ENDPOINTS, "login_refuses_other_media_types"),
            *_in(_DATA, "media_types"),
        ),
    ),
    "H-8": Label(
        "Unknown methods and paths.",
        _in(_MIDDLEWARE, "nothing_there", "the_method_is_not_allowed"),
    ),
    # JSON.
    "J-1": Label(
        "What is no JSON, or not of the shape, and never echoed.",
        (
            *_in(_BAD, "bad_frames_have_exact_answers"),
            *_in(
                _DECODING, "what_is_not_json_is_invalid_json", "any_bytes_are_answered"
            ),
            *_in(
                _ENDPOINTS,
                "login_refuses_what_is_not_json",
                "login_names_the_field_and_never_its_value",
            ),
        ),
    ),
    "J-2": Label(
        "Depth, surrogates, controls, repeated keys, digits without end.",
        (
            *_in(_BAD, "bad_frames_have_exact_answers", "what_only_looks_bad_is_taken"),
            *_in(_DECODING, "type_may_come_only_once", "display_names"),
        ),
    ),
    "J-3": Label(
        "Length as JavaScript counts it.",
        _in(_DECODING, "content_is_measured_as_javascript_does"),
    ),
    # Frames.
    "F-1": Label(
        "What breaks the protocol, too big, binary, or not UTF-8.",
        (
            *_in(
                _CONNECTION,
                "what_breaks_the_websocket_protocol",
                "a_binary_frame_is_1003",
            ),
            *_in(
                _SOCKET,
                "a_message_of_64_kib_and_one_byte_more",
                "bad_utf8_is_1007_without_a_traceback",
            ),
        ),
        "A close in the middle of a message is answered with 1002.",
    ),
    "F-2": Label("Pieces without end.", _in(_SOCKET, "a_message_in_too_many_pieces")),
    "F-3": Label(
        "Faults without end, and silence.",
        _in(
            _CONNECTION,
            "the_21st_fault_within_a_minute_is_the_last",
            "what_is_too_much_but_no_fault_is_not_abuse",
            "a_client_that_answers_pings_is_alive",
            "a_client_that_does_not_read_is_closed_and_slows_nobody",
        ),
    ),
    "F-4": Label("No compression.", _in(_SERVER, "no_header_says_what_we_run")),
    # Fields and events.
    "P-1": Label(
        "What a client claims about itself or the server's part is not heard.",
        (
            *_in(_ROOMS, "what_a_client_claims_about_itself_is_ignored"),
            *_in(_BAD, "bad_frames_have_exact_answers"),
        ),
    ),
    "P-2": Label(
        "Ids: none, too long, repeated, another's.",
        (
            *_in(
                _ROOMS,
                "an_id_is_one_message",
                "a_message_without_an_id_is_given_one",
            ),
            *_in("cfmessenger/chat/test_room", "another_users_equal_id_is_independent"),
        ),
    ),
    "P-3": Label(
        "Typing without an end, or a thousand a second.",
        _in(
            _ROOMS,
            "typing_stops_by_itself_after_three_seconds",
            "typing_stops_when_the_socket_closes",
            "at_most_five_changes_a_second_and_the_last_wins",
        ),
    ),
    "P-4": Label(
        "Receipts: unknown, one's own, downwards, from outside.",
        (
            *_in(
                _ROOMS,
                "acks_only_upgrade_and_are_shown",
                "acks_beyond_a_hundred_a_second_are_dropped",
            ),
            *_in(_ACCESS, "a1_a_receipt_from_outside_the_room_counts_for_nothing"),
        ),
    ),
    "P-5": Label(
        "Pages of history that make no sense.",
        _in(
            _ENDPOINTS,
            "history_before_what_is_no_seq",
            "history_limit_that_is_no_number",
            "history_in_pages_oldest_first",
        ),
    ),
    "P-6": Label(
        "Logins of bots and of nobody.",
        (
            *_in(_ENDPOINTS, "login_of_nobody"),
            *_in(_ACCESS, "a1_nobody_is_a_bot"),
        ),
    ),
    "P-7": Label(
        "Collections, filters, columns and rows that are none, and SQL in all of them.",
        _in(
            _DATA,
            "a_collection_that_is_none",
            "what_means_something_to_sql_is_inert_everywhere",
            "a_bad_parameter_is_named",
            "bodies_that_are_refused",
            "nobody_learns_of_anothers_orders",
        ),
    ),
}
