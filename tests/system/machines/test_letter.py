"""What is read off docs/cluster.md: which block is typed where."""

from __future__ import annotations

from tests.system.machines.letter import PAGE, Block, blocks

TEXT = """
# Title

On every machine,
once:

```sh
make install
```

Other words.

On `two` and `three`, a node:

```sh
.venv/bin/cfmessenger node
```

```text
said
```
"""


def test_a_block_has_the_sentence_before_it() -> None:
    first, second, third = blocks(TEXT)
    assert first == Block("sh", "make install\n", "On every machine, once:")
    assert (first.machines, first.role) == (["one", "two", "three"], "")
    assert second.before == "On `two` and `three`, a node:"
    assert (second.machines, second.role) == (["two", "three"], "node")
    assert (third.language, third.before) == ("text", "")


def test_every_block_of_the_page_that_is_typed_says_where() -> None:
    shell = [each for each in blocks(PAGE.read_text()) if each.language == "sh"]
    assert [each.role for each in shell if each.role] == ["head", "node", "gateway"]
    for each in shell:
        assert each.machines or "each terminal" in each.before, each.before
