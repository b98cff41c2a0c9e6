"""Fields of headers in text: NRRD and MetaImage."""

from segserve.errors import BadInput


def read_fields(header: bytes, separator: bytes) -> dict[str, str]:
    """Return the fields of a header by their names, in lower case and without spaces. Raises ValueError.

    Lines may end with CR LF or LF. Comments (#) and NRRD's key/value pairs (:=) are skipped. A field that is stated
    twice is refused: libraries differ in which of them they take.
    """
    fields = dict[str, str]()
    for line in header.splitlines():
        name, found, value = line.partition(separator)
        key = name.decode("latin-1").strip().lower().replace(" ", "")
        if not found or line.lstrip().startswith(b"#") or value.startswith(b"="):
            continue
        if key in fields and key != "comment":
            raise ValueError
        fields[key] = value.decode("latin-1").strip()
    return fields


def separate_data_error(name: str) -> BadInput:
    """Return the refusal of a lone header. name: of the file with the voxels, as the header says it."""
    return BadInput(
        f"The header says that the voxels are in another file, {name[-100:]!r}.",
        field="file",
        remedy="Send both in one zip, or save the volume as one file: .nii, .nrrd or .mha.",
    )
