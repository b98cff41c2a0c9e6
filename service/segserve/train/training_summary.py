"""What a run has gained: the scores of the published weights beside those of the start."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from segserve.models.bundle import Bundle

MIN_GAIN = 1e-4  # a smaller gain does not count as better


def mean_score(scores: Mapping[str, float], judged_by: Sequence[str]) -> float:
    """Return the mean of those of the scores `judged_by` that were measured, by which validations are compared.

    0 where none was: held-out images without large objects have no clicks, for example.
    """
    values = [scores[name] for name in judged_by if name in scores]
    return sum(values) / len(values) if values else 0.0


@dataclass(frozen=True)
class TrainingSummary:
    """The scores on the held-out images, before and after.

    judged_by: the names of the scores whose mean says what is best.
    start: of the start, at step 0. A part that the start does not have has no score there.
    best: of the published weights, with their "step".
    steps: that were done.
    """

    judged_by: tuple[str, ...]
    start: Mapping[str, float]
    best: Mapping[str, float]
    steps: int

    @classmethod
    def of_validations(
        cls, judged_by: tuple[str, ...], lines: Sequence[Mapping[str, float]], best_step: int
    ) -> "TrainingSummary":
        """Return the summary of a run's validations, the first of which is at step 0."""
        best = next(line for line in lines if line["step"] == best_step)
        return cls(judged_by, lines[0], best, int(lines[-1]["step"]))

    @property
    def improved(self) -> bool:
        """Whether the published weights are better than the start, in what both have."""
        shared = [name for name in self.judged_by if name in self.start]
        return mean_score(self.best, shared) > mean_score(self.start, shared) + MIN_GAIN

    @property
    def is_start(self) -> bool:
        """Whether the published weights are those of the start."""
        return self.best["step"] == 0

    def describe_scores(self) -> str:
        """Return for example "click 0.812 -> 0.840, msa 0.371"; without arrow where the start has none."""
        texts = []
        for name in (each for each in self.judged_by if each in self.best):
            before = f"{self.start[name]:.3f} -> " if name in self.start else ""
            texts.append(f"{name} {before}{self.best[name]:.3f}")
        return ", ".join(texts)


@dataclass(frozen=True)
class TrainedModel:
    """What a run returns: the published bundle, and what it has gained."""

    bundle: Bundle
    summary: TrainingSummary
