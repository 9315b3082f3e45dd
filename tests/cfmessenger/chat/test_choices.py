"""What who has no socket has chosen: for how long, and newer than what."""

from cfmessenger.chat.choices import CHOSEN_MS, Choices


def test_a_choice_waits_for_its_user_once() -> None:
    choices = Choices(epoch=1)
    choices.keep(0, "user_1", "busy", 3)
    choices.keep(1, "user_1", "away", 4)
    found = choices.take(CHOSEN_MS, "user_1")
    assert found is not None and (found.status, found.at) == ("away", 4)
    assert choices.take(CHOSEN_MS, "user_1") is None


def test_a_choice_ends_after_90_seconds_and_is_not_kept_for_ever() -> None:
    choices = Choices(epoch=1)
    choices.keep(0, "user_1", "busy", 3)
    assert choices.take(CHOSEN_MS, "user_1") is None
    choices.keep(0, "user_1", "busy", 3)
    choices.keep(CHOSEN_MS, "user_2", "busy", 4)
    assert len(choices) == 1


def test_numbers_rise_over_lives_that_leave_nothing_behind_too() -> None:
    first, second, mirrored = Choices(1), Choices(2), Choices(2)
    numbers = [first.number(), first.number(), second.number(), second.number()]
    assert numbers == sorted(set(numbers))
    mirrored.restore(*second.snapshot())
    assert mirrored.number() > numbers[-1]
