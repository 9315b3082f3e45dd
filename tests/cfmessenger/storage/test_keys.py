"""Key names are a contract with the data on disk: each is spelled out here once."""

from inspect import isfunction, signature

from cfmessenger.storage import keys
from cfmessenger.storage.generation import NAME

NAMES = {
    keys.log("room:general"): "cfm:{room:general}:log",
    keys.mirror("presence:global"): "cfm:{presence:global}:mirror",
    keys.aside("room:general"): "cfm:{room:general}:aside",
    keys.reads("room:dm_a__b"): "cfm:{room:dm_a__b}:reads",
    keys.barrier("room:general"): "cfm:{room:general}:barrier",
    keys.hint("room:general"): "cfm:{room:general}:hint",
    keys.session("ab"): "cfm:session:ab",
    keys.user_sessions("user_1"): "cfm:logins:user_1",
    keys.ticket("ab"): "cfm:ticket:ab",
    keys.turnstile("ab"): "cfm:turnstile:ab",
    keys.presence("user_1"): "cfm:presence:user_1",
    keys.user_rooms("user_1"): "cfm:user_rooms:user_1",
    keys.login("::1"): "cfm:login:::1",
    keys.bots_metrics("2026-01-31"): "cfm:bots:metrics:2026-01-31",
    keys.bots_quota("2026-01-31"): "cfm:bots:quota:2026-01-31",
    keys.bots_quota("2026-01-31", "user_1"): "cfm:bots:quota:2026-01-31:user_1",
    keys.gateway_channel("g1"): "cfm:gateway:g1",
    keys.BOTS_ACTIVE: "cfm:bots:active",
    keys.BOTS_LINE: "cfm:bots:line",
    keys.BOT_ENABLED: "cfm:config:bot_enabled",
    keys.words("user_1"): "cfm:words:user_1",
    keys.writes("user_1"): "cfm:writes:user_1",
    keys.new_rooms("user_1"): "cfm:new_rooms:user_1",
    keys.GATEWAYS: "cfm:gateways",
    keys.LACKING: "cfm:gateways:lacking",
    keys.RELEASES: "cfm:gateways:releases",
    keys.PLACEMENT: "cfm:placement",
    keys.OWN_LOADS: "cfm:{placement}:loads",
    keys.DAMAGE: "cfm:damage",
    keys.OWNER: "cfm:{cluster}:owner",
    keys.head(): "cfm:{cluster}:head",
    keys.head("green"): "cfm:{cluster}:head:green",
    keys.NODES: "cfm:{cluster}:nodes",
    keys.AGREED: "cfm:{cluster}:settings",
    keys.CLUSTER_SECRET: "cfm:{cluster}:secret",
    keys.REVOKED_CHANNEL: "cfm:revoked",
    keys.USERS_CHANNEL: "cfm:users",
}


def test_names_are_those_of_the_data_on_disk() -> None:
    assert list(NAMES) == list(NAMES.values())


def test_the_generation_of_placement_has_a_log_as_objects_have() -> None:
    assert keys.log(NAME) == "cfm:{placement}:log"


def test_every_key_of_an_object_is_copied_with_its_log() -> None:
    """Or else a backup has them of two moments."""
    makers = (each for each in vars(keys).values() if isfunction(each))
    of_one = [make for make in makers if list(signature(make).parameters) == ["name"]]
    not_kept = (keys.of_object, keys.barrier)
    made = {make("room:a") for make in of_one if make not in not_kept}
    assert made == set(keys.of_object("room:a"))
    assert keys.of_object("room:a")[0] == keys.log("room:a")
    assert {keys.object_of(key) for key in made} == {"room:a"}
    assert keys.object_of("cfm:session:{x}") is keys.object_of("cfm:gateways") is None


def test_no_name_was_left_out_here() -> None:
    several = {"of_object", "object_of"}
    public = {name for name in vars(keys) if not name.startswith("_")} - several
    # bots_quota is there twice, with and without a user, and head with a name too.
    assert len(public) == len(NAMES) - 2
