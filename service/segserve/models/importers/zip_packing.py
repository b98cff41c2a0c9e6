"""How entries of archives from strangers may be packed."""

import zipfile

# zipfile unpacks each chunk of bzip2 and LZMA at once, whatever it unpacks to: 1 MB may become 20 GB of memory.
# torch.save, wheels and the BioImage Model Zoo use none of them.
SAFE_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def is_safely_packed(entry: zipfile.ZipInfo) -> bool:
    """Whether unpacking an entry takes no more memory than the chunk that is read."""
    return entry.compress_type in SAFE_PACKINGS
