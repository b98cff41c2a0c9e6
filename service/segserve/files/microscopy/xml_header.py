"""Parse the XML in files of microscopes, which has no document type."""

import xml.etree.ElementTree as ET

from segserve.errors import BadInput

# A document type may define entities that grow without end, or name other files.
DOCUMENT_TYPE = "<!DOCTYPE"


def parse_xml(text: str) -> ET.Element:
    """Return the root. Raises BadInput, ET.ParseError."""
    if DOCUMENT_TYPE in text:
        raise BadInput("The file's header has a document type.", field="file", remedy="Save the file again.")
    return ET.fromstring(text)  # noqa: S314
