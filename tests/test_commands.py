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

from cfmessenger.cli.embedded_valkey import BACKUP_COMMANDS, COMMANDS
from tests.test_layers import modules

OF_ADMINISTRATORS = {"config": "cfmessenger/cli/world.py"}
"""Asked of a server in case we may, by who then does without an answer."""
ERRORS = {"readonly"}
"""How an error begins, which is a command's name, too."""
NOT_FOR_VALKEY = ("cfmessenger/client/", "cfmessenger/load/", "gateway/api/docs/")
OF_THE_BACKUP = ("cfmessenger/storage/copying.py",)
ALWAYS = {"auth", "select", "ping", "info", "multi", "exec"}
"""What the client of Valkey sends by itself, whoever uses it."""


def commands(tree: ast.Module) -> Iterator[list[str]]:
    """What may be a command: its first words as far as they are written out."""
    for node in ast.walk(tree):
        parts: list[ast.expr] = []
        if isinstance(node, ast.Tuple | ast.List):
            parts = node.elts
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute) and node.func.attr == "ask":
                parts = node.args
        words = [each.value for each in parts[:2] if isinstance(each, ast.Constant)]
        if words and isinstance(words[0], str) and words[0].isupper():
            yield [str(each).lower() for each in words]


def test_every_command_that_may_be_sent_is_sent_and_no_other(
    admin_valkey: valkey.Valkey,
) -> None:
    listed: Any = admin_valkey.command_list()
    known = {each.decode() for each in listed}
    sent: dict[str, str] = {}
    copying: set[str] = {"scan"}  # sent by the client, for the copy alone
    for path, tree in modules("cfmessenger", "actors", "gateway"):
        if path.startswith(NOT_FOR_VALKEY):
            continue
        for first, *more in commands(tree):
            whole = "|".join([first, *more])
            name = whole if whole in COMMANDS else first
            if first not in known or name == "scan":
                continue
            if path in OF_THE_BACKUP:
                copying.add(name)
            else:
                sent[name] = path
    assert copying | ALWAYS == set(BACKUP_COMMANDS)
    others = {name: sent[name] for name in sent if name not in {*COMMANDS, *ERRORS}}
    assert others == OF_ADMINISTRATORS
    assert [name for name in COMMANDS if name not in sent] == []
