"""The widget of napari on a real service, without a screen. `make test-napari` has an environment for it."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
napari = pytest.importorskip("napari", reason="napari is not installed: make test-napari has it")
pytest.importorskip("pytestqt", reason="pytest-qt is not installed: make test-napari has it")

from PIL import Image as Pillow

from segserve_napari.layers import BOX, LABELS, MASK, POINTS
from segserve_napari.widget import SegserveWidget
from tests import moving_cells
from tests.serving import Server

VALUES, TRUTH = moving_cells.draw_volume()
MIDDLE = 10
TIMEOUT_MS = 120_000
CLICK = (190, 413)  # rows first, as napari has it


@pytest.fixture
def viewer() -> Any:
    """A viewer without its window, which would need OpenGL."""
    return napari.components.ViewerModel()


@pytest.fixture
def widget(viewer: Any, qtbot: Any, server: Server) -> SegserveWidget:
    widget = SegserveWidget(viewer)
    qtbot.addWidget(widget)
    widget.address.setText(server.url)
    widget.connect_button.click()
    wait_idle(widget, qtbot)
    assert widget.model.currentText() == "starter"
    assert widget.marking.isChecked()
    return widget


def wait_idle(widget: SegserveWidget, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: widget._worker is None and not widget._is_stale, timeout=TIMEOUT_MS)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def drag(
    widget: SegserveWidget, start: Any, end: Any, button: int = 1, modifiers: tuple[str, ...] = ()
) -> None:
    """What napari does with the mouse: press, move, release."""

    class Event:
        type = "mouse_press"

    event: Any = Event()
    event.button, event.modifiers, event.position = button, modifiers, start
    acts = widget._on_mouse(widget._viewer, event)
    if next(acts, "ended") == "ended":
        return
    if start != end:
        event.type, event.position = "mouse_move", end
        next(acts)
    event.type = "mouse_release"
    assert next(acts, "ended") == "ended"


def test_clicks_a_box_accept_and_undo(widget: SegserveWidget, viewer: Any, qtbot: Any, nuclei: Path) -> None:
    picture = np.asarray(Pillow.open(nuclei).convert("L"))
    viewer.add_image(picture, name="nuclei", scale=(0.5, 0.5))
    world = tuple(0.5 * value for value in CLICK)
    drag(widget, world, world)
    wait_idle(widget, qtbot)
    mask = viewer.layers[MASK].data > 0
    assert mask[CLICK]
    assert 500 < mask.sum() < 10_000
    assert "Score" in widget.status.text()
    np.testing.assert_allclose(viewer.layers[POINTS].data, [CLICK])
    off = (215, 440)
    drag(widget, *[tuple(0.5 * value for value in off)] * 2, modifiers=("Control",))
    wait_idle(widget, qtbot)
    assert not viewer.layers[MASK].data[off]
    assert len(viewer.layers[POINTS].data) == 2
    widget.undo_mark_button.click()
    wait_idle(widget, qtbot)
    np.testing.assert_array_equal(viewer.layers[MASK].data > 0, mask)

    widget.accept_button.click()
    labels = viewer.layers[LABELS]
    np.testing.assert_array_equal(labels.data == 1, mask)
    assert MASK not in viewer.layers
    assert POINTS not in viewer.layers
    rows, columns = np.nonzero(mask)
    corners = [(rows.min() / 2, columns.min() / 2), (rows.max() / 2, columns.max() / 2)]
    drag(widget, *corners)
    wait_idle(widget, qtbot)
    assert BOX in viewer.layers
    assert overlap(viewer.layers[MASK].data > 0, mask) > 0.8
    drag(widget, (348 / 2, 537 / 2), (348 / 2, 537 / 2))  # another object; the box is kept
    widget.clear_button.click()
    drag(widget, (348 / 2, 537 / 2), (348 / 2, 537 / 2))
    wait_idle(widget, qtbot)
    widget.accept_button.click()
    assert set(np.unique(labels.data)) == {0, 1, 2}
    widget.undo_button.click()
    assert set(np.unique(labels.data)) == {0, 1}
    widget.undo_button.click()
    assert not labels.data.any()


def test_an_object_is_followed_through_a_stack(widget: SegserveWidget, viewer: Any, qtbot: Any) -> None:
    viewer.add_image(VALUES, name="cells")
    viewer.dims.set_point(0, MIDDLE)
    truth = TRUTH == 1
    rows, columns = np.nonzero(truth[MIDDLE])
    centre = (MIDDLE, rows.mean(), columns.mean())
    drag(widget, centre, centre)
    wait_idle(widget, qtbot)
    found = viewer.layers[MASK].data > 0
    assert overlap(found[MIDDLE], truth[MIDDLE]) > 0.7
    assert not np.delete(found, MIDDLE, axis=0).any(), "one slice until it is followed"
    assert widget.follow_button.isEnabled()
    widget.follow_button.click()
    wait_idle(widget, qtbot)
    assert "Followed through 24 slices" in widget.status.text()
    found = viewer.layers[MASK].data > 0
    assert overlap(found, truth) > 0.6
    widget.accept_button.click()
    np.testing.assert_array_equal(viewer.layers[LABELS].data > 0, found)
    widget.undo_button.click()
    assert not viewer.layers[LABELS].data.any(), "one step"


def test_a_slice_along_another_axis(widget: SegserveWidget, viewer: Any, qtbot: Any) -> None:
    viewer.add_image(np.moveaxis(VALUES, 0, 2), name="cells")
    viewer.dims.order = (2, 0, 1)
    viewer.dims.set_point(2, MIDDLE)
    rows, columns = np.nonzero(TRUTH[MIDDLE] == 1)
    centre = (rows.mean(), columns.mean(), MIDDLE)
    drag(widget, centre, centre)
    wait_idle(widget, qtbot)
    assert overlap(viewer.layers[MASK].data[..., MIDDLE] > 0, TRUTH[MIDDLE] == 1) > 0.7


def test_errors_are_one_line_and_no_dialog(widget: SegserveWidget, viewer: Any, qtbot: Any) -> None:
    shown: list[Any] = []
    napari.utils.notifications.notification_manager.notification_ready.connect(shown.append)
    drag(widget, (5, 5), (5, 5))
    assert "Open an image first" in widget.status.text()
    viewer.add_image(np.zeros((50, 60), np.uint8), name="empty")
    viewer.dims.ndisplay = 3
    drag(widget, (5, 5), (5, 5))
    assert "2D" in widget.status.text()
    viewer.dims.ndisplay = 2
    drag(widget, (20, 20), (20, 20), button=2)
    assert "Mark the object too" in widget.status.text()
    widget.clear_button.click()
    widget.address.setText("http://127.0.0.1:9")
    widget.connect_button.click()
    wait_idle(widget, qtbot)
    assert "cannot be reached" in widget.status.text()
    assert "orangered" in widget.status.styleSheet()
    assert not shown


def test_connections_are_closed_with_the_widget(viewer: Any, qtbot: Any, server: Server) -> None:
    widget = SegserveWidget(viewer)  # qtbot does not get it: it would close what is deleted
    service = widget._service
    widget.address.setText(server.url)
    widget.connect_button.click()
    wait_idle(widget, qtbot)
    first = service.client
    widget.connect_button.click()  # again: the old connections are closed
    wait_idle(widget, qtbot)
    assert service.client is not first
    with pytest.raises(RuntimeError, match="closed"):
        first.version()
    widget.deleteLater()
    qtbot.waitUntil(lambda: service._client is None, timeout=TIMEOUT_MS)
    service.close()


def test_a_key_is_sent_and_one_that_cannot_be_is_told(widget: SegserveWidget, qtbot: Any) -> None:
    widget.api_key.setText("two words")
    widget.connect_button.click()
    wait_idle(widget, qtbot)
    assert "characters that no key has" in widget.status.text()
    widget.api_key.setText(" segserve_a1_b2 ")
    widget.connect_button.click()
    wait_idle(widget, qtbot)
    assert widget._service.client._transport.headers["authorization"] == "Bearer segserve_a1_b2"
