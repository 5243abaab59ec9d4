"""asyncio tasks that belong together: none is left running when one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any


async def cancel(tasks: Iterable[asyncio.Task]) -> None:
    """Cancel tasks and wait until all of them have ended. Nothing that they raise is raised here."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def together(coroutines: Iterable[Coroutine]) -> list[Any]:
    """What all of these return, in their order. Raises what the first of them raises, when the others have ended."""
    running = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*running)
    finally:
        await cancel(running)
