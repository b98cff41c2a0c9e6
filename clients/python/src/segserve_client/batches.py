"""The images of a batch: which of them could be uploaded, and the numbers that their results have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from segserve_client.errors import ClientError, Problem, Unavailable
from segserve_client.job_answers import Item, parse_item
from segserve_client.prompts import Json, Prompt


@dataclass
class BatchImages:
    """`BatchImages` collects the images of a batch while they are uploaded. Numbers are places in the batch, from 0."""

    image_ids: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    failed: list[Item] = field(default_factory=list)

    def add(self, number: int, name: str, image_id: str) -> None:
        self.numbers.append(number)
        self.names.append(name)
        self.image_ids.append(image_id)

    def add_failure(self, number: int, name: str, error: Exception) -> None:
        """Note an image that cannot be used. Raises the error where it says nothing about the image."""
        if isinstance(error, Unavailable) or (
            isinstance(error, ClientError) and not isinstance(error, Problem)
        ):
            raise error
        if not isinstance(error, Problem):
            error = Problem(0, "urn:segserve:problem:not_sent", f"{name}: {error}")
        self.failed.append(Item(number, name, "", None, error, {}))

    def check(self) -> None:
        """Raise the error of the first image where no image can be used, ValueError where there was none."""
        if not self.image_ids and self.failed:
            assert self.failed[0].error is not None
            raise self.failed[0].error
        if not self.image_ids:
            raise ValueError("a batch has at least one image")

    def to_input(self) -> Json:
        return {"image_ids": self.image_ids, "names": self.names}

    def parse(self) -> Callable[[Any], Item]:
        """Return the function that reads a result line, and gives it its number in the batch."""
        numbers = list(self.numbers)

        def parse(content: Any) -> Item:
            item = parse_item(content)
            return replace(item, index=numbers[item.index])

        return parse

    def prompts_to_json(self, prompts: Sequence[Sequence[Prompt]] | None) -> Mapping[str, Any] | None:
        """Return the prompts of each image, by its id. prompts: of each image of the batch, in order."""
        if prompts is None:
            return None
        return {
            image_id: [prompt.to_json() for prompt in prompts[number]]
            for number, image_id in zip(self.numbers, self.image_ids, strict=True)
        }


def choose_names(count: int, names: Iterable[str] | None, default: Callable[[int], str]) -> list[str]:
    """Return the names of so many images. Raises ValueError where there are not as many."""
    listed = [default(number) for number in range(count)] if names is None else list(names)
    if len(listed) != count:
        raise ValueError(f"{count} images need as many names, not {len(listed)}")
    return listed
