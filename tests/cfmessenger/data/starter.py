"""A gateway's start as a process of its own: migrate and seed the database named."""

import asyncio
import sys

from cfmessenger.accounts.users import Directory
from cfmessenger.data.store import Store


async def start(url: str) -> None:
    store = Store(url)
    sys.stdin.read()  # until all are at the line
    await store.start(Directory.load())
    await store.ping()
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(start(sys.argv[1]))
