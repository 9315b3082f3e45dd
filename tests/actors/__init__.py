"""The actor runtime, on asyncio alone."""
