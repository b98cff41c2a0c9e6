"""Cell tracking: objects of single frames become tracks, with divisions (lineage) and gaps.

In come label maps [H, W] of frames; out come tracks with parents.

- `detections.py`: measures the objects of a frame: id, centroid, area.
- `link_tracks.py`: links them frame to frame by linear assignment (LAP, laptrack), closes gaps, finds divisions.
- `ctc_format.py`: writes tracks in the format of the Cell Tracking Challenge (masks and res_track.txt).
"""
