"""What was encoded, for all encoders together, so that none encodes what another one has, or is at."""

from __future__ import annotations

import asyncio

LEASE_SECONDS = 300.0  # after which an encoder that was to give something is taken for dead
KEPT_BYTES = 1 << 30


class Prompts:
    """Runs as one actor. Contents by key; the oldest are forgotten when they take too much memory."""

    def __init__(self, kept_bytes: int = KEPT_BYTES, lease: float = LEASE_SECONDS):
        self.kept_bytes, self.lease = kept_bytes, lease
        self.contents: dict[str, bytes] = {}
        self.bytes = 0
        self.coming: dict[str, asyncio.Event] = {}

    async def take(self, key: str) -> bytes | None:
        """The content of a key, once it is there; None where the caller is to make it, and to `give` it."""
        while key not in self.contents:
            if key not in self.coming:
                self.coming[key] = asyncio.Event()
                return None
            event = self.coming[key]
            try:
                await asyncio.wait_for(event.wait(), self.lease)
            except asyncio.TimeoutError:
                if self.coming.get(key) is event:
                    del self.coming[key]
        content = self.contents[key] = self.contents.pop(key)  # the newest
        return content

    async def give(self, key: str, content: bytes | None) -> None:
        """What `take` asked for; None where it could not be made, so that another tries."""
        if content is not None and key not in self.contents:
            self.contents[key] = content
            self.bytes += len(content)
            while self.bytes > self.kept_bytes and len(self.contents) > 1:
                self.bytes -= len(self.contents.pop(next(iter(self.contents))))
        event = self.coming.pop(key, None)
        if event:
            event.set()
