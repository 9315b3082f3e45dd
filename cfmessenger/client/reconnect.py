"""When to reconnect (wire.md §6): the policy of close codes and refused upgrades.

After how long is `cfmessenger.backoff`'s business.
"""

from __future__ import annotations

from cfmessenger.errors import CloseCode

#: 4000-4499 and these (wire.md §6). Beside what the server sends: an end without our
#: asking (1000, 1005, 1006) and a proxy's (1014), treated like a restart.
_RECONNECT = {1000, 1005, 1006, 1014, *(c for c in CloseCode if c.reconnect)}


def reconnects(code: int) -> bool:
    """Whether a connection closed by the server with `code` is worth another try.

    1002, 1003, 1007, 1008, 1009 and 1010 are this client's own fault: doing the same
    again would loop.
    """
    return code in _RECONNECT or 4000 <= code <= 4499


def refusal_is_final(status: int) -> bool:
    """Whether an upgrade refused with this HTTP status will be refused again.

    401 is not: the ticket may have died with a refresh; asking for the next one tells.
    """
    return 400 <= status < 500 and status not in (401, 408, 429)
