"""What the HTTP edge asks of the rest of the gateway, and the parts a request is given.

Owns the two ports behind the endpoints: `Hub` (sockets and actors: presence, logout,
readiness, drain) and `RoomLog` (reading a room's log and mirror without waking the
room). Whoever composes the application brings the adapters; the endpoints know neither
links nor Ray. `Services` holds what endpoints and handshakes share in one process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from starlette.types import Scope, Send

from cfmessenger.accounts.login_rate import LoginRate
from cfmessenger.accounts.sessions import Sessions
from cfmessenger.accounts.tickets import Tickets
from cfmessenger.accounts.turnstile import Turnstile, turnstile
from cfmessenger.accounts.users import Directory
from cfmessenger.chat.ratelimit import UserRates
from cfmessenger.clock import Clock
from cfmessenger.settings import Settings
from cfmessenger.storage.shared_rate import UserRate, new_room_rate, write_rate
from cfmessenger.storage.valkey import Valkey
from cfmessenger.wire.protocol import Status
from gateway.api.whereabouts import Whereabouts

if TYPE_CHECKING:  # SQLAlchemy is loaded by who composes the application, or not at all
    from cfmessenger.data.names import Names
    from cfmessenger.data.store import Store
    from gateway.api.admission import Admission
    from gateway.live.readiness import Ready

CALLS = (100, 10_000)
"""(count, ms) of one user at one gateway (wire.md §1): refreshes, tickets and statuses,
each of which writes something to Valkey. A crowd of tabs that reconnect stays far
below."""


class Hub(Protocol):
    """The gateway's side of sockets and actors."""

    async def start(self) -> None:
        """Ready for the first socket when it returns; called once, before requests."""

    async def serve(self, admission: Admission, scope: Scope, send: Send) -> None:
        """Accepts the socket of an admitted handshake, or refuses it with an
        envelope. May return while the socket is open."""

    async def presence_update(self, user_id: str, status: Status) -> None:
        """Tells the registry a status; it is where the next socket looks for it when
        this returns (wire.md §1). May raise `Unavailable`."""

    async def close_login(self, login_id: str, code: int, reason: str) -> None:
        """Closes this process's sockets of a login; none is not an error."""

    def ready(self) -> Ready:
        """Whether traffic is welcome: not while draining, for one."""

    async def drain(self) -> None:
        """Lets go of every socket and link; the last call."""


class RoomLog(Protocol):
    """Reads of an object's log and mirror. All may raise `Unavailable`."""

    async def page(
        self, name: str, before: int | None, limit: int
    ) -> list[tuple[int, bytes]]:
        """The newest `limit` events below seq `before` (None: the top), oldest first.

        Each is its seq and the Message's wire JSON.
        """

    async def mirror(self, name: str) -> bytes | None:
        """The latest snapshot of the object, None if it was never mirrored."""


class Data(Protocol):
    """Makes the store of the collections, and what keeps the directory in step."""

    def __call__(self, kv: Valkey, directory: Directory) -> tuple[Store, Names]: ...


@dataclass(kw_only=True)
class Services:
    """The parts of one gateway process."""

    settings: Settings
    kv: Valkey
    replica: Valkey  # for revalidating sessions; a client of the primary if unset
    sessions: Sessions
    tickets: Tickets
    turnstile: Turnstile
    login_rate: LoginRate
    write_rate: UserRate
    new_room_rate: UserRate
    directory: Directory
    log: RoomLog
    clock: Clock
    whereabouts: Whereabouts
    store: Store | None = None  # None: no collections
    names: Names | None = None  # there if `store` is
    # Counted in this process alone: what they limit is cheap, and leaves nothing long.
    calls: UserRates = field(default_factory=lambda: UserRates(*CALLS))
    hub: Hub = field(init=False)  # needs the other parts, so it is made last

    @classmethod
    def build(
        cls,
        settings: Settings,
        hub: Callable[[Services], Hub],
        log: RoomLog,
        sql: Data | None = None,
    ) -> Services:
        """Everything these settings describe. Nothing is contacted yet."""
        if settings.valkey_url is None:
            raise ValueError(
                "a gateway needs CFM_VALKEY_URL (`cfmessenger up` sets it)"
            )
        clock = Clock()
        kv = Valkey(settings.valkey_url)
        # A client connects when it is first used, so an unused one costs nothing.
        replica = Valkey(settings.valkey_replica_url or settings.valkey_url)
        sessions = Sessions(
            kv,
            ttl_s=settings.session_ttl,
            most=settings.max_sessions_per_user,
            replica=replica if settings.valkey_replica_url else None,
            clock=clock.now,
        )
        directory = Directory.load(settings.users)
        store, names = (None, None) if sql is None else sql(kv, directory)
        services = cls(
            settings=settings,
            kv=kv,
            replica=replica,
            sessions=sessions,
            tickets=Tickets(kv, sessions, clock=clock.now),
            turnstile=turnstile(
                kv,
                settings.turnstile_secret_key,
                url=settings.turnstile_url,
                hostnames=settings.turnstile_hostnames,
                spent=sessions.spent,
            ),
            login_rate=LoginRate(
                kv, settings.login_rate.count, settings.login_rate.seconds
            ),
            write_rate=write_rate(kv, settings.write_rate),
            new_room_rate=new_room_rate(kv, settings.new_room_rate),
            directory=directory,
            log=log,
            clock=clock,
            whereabouts=Whereabouts(kv),
            store=store,
            names=names,
        )
        services.hub = hub(services)
        return services

    async def aclose(self) -> None:
        """Gives back every connection."""
        if self.store is not None:
            await self.store.aclose()
        await self.turnstile.aclose()
        self.replica.close()
        self.kv.close()
