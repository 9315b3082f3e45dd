"""The people who can sign in and the bots who cannot, read from a JSON list.

`users.json` beside this module is the seeded list; `CFM_USERS` names another file of
the same shape. Owns identity alone: who is online, and which bots are in rotation, is
kept elsewhere. E-mail addresses in the seeded list are invented and public.
"""

from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, NamedTuple, Self

import msgspec

from cfmessenger.environment import SettingsError
from cfmessenger.wire.complaint import UNREADABLE
from cfmessenger.wire.protocol import Status, User
from cfmessenger.wire.visible import shows

# No "__" inside and no "_" at an end, so that dm_<a>__<b> can be read in one way only;
# 29 characters, so that the id of a direct room stays within 64.
_USER_ID = r"^(?=.{1,29}$)[a-z0-9]+([_-][a-z0-9]+)*\Z"
_LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]*\Z"

UserId = Annotated[str, msgspec.Meta(pattern=_USER_ID)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=50, pattern=_LINE)]
Line = Annotated[str, msgspec.Meta(max_length=200, pattern=_LINE)]
Text = Annotated[str, msgspec.Meta(max_length=1000)]


class Profile(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    omit_defaults=True,
    forbid_unknown_fields=True,
):
    """What wire.md calls `User`, less the live `status`."""

    id: UserId
    email: Annotated[str, msgspec.Meta(pattern=r"^[^@\s]+@[^@\s]+\Z", max_length=254)]
    display_name: Name
    avatar_id: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_-]{1,64}\Z")]
    is_ai_bot: bool = False
    personal_message: Line | None = None
    persona: Text | None = None
    bot_archetype: Line | None = None
    bot_style: Text | None = None

    def with_status(self, status: Status) -> User:
        """This person or bot as clients see it; what is absent stays absent."""
        known = {
            field: value
            for field in self.__struct_fields__
            if (value := getattr(self, field)) is not None
        }
        return User(status=status, **known)


class Words(NamedTuple):
    """What somebody is called, says and looks like, at a revision of their row."""

    display_name: str
    personal_message: str | None
    avatar_id: str
    revision: int


class Directory:
    """Everybody there is, in the order of the file.

    Who is there never changes after loading; what people call themselves does, with
    `learn`. `people` and `bots` are the profiles as they are now.
    """

    def __init__(self, profiles: list[Profile]) -> None:
        """Raises ValueError when an id or an e-mail address occurs twice, or what
        somebody is called or says shows nothing."""
        self._by_id = {profile.id: profile for profile in profiles}
        self._revisions: dict[str, int] = {}  # by user id, of the rows learned so far
        if len(self._by_id) < len(profiles):
            raise ValueError("expected every id once")
        if len({profile.email.lower() for profile in profiles}) < len(profiles):
            raise ValueError("expected every e-mail address once")
        for profile in profiles:
            if not shows(profile.display_name):
                raise ValueError(f"expected a displayName to see, of {profile.id}")
            if profile.personal_message and not shows(profile.personal_message):
                raise ValueError(f"expected a personalMessage to see, of {profile.id}")
        self._tell_apart()
        if not self.people:
            raise ValueError("expected at least one person who is not a bot")

    def _tell_apart(self) -> None:
        everybody = self._by_id.values()
        self.people = tuple(each for each in everybody if not each.is_ai_bot)
        self.bots = tuple(each for each in everybody if each.is_ai_bot)

    def learn(self, words: Mapping[str, Words]) -> list[str]:
        """What people now call themselves, by id; returns whose row has changed.

        Unknown ids are passed over: the list may have changed since.
        """
        changed = []
        for user_id, now in words.items():
            known = self._by_id.get(user_id)
            if known is None or now.revision <= self.revision(user_id):
                continue
            self._revisions[user_id] = now.revision
            self._by_id[user_id] = msgspec.structs.replace(
                known,
                display_name=now.display_name,
                personal_message=now.personal_message,
                avatar_id=now.avatar_id,
            )
            changed.append(user_id)
        if changed:
            self._tell_apart()
        return changed

    def revision(self, user_id: str) -> int:
        """Of the row that this person's words are from; 0: they are the list's."""
        return self._revisions.get(user_id, 0)

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Read `path`, or the seeded list; SettingsError when it cannot be used."""
        try:
            source = path if path is not None else files(__package__) / "users.json"
            return cls(msgspec.json.decode(source.read_bytes(), type=list[Profile]))
        except OSError as error:
            why = f"expected a readable file, {error.strerror}"
        except UNREADABLE as error:
            why = f"expected a list of users, {error}"
        except ValueError as error:
            why = str(error)
        raise SettingsError(f"CFM_USERS: {why}")

    def get(self, user_id: str) -> Profile | None:
        """The person or bot with this id."""
        return self._by_id.get(user_id)

    def person(self, user_id: str) -> Profile | None:
        """The person with this id, who may sign in; None for a bot's id."""
        found = self._by_id.get(user_id)
        return None if found is None or found.is_ai_bot else found

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Profile]:
        return iter(self._by_id.values())
