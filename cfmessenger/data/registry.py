"""The collections there are, their row structs and their rules; pure.

`users` is the seeded list: everybody reads it, and people change what they are called,
what they say about themselves and their picture. `orders` are their owner's alone.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from cfmessenger.data import tables
from cfmessenger.data.collection import Collection, Row
from cfmessenger.data.currencies import CURRENCIES
from cfmessenger.errors import ProtocolError
from cfmessenger.wire.decoding import check_display_name, check_personal_message
from cfmessenger.wire.visible import SHOWS

Milliseconds = Annotated[int, Meta(ge=0, le=2**53 - 1)]

# `(?!\n)$` and not `\Z`: the same pattern is published as JSON Schema.
_LINE = (
    rf"^({SHOWS}"
    r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+)?(?!\n)$"
)
_NO_CONTROLS = rf"^{SHOWS}[^\x00-\x1f\x7f-\x9f]*(?!\n)$"

MAX_TOTAL = 2**53 - 1
"""The largest total of an order: what a JavaScript number still counts exactly."""


class UserRow(Row):
    """A person or bot of the seeded list, as `User` of wire.md less the live status."""

    email: str
    display_name: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=50,
            description="must be text of 1-50 characters, not blank, without control "
            "or bidirectional-override characters",
        ),
    ]
    avatar_id: Annotated[
        str,
        Meta(
            pattern=r"^[a-z0-9_-]{1,64}(?!\n)$",
            description="must be 1-64 of a-z 0-9 _ -",
        ),
    ]
    is_ai_bot: bool
    personal_message: (
        Annotated[
            str,
            Meta(
                max_length=200,
                pattern=_LINE,
                description="must be text of 0-200 characters on one line, empty or "
                "not blank, without control or bidirectional-override characters",
            ),
        ]
        | None
    ) = None
    persona: str | None = None
    bot_archetype: str | None = None
    bot_style: str | None = None


def user_rule(before: UserRow | None, after: UserRow) -> UserRow:
    """Names are those that wire.md §2 allows; an empty message is none."""
    check_display_name(after.display_name)
    message = after.personal_message or None
    if message is not None:
        check_personal_message(message)
    return msgspec.structs.replace(after, personal_message=message)


class Item(
    msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True, gc=False
):
    """One line of an order; `unit_price` in the currency's minor unit."""

    name: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=200,
            pattern=_NO_CONTROLS,
            description="must be text of 1-200 characters, not blank, without control "
            "characters",
        ),
    ]
    quantity: Annotated[
        int,
        Meta(ge=1, le=10**6, description="must be an integer from 1 to 1,000,000"),
    ]
    unit_price: Annotated[
        int,
        Meta(
            ge=0,
            le=10**12,
            description="must be an integer from 0 to 10^12, in minor units",
        ),
    ]


class Order(Row):
    """What somebody ordered."""

    owner_id: str
    items: Annotated[
        list[Item],
        Meta(min_length=1, max_length=100, description="must be a list of 1-100 items"),
    ]
    currency: Annotated[
        str,
        Meta(pattern=r"^[A-Z]{3}(?!\n)$", description="must be an ISO 4217 code"),
    ]
    # No default: it would be left out on the wire.
    status: Annotated[
        Literal["placed", "paid", "shipped", "cancelled"],
        Meta(description="must be placed, paid, shipped or cancelled"),
    ]
    created_at: Milliseconds
    updated_at: Milliseconds


NEXT: dict[str, tuple[str, ...]] = {
    "placed": ("paid", "cancelled"),
    "paid": ("shipped", "cancelled"),
    "shipped": (),
    "cancelled": (),
}
"""Where an order may go from where it is; staying is no transition."""


def order_rule(before: Order | None, after: Order) -> Order:
    """A known currency, a total that can be counted, and a legal step of the status.

    What is ordered, and in which currency, is settled once the order is paid.
    """
    if after.currency not in CURRENCIES:
        raise ProtocolError(
            "VALIDATION_ERROR", "must be an ISO 4217 code", field="currency"
        )
    if sum(item.quantity * item.unit_price for item in after.items) > MAX_TOTAL:
        raise ProtocolError(
            "VALIDATION_ERROR", "must have a total below 2^53", field="items"
        )
    if before is None:
        return after
    if after.status != before.status and after.status not in NEXT[before.status]:
        raise ProtocolError(
            "CONFLICT",
            f"an order that is {before.status} cannot become {after.status}",
            field="status",
        )
    for name in ("items", "currency"):
        changed = getattr(after, name) != getattr(before, name)
        if changed and before.status != "placed":
            raise ProtocolError(
                "CONFLICT", f"is settled once an order is {before.status}", field=name
            )
    return after


COLLECTIONS = {
    each.name: each
    for each in (
        Collection(
            name="users",
            row=UserRow,
            table=tables.users,
            owner="id",
            public=True,
            changes=("display_name", "personal_message", "avatar_id"),
            rule=user_rule,
            listed=tables.users.c.listed,
        ),
        Collection(
            name="orders",
            row=Order,
            table=tables.orders,
            owner="owner_id",
            creates=("items", "currency"),
            initial={"status": "placed"},
            changes=("items", "currency", "status"),
            deletes=True,
            sort="-createdAt",
            rule=order_rule,
        ),
    )
}
