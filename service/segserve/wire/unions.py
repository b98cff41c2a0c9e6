"""Bodies that are one of several, told apart by a field."""

from typing import Any, ClassVar, Self, TypeVar

from pydantic import ModelWrapValidatorHandler, RootModel, ValidationError, model_validator

OneOf = TypeVar("OneOf")


class Union(RootModel[OneOf]):
    """Pydantic puts the discriminator's value before the names of the fields at fault, where the request has no such
    level."""

    told_by: ClassVar[str]

    @model_validator(mode="wrap")
    @classmethod
    def name_fields(cls, asked: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(asked)
        except ValidationError as error:
            faults: list[Any] = error.errors(include_url=False)
            for fault in faults:
                fault["loc"] = fault["loc"][1:] if fault["loc"] else (cls.told_by,)
            raise ValidationError.from_exception_data(cls.__name__, faults) from None
