"""Sessions (the original's SESSION_KV): who a token stands for, and for how long.

A token is 256 random bits; Valkey knows its SHA-256 alone, so a copy of the database
holds nothing that can be presented. A session ends `ttl_s` after its last use and 12 h
after its login whatever happens. A refresh moves the record to a new token and keeps
the `login_id`, to which sockets, logout and expiry are bound. Every write is one
command or one MULTI that cannot bring a deleted session back: HSETEX FXX writes only
where every field still exists, RENAME fails where the old token is gone. A user has so
many sessions and no more: one sorted set a user holds them by when they end, and of
those beyond the limit the one that was used longest ago is logged out. All methods may
raise `Unavailable`. Times are integer milliseconds since 1970.

What they are called is in `session_names.py`. The next refresh of a session with an
older name gives it one with a tag: it makes that first and then deletes the older, and
whoever finds the older gone (another refresh, a logout) takes back what it made.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from cfmessenger.accounts.session_names import TOKEN, SessionNames, token_hash
from cfmessenger.accounts.session_record import (
    Record,
    Session,
    hash_of,
    hashes_of,
    member_of,
    read,
    write,
)
from cfmessenger.accounts.spent import Spent
from cfmessenger.clock import Clock
from cfmessenger.errors import Unavailable
from cfmessenger.storage import keys
from cfmessenger.storage.valkey import (
    Command,
    Multi,
    ReplyError,
    Valkey,
    checked,
    pairs,
)

logger = logging.getLogger("cfmessenger.sessions")

REVOKED_CHANNEL = keys.REVOKED_CHANNEL
"""A login id is published here when its session was ended on purpose."""

LONGEST_MS = 12 * 3600 * 1000
_SLIDE_PARTS = 20  # "written at most every TTL/20"
_REPLICA_SILENCE_S = 30  # a primary says something at least every 10 s
_REPLICA_REST_S = 30.0  # how long one that cannot serve is left alone
AT_ONCE = 500
"""Sessions read in one round trip; what others ask meanwhile comes between."""


class Sessions:
    """Makes, finds, prolongs and ends sessions.

    `replica` serves `revalidate` alone. What it does not know is asked of the primary
    before it counts as gone, so a lagging replica never ends a session; and one that
    is away, or not in step with its primary, is not asked again for a while, so that
    it keeps no ended session alive either. `most` is for the sessions of one user at a
    time; 0: no limit.

    A little longer than others may be: what a session can come to is one story.
    """

    def __init__(
        self,
        kv: Valkey,
        *,
        ttl_s: float,
        most: int = 0,
        replica: Valkey | None = None,
        clock: Callable[[], int] | None = None,
        spent: Spent | None = None,
    ) -> None:
        self._kv = kv
        self._names = SessionNames(kv.sharded)
        self.spent = spent or Spent()
        self._lineage = ""  # where `restore` was done last; "": nowhere yet
        self._replica = replica
        self._replica_rests_until = 0.0  # monotonic; until then it is not asked
        self._ttl_ms = int(ttl_s * 1000)
        self._most = most
        self._clock = clock or Clock().now

    async def create(self, user_id: str, location_hint: str) -> tuple[str, Session]:
        """A new login: its token, shown once, and its session."""
        token, now = self._names.fresh(user_id), self._clock()
        session = Session(
            user_id=user_id,
            login_id=secrets.token_hex(16),
            token_hash=self._names.named(token),
            started_at=now,
            expires_at=now + min(self._ttl_ms, LONGEST_MS),
            nonce=secrets.token_hex(8),
            location_hint=location_hint,
        )
        index = self._names.index(user_id)
        *_, oldest = await self._kv.multi(
            index,
            write(session, only_over_existing=False),
            ("ZREMRANGEBYSCORE", index, "-inf", now),
            ("ZADD", index, session.expires_at, member_of(session)),
            ("PEXPIREAT", index, now + LONGEST_MS),
            # Those beyond the limit and the next. Within the transaction, so that two
            # logins at once do not both end the same one.
            ("ZRANGE", index, 0, -(self._most or 2**53)),
            durable=True,
        )
        # Not ourselves, where all of them end at the same moment.
        others = [m for each in oldest if (m := each.decode()) != member_of(session)]
        if excess := set(others[: max(0, len(oldest) - 1)]):
            logger.info("%s has too many sessions: %d end", user_id, len(excess))
            await self._end(user_id, excess)
        return token, session

    async def get(self, token: str) -> Session | None:
        """The live session of a token, read from the primary; None if there is none.

        What cannot be one of our tokens is refused without asking Valkey.
        """
        if not TOKEN.match(token):
            return None
        found = await self.by_hash(self._names.named(token))
        if found is None and self._kv.sharded:
            found = await self.by_hash(token_hash(token))
        return found

    async def by_hash(self, hashed: str) -> Session | None:
        """The live session of this `token_hash`."""
        record = await self._kv.ask("HGETALL", keys.session(hashed))
        return self._live(hashed, pairs(record))

    async def slide(self, session: Session) -> Session | None:
        """The session, prolonged because it was used now; None if it is gone.

        Valkey is written to only when that gains at least a twentieth of the TTL. A
        session that a refresh moved to another token is followed by its login.
        """
        end = session.started_at + LONGEST_MS
        expires_at = min(self._clock() + self._ttl_ms, end)
        gained = expires_at - session.expires_at
        if gained <= 0 or (gained < self._ttl_ms // _SLIDE_PARTS and expires_at < end):
            return session
        longer = msgspec.structs.replace(session, expires_at=expires_at)
        older = self._names.older(session.token_hash)
        index = self._names.index(session.user_id, older)
        commands = (
            write(longer, only_over_existing=True),
            ("ZADD", index, "XX", "GT", expires_at, member_of(longer)),
        )
        if older:
            written, _ = await self._kv.ask_all(*commands)
        else:
            written, _ = await self._kv.multi(index, *commands)
        if written:
            return longer
        return (await self._follow([session]))[session.login_id]

    async def refresh(self, token: str) -> tuple[str, Session] | None:
        """Moves the session to a new token; the old one is dead at once.

        The login stays, the nonce (and with it every unused ticket) does not. None if
        the token stands for nothing, or another refresh of it was faster.
        """
        old = await self.get(token)
        if old is None:
            return None
        fresh, now = self._names.fresh(old.user_id), self._clock()
        new = msgspec.structs.replace(
            old,
            token_hash=self._names.named(fresh),
            expires_at=min(now + self._ttl_ms, old.started_at + LONGEST_MS),
            nonce=secrets.token_hex(8),
        )
        index = self._names.index(old.user_id)
        if self._names.older(old.token_hash):
            return (fresh, new) if await self._brought_over(old, new, now) else None
        commands = (
            ("RENAME", keys.session(old.token_hash), keys.session(new.token_hash)),
            write(new, only_over_existing=True),
            ("ZREM", index, member_of(old)),
            ("ZADD", index, new.expires_at, member_of(new)),
            ("PEXPIREAT", index, now + LONGEST_MS),
        )
        (done,) = await self._kv.execute([Multi(index, commands)], durable=True)
        moved, *rest = checked(done)
        for reply in rest:
            checked(reply)
        if isinstance(moved, ReplyError):
            await self._kv.ask("ZREM", index, member_of(new))
            return None
        return fresh, new

    async def _brought_over(self, old: Session, new: Session, now: int) -> bool:
        """Give a session of an older name the new one; False: it is gone."""
        index = self._names.index(new.user_id)
        await self._kv.multi(
            index,
            write(new, only_over_existing=False),
            ("ZADD", index, new.expires_at, member_of(new)),
            ("PEXPIREAT", index, now + LONGEST_MS),
        )
        if await self._kv.ask("DEL", keys.session(old.token_hash)):
            await self._kv.ask(
                "ZREM", self._names.index(old.user_id, True), member_of(old)
            )
            return True
        gone = ("DEL", keys.session(new.token_hash)), ("ZREM", index, member_of(new))
        await self._kv.multi(index, *gone)
        return False

    async def logout(self, session: Session) -> None:
        """Ends the login under whatever token it now has, and tells every gateway.

        Only this login: another one of the same user lives on.
        """
        await self._end(session.user_id, {member_of(session)})

    async def _end(self, user_id: str, doomed: set[str]) -> None:
        """Ends the logins of these members of the user's set.

        Each is published alone, as older gateways take it, and then with its user.
        """
        index = self._names.index(user_id)
        logins = {member.partition(".")[0] for member in doomed}
        for login in logins:
            self.spent.end(login, user_id)
        told = [*logins, *(f"{login} {user_id}" for login in logins)]
        while doomed:
            older = {member for member in doomed if self._names.older(hash_of(member))}
            if older:
                # Before we look what there is: a refresh makes before it deletes.
                deleted = (("DEL", keys.session(hash_of(m))) for m in older)
                left = ("ZREM", self._names.index(user_id, True), *older)
                await self._kv.ask_all(*deleted, left)
            ours, ended = doomed - older, list[Command]()
            if ours:
                ended.append(("DEL", *(keys.session(hash_of(m)) for m in ours)))
                ended.append(("ZREM", index, *ours))
            *_, members = await self._kv.multi(
                index,
                *ended,
                *(("PUBLISH", REVOKED_CHANNEL, each) for each in told),
                ("ZRANGE", index, 0, -1),
                durable=True,
            )
            if self._kv.sharded:
                members += await self._kv.ask(
                    "ZRANGE", self._names.index(user_id, True), 0, -1
                )
            # A refresh may have moved one since it was read: its new token goes too.
            found = {member.decode() for member in members}
            doomed = {member for member in found if member.partition(".")[0] in logins}

    async def restore(self) -> None:
        """After another Valkey answers than before, or the same one anew: what was
        ended or used up lately is so there, too. Costs nothing else."""
        lineage = self._kv.lineage_of("")
        if not lineage or lineage == self._lineage:
            return
        if self._lineage:
            for user_id, logins in self.spent.logins().items():
                members = []
                for index in self._names.indices(user_id):
                    members += await self._kv.ask("ZRANGE", index, 0, -1)
                known = {member.decode() for member in members}
                back = {each for each in known if each.partition(".")[0] in logins}
                if back:
                    logger.warning("%d ended sessions came back", len(back))
                    await self._end(user_id, back)
            for key, left_s in self.spent.marks().items():
                await self._kv.ask("SET", key, "", "EX", max(1, int(left_s)))
        self._lineage = lineage

    async def revalidate(
        self, sessions: Sequence[Session]
    ) -> dict[str, Session | None]:
        """What each login is now, by login id; None: it has ended.

        One pipelined round trip for 500, two more for those whose token is gone.
        """
        if not sessions:
            return {}
        hashes = [session.token_hash for session in sessions]
        records = await self._from_replica(hashes)
        if records is None:
            records = await self._records(self._kv, hashes)
        found: dict[str, Session | None] = {}
        for session, record in zip(sessions, records, strict=True):
            live = self._live(session.token_hash, record)
            if live is not None:
                # What we wrote last may not have reached the replica yet.
                known = session.expires_at > live.expires_at
                found[session.login_id] = session if known else live
        lost = [session for session in sessions if session.login_id not in found]
        if lost:
            found |= await self._follow(lost)
        return found

    async def _from_replica(self, hashes: Sequence[str]) -> list[Record] | None:
        """The records as the replica has them; None: it is not to be asked."""
        if self._replica is None or time.monotonic() < self._replica_rests_until:
            return None
        try:
            if _in_step(await self._replica.info("replication")):
                return await self._records(self._replica, hashes)
            why = "it is not in step with its primary"
        except Unavailable as problem:
            why = f"{problem.message} {problem.__cause__ or ''}".rstrip()
        self._replica_rests_until = time.monotonic() + _REPLICA_REST_S
        logger.warning("the replica is left alone for a while: %s", why)
        return None

    async def _records(self, kv: Valkey, hashes: Sequence[str]) -> list[Record]:
        found: list[Record] = []
        for start in range(0, len(hashes), AT_ONCE):
            some = hashes[start : start + AT_ONCE]
            asked = (("HGETALL", keys.session(hashed)) for hashed in some)
            found += map(pairs, await kv.ask_all(*asked))
        return found

    async def _follow(self, lost: Sequence[Session]) -> dict[str, Session | None]:
        """Looks for logins by the user's remembered tokens, on the primary."""
        found: dict[str, Session | None] = {
            lost_one.login_id: None for lost_one in lost
        }
        asked = [
            (each, index)
            for each in lost
            for index in self._names.indices(each.user_id)
        ]
        ranges = (("ZRANGE", index, 0, -1) for _, index in asked)
        remembered = await self._kv.ask_all(*ranges)
        hashes = sorted(
            {
                hashed
                for (session, _), members in zip(asked, remembered, strict=True)
                for hashed in hashes_of(session.login_id, members)
            }
        )
        if not hashes:
            return found
        records = await self._records(self._kv, hashes)
        for hashed, record in zip(hashes, records, strict=True):
            live = self._live(hashed, record)
            if live is not None:
                found[live.login_id] = live
        return found

    def _live(self, hashed: str, record: Record) -> Session | None:
        session = read(hashed, record)
        if session is None or self.spent.ended(session.login_id):
            return None
        # The record says itself when it ends: one that Valkey forgot to drop (a clock
        # that jumped, a restore from an old file) is as dead as one it did.
        end = min(session.expires_at, session.started_at + LONGEST_MS)
        return session if self._clock() < end else None


def _in_step(replication: Mapping[str, str]) -> bool:
    """What `INFO replication` says: a replica that hears its primary now."""
    return (
        replication.get("role") == "slave"
        and replication.get("master_link_status") == "up"
        and 0
        <= int(replication.get("master_last_io_seconds_ago", -1))
        <= _REPLICA_SILENCE_S
    )
