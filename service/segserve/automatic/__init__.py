"""Automatic segmentation: all objects of an image, a large image or a volume, without prompts.

An image id goes in, `ImageObjects` come out. There are two methods: AIS (automatic instance segmentation of micro-sam:
decoder maps, then a seeded watershed) and AMG (automatic mask generation of SAM: a grid of clicks, filters and NMS).

- `segmenter.py`: `AutomaticSegmenter`, the entry of both methods. `parameters.py`: their parameters and defaults.
- AIS: `ais_map_cache.py` decodes and keeps the maps, `ais_watershed.py` turns them into a label map.
- AMG: `point_grids.py` and `image_crops.py` place the clicks; `amg_candidates.py` decodes them and
  `amg_candidate_cache.py` keeps the results; `amg_filters.py` filters them by predicted IoU, stability score, crop
  edges and NMS; `small_regions.py` removes small holes and islands; `amg_generator.py` runs all these steps.
- `stitch_tiles.py`: objects of overlapping tiles become objects of a large image, one id each.
- `merge_slices.py`: label maps of single slices become objects of a volume, by multicut.
"""
