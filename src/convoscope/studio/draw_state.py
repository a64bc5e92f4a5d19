"""The networks that can be drawn for, and the clients of the live channel that hear of every change."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

from . import startup_networks
from .drawables import Drawable, drawable_runs
from .errors import RequestRefused
from .guesses import Guesser
from .messages.draw import PadModels
from .state import Studio

LISTENERS: Final = 64
"""How many clients may listen at the same time."""
_REFRESH_SECONDS = 0.5
"""Time between two looks at the folders while somebody listens and a network is being trained."""
_IDLE_REFRESH_SECONDS = 3.0
_WARM_UP_SECONDS = 2.5
"""Time after the start until torch is imported; a drawing that comes earlier imports it at once."""


def _log(error: Exception) -> None:
    logging.getLogger(__name__).error("internal error in the background", exc_info=error)


@dataclass(eq=False)
class Listener:
    """One client's connection to the live channel."""

    client: str
    dismissed: asyncio.Event = field(default_factory=asyncio.Event)


class DrawState:
    """What the routes of the page Draw share: the networks, the listeners, and the state that was last sent to them.

    Args:
        on_fault: called with every bug of ours in a background task; the task goes on.
    """

    def __init__(self, studio: Studio, on_fault: Callable[[Exception], None] | None = None) -> None:
        self.studio = studio
        self._on_fault = on_fault or _log
        self.startup = startup_networks.StartupNetworks(
            studio.models, self._wake, startup_networks.READY_MADE, self._report
        )
        self.guesser = Guesser()
        self._listeners: list[Listener] = []
        self._sent = PadModels(models=[], unreadable=[])
        self._reported = ""
        self._changed = asyncio.Event()
        self._refresh_now = asyncio.Event()
        self._background: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start to train what is missing, to watch the folders, and soon to import torch."""
        self.startup.start()
        self._background = [asyncio.create_task(self._watch()), asyncio.create_task(self._warm_up())]

    async def stop(self) -> None:
        """End all that runs in the background. A network that is being trained has 5 seconds to save its state."""
        for task in self._background:
            task.cancel()
            await asyncio.wait([task])
        await self.startup.stop()
        await asyncio.to_thread(self.guesser.close)

    def listing(self, role: str) -> PadModels:
        """All networks as they are now; students see those that come with the studio. Reads files."""
        return _visible_to(role, self._read())

    def find(self, identity: str, role: str) -> Drawable:
        """The network with this identity. It is looked up in the listing and never becomes part of a path. Reads files.

        Raises:
            RequestRefused: 404.
        """
        found = self.startup.drawables()
        if identity not in self.startup and role == "owner":
            found, _ = drawable_runs(self.studio.runs)
        for one in found:
            if one.message.id == identity:
                return one
        raise RequestRefused(404, "no-such-model", "There is no such network.", "Choose one from the list.")

    @property
    def listeners(self) -> int:
        """How many clients listen."""
        return len(self._listeners)

    def admit(self, client: str) -> Listener | None:
        """A place for one more. If all are taken, the client that has the most loses its oldest; None if it is this
        client.
        """
        if len(self._listeners) >= LISTENERS:
            most, _ = Counter(one.client for one in self._listeners).most_common(1)[0]
            if most == client:
                return None
            oldest = next(one for one in self._listeners if one.client == most)
            self.leave(oldest)
            oldest.dismissed.set()
        listener = Listener(client)
        self._listeners.append(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Free its place, if it still has one."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    async def news(self, role: str) -> AsyncIterator[str]:
        """The newest state as JSON, at once and whenever it has changed, without end."""
        await self._refresh()
        before = ""
        while True:
            changed = self._changed
            text = _visible_to(role, self._sent).model_dump_json()
            if text != before:
                before = text
                yield text
            else:
                await changed.wait()

    def _read(self) -> PadModels:
        found, unreadable = drawable_runs(self.studio.runs)
        models = [one.message for one in self.startup.drawables() + found]
        return PadModels(models=models, unreadable=self.studio.skipped(unreadable))

    def _wake(self) -> None:
        self._refresh_now.set()

    def _report(self, error: Exception) -> None:
        # A background task may fail in the same way every second; it is reported once.
        if repr(error) != self._reported:
            self._reported = repr(error)
            self._on_fault(error)

    async def _refresh(self) -> None:
        try:
            read = await asyncio.to_thread(self._read)
        except Exception as error:
            # Listeners keep the last state, and get the next one.
            self._report(error)
            return
        if read != self._sent:
            self._sent = read
            self._changed.set()
            self._changed = asyncio.Event()

    async def _warm_up(self) -> None:
        # The import blocks the interpreter for a second or two, so the page that is being opened right now comes first.
        await asyncio.sleep(_WARM_UP_SECONDS)
        self.guesser.warm_up([one.folder for one in await asyncio.to_thread(self.startup.drawables)])

    async def _watch(self) -> None:
        while True:
            pause = _REFRESH_SECONDS if self.startup.busy else _IDLE_REFRESH_SECONDS
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._refresh_now.wait(), pause)
            self._refresh_now.clear()
            if self._listeners:
                await self._refresh()


def _visible_to(role: str, found: PadModels) -> PadModels:
    if role == "owner":
        return found
    return PadModels(models=[model for model in found.models if model.ready_made], unreadable=[])
