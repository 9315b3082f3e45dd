"""What the product sends to Valkey is what its user may send, command for command.

Read off the syntax trees, so it depends on no test's having run: a command that has no
call any more is found in the list, and a call of a new one is missed in it. A call in a
form that is not known here would be overlooked; but every test with a server has the
product's own user, to whom what is not in the list is refused.
"""

import ast
from collections.abc import Iterator
from typing import Any

import valkey

from cfmessenger.cli.embedded_valkey import COMMANDS
from tests.test_layers import modules

SENDING = {"ask", "_execute", "execute_command"}
"""Functions that are given a command, behind a client perhaps."""
CLIENTS = {"client", "kv", "_kv", "_replica", "multi", "pipe", "subscription"}
"""What valkey-py's clients, pipelines and subscriptions are called."""
NOT_FOR_VALKEY = ("cfmessenger/client/", "cfmessenger/load/", "gateway/api/docs/")
METHODS = {"delete": "del", "pubsub": ""}
"""Methods of valkey-py that are named otherwise than what they send."""


def commands(tree: ast.Module) -> Iterator[list[str]]:
    """What may be a command: its first words as far as they are written out."""
    for node in ast.walk(tree):
        parts: list[ast.expr] = []
        if isinstance(node, ast.Tuple | ast.List):
            parts = node.elts
        elif isinstance(node, ast.Call):
            name, on = _last(node.func), getattr(node.func, "value", None)
            if on is not None and _last(on) in CLIENTS:
                yield [METHODS.get(name, name)]
            if name in SENDING:
                parts = node.args if on is not None else node.args[1:]
        words = [each.value for each in parts[:2] if isinstance(each, ast.Constant)]
        if words and isinstance(words[0], str) and words[0].isupper():
            yield [str(each).lower() for each in words]


def _last(node: ast.expr) -> str:
    """The last name of `a`, `self.a` or `self.a.b`."""
    return str(getattr(node, "attr", getattr(node, "id", "")))


def test_every_command_that_may_be_sent_is_sent_and_no_other(
    admin_valkey: valkey.Valkey,
) -> None:
    listed: Any = admin_valkey.command_list()
    known = {each.decode() for each in listed}
    sent: dict[str, str] = {}
    for path, tree in modules("cfmessenger", "actors", "gateway"):
        if path.startswith(NOT_FOR_VALKEY):
            continue
        for first, *more in commands(tree):
            whole = "|".join([first, *more])
            if first in known:
                sent[whole if whole in COMMANDS else first] = path
    assert {name: sent[name] for name in sent if name not in COMMANDS} == {}
    assert [name for name in COMMANDS if name not in sent] == []
