"""Find the similar: from one or a few example objects to all objects like them, on the same image or on another.

    examples -> descriptors -> likeness of every cell -> clicks at its maxima -> candidates -> chosen by likeness, size

In: examples (masks, or prompts that are segmented first) on a stored image. Out: `ImageObjects` with a
likeness each.

- `segmenter.py`: `SimilarSegmenter`, the entry. `options.py`: its options, defaults and limits.
- `resolve_examples.py`: examples become masks. `examples.py`: masks become descriptors and sizes.
- `likeness.py`: how like an object is to the examples: a linear score of its descriptor, fitted to the image.
- `click_points.py`: the points of an image that are likely to lie on an object like the examples.
- `search_region.py`: the search of one image or tile: clicks, candidates, choice, rounds.
- `plan_regions.py`: which regions of the image are searched, at which scale. `merge_objects.py`: their objects become
  one list without overlaps.
- `hints.py`: what may be wrong with the answer.
"""
