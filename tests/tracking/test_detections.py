"""The objects of a frame are measured, and which of them touch."""

import numpy as np

from segserve.tracking.detections import measure_detections


def test_the_objects_of_a_frame_are_measured() -> None:
    labels = np.zeros((20, 30), np.uint32)
    labels[2:4, 10:15] = 7
    labels[10:15, 3] = 2
    detections = measure_detections(labels)
    assert detections.ids.tolist() == [2, 7]
    assert detections.centres.tolist() == [[3, 12], [12, 2.5]]  # x, y
    assert detections.areas.tolist() == [5, 10]
    assert not len(detections.contacts.pairs)
    assert measure_detections(np.zeros((20, 30), np.uint32)).count == 0


def test_objects_that_share_a_border_touch() -> None:
    labels = np.zeros((20, 30), np.uint32)
    labels[2:10, 2:8], labels[2:10, 8:14] = 4, 9
    labels[12:18, 2:14] = 6
    contacts = measure_detections(labels).contacts
    assert contacts.pairs.tolist() == [[0, 2]]
    assert contacts.lengths.tolist() == [8]


def test_objects_with_one_pixel_between_them_touch_and_with_two_they_do_not() -> None:
    labels = np.zeros((20, 30), np.uint32)
    labels[2:10, 2:8], labels[2:10, 9:14], labels[2:10, 16:20] = 1, 2, 3
    assert measure_detections(labels).contacts.pairs.tolist() == [[0, 1]]
