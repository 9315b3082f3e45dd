"""What each gateway is told, as few or many are online."""

from cfmessenger.chat.effects import News, Tell, Wants
from cfmessenger.chat.interests import Interests
from cfmessenger.wire.protocol import Participant


def person(user_id: str, status: str = "online") -> Participant:
    return Participant(user_id, user_id.upper(), status)  # type: ignore[arg-type]


class Scene:
    """Interests with `most`, and whoever is shown."""

    def __init__(self, most: int = 2) -> None:
        self.interests = Interests(most)
        self.shown: dict[str, Participant] = {}
        self.batch = 0

    def wants(self, gateway: str, *add: str, whole: bool = True, drop: str = "") -> int:
        self.batch += 1
        told = Wants(self.batch, whole, list(add), drop.split())
        self.interests.take(gateway, told)
        return self.batch

    def tick(self, *now: Participant, gone: str = "", guests: str = "") -> dict:
        changes: dict[str, Participant | None] = {each.id: each for each in now}
        changes |= dict.fromkeys(gone.split())
        for user_id, after in changes.items():
            if after is None:
                del self.shown[user_id]
            else:
                self.shown[user_id] = after
        tells = self.interests.news(self.shown, changes, guests.split())
        assert all(isinstance(each, Tell) for each in tells)
        return {each.gateway: each.news for each in tells}


def ids(news: News) -> list[str]:
    return [each.id for each in news.people]


def test_while_few_are_online_every_gateway_hears_of_everybody() -> None:
    there = Scene()
    first = there.wants("g", "a")
    news = there.tick(person("a"), person("b"))["g"]
    assert (news.whole, news.crowded, news.online, ids(news)) == (
        True,
        False,
        2,
        ["a", "b"],
    )
    assert news.answers == first
    there.wants("h", "c")
    both = there.tick(person("b", "busy"))
    assert [each.id for each in both["g"].people] == ["b"] and not both["g"].whole
    assert ids(both["h"]) == ["a", "b"] and both["h"].whole


def test_in_a_crowd_each_gateway_hears_of_whom_it_wants() -> None:
    there = Scene()
    there.wants("g", "a", "z")
    there.wants("h", "b")
    there.tick(person("a"), person("b"), person("c"))
    told = there.tick(person("a", "busy"), person("c", "busy"), person("z"), gone="b")
    assert (ids(told["g"]), told["g"].gone) == (["a", "z"], [])
    assert (ids(told["h"]), told["h"].gone) == ([], ["b"])
    assert {news.crowded for news in told.values()} == {True}
    # What is not wanted costs a gateway nothing but the number.
    assert told["h"].online == 3 and not told["h"].whole


def test_a_difference_is_answered_with_how_they_are_shown() -> None:
    there = Scene()
    there.wants("g", "a")
    there.tick(person("a"), person("b"), person("c"))
    second = there.wants("g", "b", "nobody", whole=False, drop="a")
    news = there.tick()["g"]
    assert (ids(news), news.gone, news.answers) == (["b"], ["nobody"], second)
    assert there.tick(person("a", "busy"))["g"].people == []
    # Asked for nobody new, it is answered all the same; and once.
    third = there.wants("g", whole=False)
    assert there.tick()["g"].answers == third
    assert there.tick() == {}


def test_it_is_a_crowd_above_the_number_and_until_four_fifths_of_it() -> None:
    there = Scene(5)
    there.wants("g", "p0")
    for n in range(5):
        assert not there.tick(person(f"p{n}"))["g"].crowded
    assert there.tick(person("p5"))["g"].crowded
    assert there.tick(gone="p5")["g"].crowded
    opened = there.tick(gone="p4")["g"]
    assert not opened.crowded and opened.whole
    assert ids(opened) == ["p0", "p1", "p2", "p3"]
    assert not there.tick(person("p4"))["g"].crowded


def test_whom_guests_show_everybody_is_told_of() -> None:
    there = Scene()
    there.wants("g", "a")
    there.tick(person("a"), person("b"), person("c"))
    come = there.tick(person("bot"), guests="bot")["g"]
    assert (ids(come), come.everybody) == (["bot"], ["bot"])
    there.wants("h", "b")
    assert set(ids(there.tick(guests="bot")["h"])) == {"b", "bot"}
    gone = there.tick(gone="bot")["g"]
    assert (gone.gone, gone.everybody) == (["bot"], [])


def test_who_attaches_again_says_all_of_it_before_it_is_told_anything() -> None:
    there = Scene()
    there.wants("g", "a")
    there.tick(person("a"), person("b"), person("c"))
    there.interests.forget("g")
    assert there.tick(person("a", "busy")) == {}
    there.wants("g", "b", whole=False)  # of before, and too late
    assert there.tick(person("a", "away")) == {}
    there.wants("g", "b")
    news = there.tick()["g"]
    assert news.whole and ids(news) == ["b"]
    there.wants("g")
    assert there.tick(person("b", "busy")) == {}
