"""The corpus test: every file below a folder through both upload routes of a real service.

    make corpus DIR=folder                         a table, and the list of doubtful files
    python -m tests.corpus folder --json out.json  every answer besides

A file that is accepted is proved: a job reads its frames, and so does this process. What the service answers is
compared with independent readers (Pillow, tifffile, PyAV, nibabel, SimpleITK, pynrrd, pydicom): size, number of
frames, and pixels where both must be equal.

- `independent_readers.py`: reads a file by the library that knows it best, in a process that may crash.
- `service_process.py`: the service, with the memory of all its processes.
- `check_file.py`: sends one file, runs its job, reads its pixels, and compares.
- `verdicts.py`: what a check can find, and which findings break a promise.
- `report.py`: the table.
- `sample_corpus.py`: the small corpus of the default tests.

The exit status is 1 if a promise is broken: a status of 500 or more, a job that fails after a 201, a message with a
path of the server or a library's text, a service that died.
"""
