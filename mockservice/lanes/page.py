"""The page of `mockservice ui` for local lanes: `mockservice lanes --ui`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from mockservice.lanes.errors import LanesError
from mockservice.probe.judge import ByMap
from mockservice.ui.server import ListenError, PageServer
from mockservice.ui.view import View

if TYPE_CHECKING:
    from types import TracebackType

    from mockservice.lanes.local import LocalLanes


class Page:
    """Serves the page of some lanes for the duration of `async with`.

    Raises, from `async with`:
        LanesError: there is no port to listen at.
    """

    def __init__(self, lanes: LocalLanes) -> None:
        self._server = PageServer(_view(lanes))

    async def __aenter__(self) -> Self:
        try:
            await self._server.__aenter__()
        except ListenError as error:
            raise LanesError(str(error)) from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._server.__aexit__(kind, error, traceback)

    @property
    def url(self) -> str:
        """The URL of the page."""
        return self._server.url

    async def show(self, lanes: LocalLanes) -> None:
        """Show the lanes as they are after a move."""
        await self._server.show(_view(lanes))


def _view(lanes: LocalLanes) -> View:
    entrance = lanes.lane_map.example
    return View(
        lanes.url(entrance),
        headers=() if entrance is None else entrance.fields,
        judge=ByMap(lanes.lane_map),
    )
