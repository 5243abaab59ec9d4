"""asyncio tasks that belong together: none is left running when one fails, or when the process is asked to stop."""

from __future__ import annotations

import asyncio
import signal
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


async def under_signals(work: Coroutine) -> Any:
    """Ctrl-C and SIGTERM cancel the work, so that requests are aborted and engines stopped, then interrupt."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
