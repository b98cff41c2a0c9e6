"""The progress that training reports."""

from typing import Protocol


class TrainingProgress(Protocol):
    """`TrainingProgress` receives reports of stages, steps and scores."""

    def stage(self, name: str) -> None:
        """Report that a stage of unknown length begins."""

    def steps(self, done: int, total: int, losses: dict[str, float]) -> None:
        """Report that `done` of `total` steps are done. losses: of the last step, by name."""

    def scores(self, line: dict[str, float]) -> None:
        """Report the scores of a validation, by name, with "step" among them."""


class SilentProgress:
    """`SilentProgress` ignores all reports."""

    def stage(self, name: str) -> None: ...

    def steps(self, done: int, total: int, losses: dict[str, float]) -> None: ...

    def scores(self, line: dict[str, float]) -> None: ...
