"""Bodies that are one of several, told apart by a field."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self, TypeVar

from pydantic import RootModel, ValidationError

OneOf = TypeVar("OneOf")


class DiscriminatedBody(RootModel[OneOf]):
    """Pydantic puts the discriminator's value before the names of the fields at fault, where the request has no such
    level. (A validator could mend that too, but what it hands on counts as Python, in which a list is no tuple.)"""

    discriminator: ClassVar[str]

    @classmethod
    def model_validate_json(cls, *content: Any, **options: Any) -> Self:
        with cls._naming_fields():
            return super().model_validate_json(*content, **options)

    @classmethod
    def model_validate(cls, *content: Any, **options: Any) -> Self:
        with cls._naming_fields():
            return super().model_validate(*content, **options)

    @classmethod
    @contextmanager
    def _naming_fields(cls) -> Iterator[None]:
        try:
            yield
        except ValidationError as error:
            faults: list[Any] = error.errors(include_url=False)
            for fault in faults:
                untold = fault["type"].startswith("union_tag")
                fault["loc"] = (cls.discriminator,) if untold else fault["loc"][1:]
            raise ValidationError.from_exception_data(cls.__name__, faults) from None
