"""Video object segmentation by SAM 2's memory: masks of prompted objects on all frames, equal to SAM2VideoPredictor's,
with memory that does not grow with the length of the video. Needs torch.

In come RGB frames [H, W, 3] and prompts; out come a mask and a score of each object on every frame.

- `session.py`: one video: add prompts, track frames forward or backward.
- `memory_bank.py`: the memory bank of an object: which memories a frame attends to, and which are dropped.
- `network_steps.py`: the steps of the network: image encoder, memory attention, mask decoder, memory encoder.
- `session_state.py`: saves and restores a session as bytes (checkpoint).
"""
