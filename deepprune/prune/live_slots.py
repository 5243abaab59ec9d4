"""Places for requests in the engine, shared fairly by the questions that are answered at once."""

from __future__ import annotations

import asyncio
import collections


class Slots:
    """As many requests as may run at once. A free place goes to the question that has the fewest running."""

    def __init__(self, count: int):
        self.free = count
        self.waiting: dict[Share, None] = {}  # questions that wait, the longest waiting one first

    def share(self) -> Share:
        """A question's share: `async with` it for each request."""
        return Share(self)

    def hand_out(self) -> None:
        """Give free places to those that wait."""
        while self.free and self.waiting:
            share = min(self.waiting, key=lambda share: share.running)
            del self.waiting[share]
            turn = next((turn for turn in iter(share.next_turn, None) if not turn.cancelled()), None)
            if share.turns:
                self.waiting[share] = None
            if turn:
                self.free -= 1
                share.running += 1
                turn.set_result(None)


class Share:
    """One question's requests: running, and waiting for their turns in the order in which they came."""

    def __init__(self, slots: Slots):
        self.slots, self.running = slots, 0
        self.turns: collections.deque[asyncio.Future] = collections.deque()

    def next_turn(self) -> asyncio.Future | None:
        """Who waits longest; None: nobody."""
        return self.turns.popleft() if self.turns else None

    async def __aenter__(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self.turns.append(turn)
        self.slots.waiting.setdefault(self)
        self.slots.hand_out()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was its turn just now
                await self.__aexit__()
            raise

    async def __aexit__(self, *_) -> None:
        self.running -= 1
        self.slots.free += 1
        self.slots.hand_out()
