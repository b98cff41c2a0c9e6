"""What the log says of an object store that does not answer."""

from segserve.store.object_store import MAX_REASON_CHARACTERS, describe_store_error


class GenericError(Exception):
    """Named as obstore's own error of many kinds."""


def test_the_reason_is_what_the_store_said_and_not_the_name_of_the_class() -> None:
    error = GenericError("Generic S3 error: error sending request\n\nDebug source:\nGeneric { .. }")
    assert describe_store_error(error) == "Generic S3 error: error sending request"


def test_a_reason_is_short_and_never_empty() -> None:
    assert describe_store_error(GenericError()) == "GenericError"
    assert len(describe_store_error(GenericError("x" * 10_000))) < MAX_REASON_CHARACTERS + 10
