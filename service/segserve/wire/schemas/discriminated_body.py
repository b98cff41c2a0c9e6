"""A request body that is one of several, chosen by the value of one field: a discriminated union."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self, TypeVar

from pydantic import RootModel, ValidationError

from segserve.wire.http.problems import MAX_KNOWN_FAULTS
from segserve.wire.schemas.common import MAX_BODY_VALUES, PieceLimits

OneOf = TypeVar("OneOf")


class DiscriminatedBody(RootModel[OneOf]):
    """A discriminated union whose errors name fields of the request.

    Pydantic puts the discriminator's value before the path of each field at fault; the request has no such level, and
    it is removed here. A wrap validator would re-validate in Python mode, where strict tuples reject lists.

    discriminator: the field that says which of the bodies it is.
    max_values, pieces: as for `StrictBody`.
    """

    discriminator: ClassVar[str]
    max_values: ClassVar[int] = MAX_BODY_VALUES
    pieces: ClassVar[PieceLimits] = {}

    @classmethod
    def model_validate_json(cls, *content: Any, **options: Any) -> Self:
        with cls._fix_field_paths():
            return super().model_validate_json(*content, **options)

    @classmethod
    def model_validate(cls, *content: Any, **options: Any) -> Self:
        with cls._fix_field_paths():
            return super().model_validate(*content, **options)

    @classmethod
    @contextmanager
    def _fix_field_paths(cls) -> Iterator[None]:
        try:
            yield
        except ValidationError as error:
            if error.error_count() > MAX_KNOWN_FAULTS:
                raise
            faults: list[Any] = error.errors(include_url=False, include_input=False)
            for fault in faults:
                unknown = fault["type"].startswith("union_tag")
                fault["input"] = None  # it may be large, and nobody shows it
                fault["loc"] = (cls.discriminator,) if unknown else fault["loc"][1:]
            raise ValidationError.from_exception_data(cls.__name__, faults) from None
