"""Answers prompts: points, boxes and masks on an image become masks. The interactive path of the service.

In: prompts in pixels of the original image, and the image's prepared embedding (from `encode/`). Out: masks as crops,
scores, low-res logits, and a mask_id for each, with which the mask can be refined.

- `segmenter.py`: `PromptSegmenter`, all of a segment request
- `click_limit.py`: admission control; refuses clicks under overload (AIMD)
- `check_prompt.py`: is the prompt valid for this image and model?
- `prompt_encoding.py`: prompt -> the decoder's coordinates, labels and mask input (logits of a prior)
- `decode_prompt.py`: one run of the mask decoder, upscaling included
- `mask_choice.py`: multimask output, stability score; which of the candidates are answered
- `object_descriptor.py`: the mean direction of an object in the embedding, to compare objects by
- `mask_cache.py`: logits by mask_id, in this process and in Redis
- `large_images.py`: the region of a tiled image that a prompt needs
"""
