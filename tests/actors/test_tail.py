"""What is kept of an object's log, and what is concluded from where a log ends."""

from hypothesis import given
from hypothesis import strategies as st

from actors import tail as tails
from actors.tail import Standing, Tail, Tails, Verdict, agreed_up_to, compare
from cfmessenger.storage.log import Entry, Top

NAME = "room:a"


def said(seq: int, size: int = 1) -> bytes:
    return f"event {seq}".encode() * size


def events(first: int, last: int) -> list[tuple[int, bytes]]:
    return [(seq, said(seq)) for seq in range(first, last + 1)]


def at_epoch(epoch: int, first: int, last: int) -> list[Entry]:
    return [Entry(epoch, *each) for each in events(first, last)]


@st.composite
def logs(draw: st.DrawFn) -> list[Entry]:
    """A whole log: epochs that rise now and then, seqs from 1 without a hole."""
    epoch, entries = 1, list[Entry]()
    for seq in range(1, draw(st.integers(1, 30)) + 1):
        epoch += draw(st.sampled_from((0, 0, 0, 1, 2)))
        entries.append(Entry(epoch, seq, said(seq)))
    return entries


def kept(entries: list[Entry], since: int) -> Tail:
    """A tail that has these from index `since` on, as single commits."""
    tail = Tail()
    for entry in entries[since:]:
        tail.took(entry.epoch)
        tail.committed(0.0, entry.epoch, [(entry.seq, entry.event)])
    return tail


def last_of(entries: list[Entry]) -> Entry | None:
    return entries[-1] if entries else None


@given(logs(), st.data())
def test_a_log_that_lost_its_end_gets_back_just_what_it_lost(
    log: list[Entry], data: st.DataObject
) -> None:
    since = data.draw(st.integers(0, len(log) - 1))
    left = data.draw(st.integers(0, len(log)))
    tail = kept(log, since)
    verdict = tail.judge(last_of(log[:left]))
    if left == len(log):
        assert verdict is Verdict.WHOLE
    elif left > since or since == 0:
        assert verdict is Verdict.HEAL
        missing = tail.after(left)
        assert missing == [(seq, event) for _, seq, event in log[left:]]
    else:
        assert verdict is Verdict.TORN, "what comes before is not known"


@given(logs(), st.data())
def test_nothing_is_appended_after_another_has_spoken(
    log: list[Entry], data: st.DataObject
) -> None:
    since = data.draw(st.integers(0, len(log) - 1))
    at = data.draw(st.integers(1, len(log)))
    tail = kept(log, since)
    # With the very epoch and number of ours, which a lost marker makes possible.
    theirs = log[at - 1]._replace(event=b"other words")
    assert tail.judge(theirs) is Verdict.TORN
    longer = Entry(log[-1].epoch, log[-1].seq + 1, b"other words")
    assert tail.judge(longer) is Verdict.ASK
    assert agreed_up_to(tail.after(0), [*log[since : at - 1], theirs]) == (
        log[at - 2].seq if at - 1 > since else 0
    )


@given(logs(), st.data())
def test_what_was_healed_is_known_again_under_its_new_epoch(
    log: list[Entry], data: st.DataObject
) -> None:
    left = data.draw(st.integers(0, len(log) - 1))
    tail, epoch = kept(log, 0), log[-1].epoch + 5
    again = [Entry(epoch, seq, event) for _, seq, event in log[left:]]
    done = data.draw(st.integers(1, len(again)))
    assert tail.judge(again[done - 1]) is Verdict.TORN, "nobody here has done that"
    tail.healing(epoch)  # and nobody knows how far it came
    wanted = Verdict.WHOLE if done == len(again) else Verdict.HEAL
    assert tail.judge(again[done - 1]) is wanted
    tail.healed(epoch, left)
    assert tail.last == again[-1]
    assert tail.judge(again[-1]) is Verdict.WHOLE
    assert tail.after(0) == [(seq, event) for _, seq, event in log]
    assert tail.size == sum(len(event) for _, _, event in log)


def test_an_object_that_nobody_said_anything_in_has_nothing_to_heal() -> None:
    tail = Tail()
    assert tail.judge(None) is Verdict.WHOLE
    assert tail.judge(Entry(3, 1, b"theirs")) is Verdict.WHOLE
    assert (tail.first, tail.last, tail.top) == (0, None, (0, 0))


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 5)), min_size=1))
def test_what_is_kept_is_the_last_seconds_and_one_before(
    commits: list[tuple[float, int]],
) -> None:
    tail, now, seq = Tail(), 0.0, 0
    times: list[tuple[float, int]] = []
    for pause, count in commits:
        now += pause
        tail.committed(now, 1, events(seq + 1, seq + count))
        seq += count
        times.append((now, seq - count + 1))
    tail.trim(now - 10.0, 10**6)
    recent = [first for at, first in times if at >= now - 10.0]
    older = [first for at, first in times if at < now - 10.0]
    assert tail.first == (older[-1] if older else recent[0])
    assert [number for number, _ in tail.after(0)] == list(range(tail.first, seq + 1))
    assert tail.size == sum(len(event) for _, event in tail.after(0))


@given(st.lists(st.integers(1, 400), min_size=1), st.integers(1, 3000))
def test_it_holds_no_more_bytes_than_it_may(sizes: list[int], most: int) -> None:
    tail = Tail()
    for seq, size in enumerate(sizes, 1):
        tail.committed(0.0, 1, [(seq, said(seq, size))])
    last = len(said(len(sizes), sizes[-1]))
    tail.trim(-1.0, most)
    assert tail.size <= max(most, last)
    assert tail.last == Entry(1, len(sizes), said(len(sizes), sizes[-1]))


def test_a_first_life_counts_until_somebody_else_has_lived() -> None:
    """Also without a word: what gateways were shown elsewhere may be of that life."""
    tail = Tail()
    tail.took(2)
    tail.lives(2, 2, 2)
    tail.committed(0.0, 2, events(3, 9))
    tail.took(3, Entry(2, 9, said(9)), previous=2)
    assert tail.first_epoch == 2, "a reset of its own"
    tail.took(5, Entry(2, 9, said(9)), previous=4)
    assert tail.first_epoch == 0
    tail.lives(5, 9, 9)
    assert (tail.first_epoch, tail.began) == (5, 9)


# A look.


def living(epoch: int, first: int, last: int) -> Tail:
    tail = Tail()
    tail.took(epoch)
    tail.committed(0.0, epoch, events(first, last))
    return tail


def test_a_look_at_the_same_server_is_about_numbers_alone() -> None:
    tail = living(7, 1, 5)
    own = Top(7, 5, None)
    assert compare(tail, (7, 5), 5, own, strange=False) is Standing.OWN
    # An append is under way, or landed during the look.
    assert compare(tail, (7, 4), 9, Top(7, 7, None), strange=False) is Standing.OWN
    assert compare(tail, (7, 5), 5, Top(8, 0, None), strange=False) is Standing.AHEAD
    assert compare(tail, (7, 5), 5, Top(7, 6, None), strange=False) is Standing.AHEAD
    assert compare(tail, (7, 5), 5, Top(7, 4, None), strange=False) is Standing.BEHIND
    assert compare(tail, (7, 5), 5, Top(6, 9, None), strange=False) is Standing.BEHIND


def test_at_another_server_only_its_own_words_prove_who_speaks() -> None:
    tail = living(7, 1, 5)
    ours, theirs = Entry(7, 5, said(5)), Entry(7, 5, b"other words")
    assert compare(tail, (7, 5), 5, Top(7, 5, ours), strange=True) is Standing.OWN
    for top in (Top(7, 5, theirs), Top(7, 5, None), Top(7, 4, ours), Top(0, 0, None)):
        assert compare(tail, (7, 5), 5, top, strange=True) is Standing.BEHIND


def test_a_marker_without_a_word_proves_nothing_at_another_server() -> None:
    # Lost there, and taken anew by another: both have the same epoch.
    tail = living(6, 1, 5)
    tail.took(7)
    top = Top(7, 0, Entry(6, 5, said(5)))
    assert compare(tail, (7, 0), 5, top, strange=False) is Standing.OWN
    assert compare(tail, (7, 0), 5, top, strange=True) is Standing.BEHIND


# All of a process.


def keeping() -> Tails:
    kept = Tails(10.0)
    kept.keeping = True
    return kept


def test_without_a_replica_the_last_event_alone_is_kept() -> None:
    known = Tails(10.0)
    tail = known.of(NAME)
    known.committed(tail, 1, events(1, 5))
    assert tail.after(0) == events(5, 5)
    known.keeping = True
    known.committed(tail, 1, events(6, 9))
    assert tail.after(0) == events(5, 9)


def test_time_in_which_storage_is_away_does_not_count() -> None:
    known = keeping()
    tail = known.of(NAME)
    known.committed(tail, 1, events(1, 5))
    known.passed(6.0)
    known.committed(tail, 1, events(6, 9))
    known.ended(NAME, keep=True)
    assert known.alone == {NAME}
    known.passed(9.0)  # and a minute of silence before it
    assert known.of(NAME) is tail
    assert tail.after(0) == events(1, 9), "one that is older stands before the rest"
    assert known.alone == set()
    known.ended(NAME, keep=True)
    known.passed(1.5)
    assert known.get(NAME) is None, "whoever lives elsewhere by now has it"


def test_who_sleeps_leaves_nothing() -> None:
    known = keeping()
    known.committed(known.of(NAME), 1, events(1, 5))
    known.ended(NAME, keep=False)
    assert known.get(NAME) is None


def test_all_together_are_bounded() -> None:
    known = keeping()
    large = said(1, 2**17)
    count = tails.MOST_IN_ALL // (3 * len(large)) + 10
    for n in range(count):
        tail = known.of(f"room:{n}")
        for seq in (1, 2, 3):
            known.committed(tail, 1, [(seq, large)])
    held = sum(known.of(f"room:{n}").size for n in range(count))
    assert held <= tails.MOST_IN_ALL + 10 * len(large)
    assert all(known.of(f"room:{n}").last == Entry(1, 3, large) for n in range(count))


def test_a_log_that_lost_something_before_is_healed_across_the_hole() -> None:
    """What is missing of it for good was told, and is no reason to lose more."""
    log = [*at_epoch(1, 1, 3), *at_epoch(4, 7, 9)]
    for left in range(len(log)):
        tail = Tail()
        tail.loaded(0.0, log)
        assert tail.judge(last_of(log[:left])) is Verdict.HEAL
        top = log[left - 1].seq if left else 0
        assert tail.after(top) == [(each.seq, each.event) for each in log[left:]]
    assert tail.judge(Entry(2, 5, b"of another")) is Verdict.TORN


def test_an_empty_log_is_healed_by_who_has_all_of_it() -> None:
    tail = Tail()
    tail.loaded(0.0, at_epoch(1, 2, 3), begins=2)
    assert tail.judge(None) is Verdict.HEAL
    tail.trim(1.0, 0)
    assert tail.judge(None) is Verdict.TORN
    tail.loaded(0.0, at_epoch(1, 2, 3))
    assert tail.judge(None) is Verdict.TORN
