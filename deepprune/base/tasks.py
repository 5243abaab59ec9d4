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
    """Ctrl-C and SIGTERM cancel the work, so that requests are aborted, then interrupt.

    Only work that waits in the event loop: what holds it up (an engine's start) would not hear of them.
    """
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        if asyncio.current_task().cancelling():  # not by a signal
            raise
        raise KeyboardInterrupt from None
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
