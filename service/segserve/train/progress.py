"""How training tells what it is doing."""

from typing import Protocol


class TrainingProgress(Protocol):
    def stage(self, name: str) -> None:
        """Something without known length begins."""

    def steps(self, done: int, total: int, losses: dict[str, float]) -> None:
        """So many of the steps are done."""

    def scores(self, line: dict[str, float]) -> None:
        """The networks were judged: numbers by name, "step" among them."""


class SilentProgress:
    def stage(self, name: str) -> None: ...

    def steps(self, done: int, total: int, losses: dict[str, float]) -> None: ...

    def scores(self, line: dict[str, float]) -> None: ...
