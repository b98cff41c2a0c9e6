"""The widget: connect, choose a model, click; what it says is in its last line, never in a dialog."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from napari.layers import Image
from napari.qt.threading import thread_worker
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from segserve_client import ClientError, Frame, JobFailed, Mask, Model
from segserve_napari.layers import WidgetLayers
from segserve_napari.marks import Marks
from segserve_napari.requests import FOLLOWED, Service
from segserve_napari.slices import SliceOfLayer, find_slice, full_resolution

DEFAULT_ADDRESS = "http://127.0.0.1:8000"
# A drag that is shorter is a click, in pixels of the slice.
MIN_BOX_PX = 3.0
# What a request can fail by: the service, the picture (its shape or type), or reading it.
EXPECTED_ERRORS = (ClientError, ValueError, OSError)
HELP = "Click on an object; with Control or the right button: not this; drag: a box."


@dataclass(frozen=True)
class Failed:
    """Why a request failed. Not an exception: what a worker raises or returns as one becomes a dialog."""

    reason: str


class SegserveWidget(QWidget):  # type: ignore[misc]
    """`SegserveWidget` is the dock widget. Requests run in a thread, one at a time; the newest marks are asked last."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self._viewer, self._layers, self._service = napari_viewer, WidgetLayers(napari_viewer), Service()
        self._marks = Marks()
        self._place: SliceOfLayer | None = None  # of the marks
        self._worker: Any = None
        self._is_following = False
        self._is_stale = False  # the marks have changed since the request that is going on
        self._build()
        self._connect_events()
        self._update_layers()
        self._say("Enter the address of a service, and connect.")

    # The parts.

    def _build(self) -> None:
        self.address = QLineEdit(DEFAULT_ADDRESS)
        self.address.setAccessibleName("address of the service")
        self.api_key = QLineEdit()
        self.api_key.setAccessibleName("key")
        self.api_key.setEchoMode(QLineEdit.EchoMode.Password)
        self.api_key.setPlaceholderText("if the service asks for one")
        self.api_key.setToolTip(
            "The operator of the service makes it by 'segserve keys add'. It is not stored. Empty: that of the"
            " environment variable SEGSERVE_API_KEY."
        )
        self.connect_button = QPushButton("Connect")
        self.model = QComboBox()
        self.image = QComboBox()
        self.marking = QCheckBox("Mark objects")
        self.marking.setToolTip(HELP)
        self.undo_mark_button = QPushButton("Undo mark")
        self.clear_button = QPushButton("Clear")
        self.follow_button = QPushButton("Follow through the stack")
        self.stop_button = QPushButton("Stop")
        self.accept_button = QPushButton("Accept (Shift-A)")
        self.undo_button = QPushButton("Undo accept")
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        form = QFormLayout()
        form.addRow("Service", make_row(self.address, self.connect_button))
        form.addRow("Key", self.api_key)
        form.addRow("Model", self.model)
        form.addRow("Image", self.image)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(self.marking)
        layout.addLayout(make_row(self.undo_mark_button, self.clear_button))
        layout.addLayout(make_row(self.follow_button, self.stop_button))
        layout.addLayout(make_row(self.accept_button, self.undo_button))
        layout.addWidget(self.status)
        layout.addStretch()

    def _connect_events(self) -> None:
        self.connect_button.clicked.connect(self.connect_to_service)
        self.address.returnPressed.connect(self.connect_to_service)
        self.api_key.returnPressed.connect(self.connect_to_service)
        self.undo_mark_button.clicked.connect(self.undo_mark)
        self.clear_button.clicked.connect(self.clear)
        self.follow_button.clicked.connect(self.follow)
        self.stop_button.clicked.connect(self.stop)
        self.accept_button.clicked.connect(self.accept)
        self.undo_button.clicked.connect(self._layers.undo)
        self._viewer.layers.events.inserted.connect(self._update_layers)
        self._viewer.layers.events.removed.connect(self._update_layers)
        self._viewer.mouse_drag_callbacks.append(self._on_mouse)
        # Bound to the service: the widget itself is half gone when it is destroyed.
        self.destroyed.connect(self._service.close)
        self._viewer.bind_key("Shift-A", lambda _: self.accept(), overwrite=True)
        self._show_state()

    def _update_layers(self, _: object = None) -> None:
        chosen = self.image.currentText()
        self.image.clear()
        self.image.addItems([layer.name for layer in self._viewer.layers if isinstance(layer, Image)])
        self.image.setCurrentText(chosen)

    def _say(self, text: str, *, is_error: bool = False) -> None:
        self.status.setText(text)
        self.status.setStyleSheet("color: orangered" if is_error else "")

    def _show_state(self) -> None:
        """Only what can be done now can be pressed."""
        is_busy = self._worker is not None
        is_connected = self.model.count() > 0
        self.connect_button.setEnabled(not is_busy)
        self.marking.setEnabled(is_connected)
        self.follow_button.setEnabled(
            not is_busy
            and self._marks.can_be_sent
            and self._place is not None
            and self._place.axis is not None
        )
        self.stop_button.setEnabled(self._is_following)
        self.accept_button.setEnabled(not is_busy and bool(self._marks))

    # Requests.

    def _run(self, function: Callable[[], Any], on_done: Callable[[Any], None]) -> None:
        """Run a function in a thread. on_done: takes what it returns, in Qt's thread; errors go into the last line."""

        @thread_worker  # type: ignore[untyped-decorator]
        def run() -> Any:
            try:
                return function()
            except EXPECTED_ERRORS as error:
                return Failed(str(error))

        self._start(run(), on_done)

    def _start(self, worker: Any, on_done: Callable[[Any], None]) -> None:
        def finish(result: Any) -> None:
            self._worker, self._is_following = None, False
            if isinstance(result, Failed):
                self._say(result.reason, is_error=True)
            elif isinstance(result, Exception):  # one that nobody expected; napari shows it too
                self._say(str(result), is_error=True)
            else:
                on_done(result)
            self._show_state()
            if self._is_stale:
                self._ask()

        self._worker = worker
        self._show_state()
        worker.returned.connect(finish)
        worker.errored.connect(finish)
        worker.start()

    def connect_to_service(self) -> None:
        """Connect to the address, and list its models."""
        address, api_key = self.address.text().strip(), self.api_key.text().strip() or None
        self._say(f"Connecting to {address} ...")

        def show(answer: tuple[str, list[Model]]) -> None:
            version, models = answer
            self.model.clear()
            for model in models:
                self.model.addItem(model.name)
                self.model.setItemData(self.model.count() - 1, model.description, Qt.ItemDataRole.ToolTipRole)
                if model.default:
                    self.model.setCurrentText(model.name)
            self.marking.setChecked(bool(models))
            self._say(
                f"segserve {version}. {HELP}" if models else "The service has no model that takes clicks."
            )

        self._run(lambda: self._service.connect(address, api_key), show)

    def _ask(self) -> None:
        """Ask for the mask of the marks; where a request is going on, after it."""
        self._is_stale = self._worker is not None
        if self._is_stale or self._place is None or not self._marks.can_be_sent:
            return
        marks, place, model = self._marks, self._place, self.model.currentText() or None

        def show(mask: Mask) -> None:
            if marks != self._marks:
                return  # an answer to marks that are gone
            self._layers.show_mask(mask.array, place)
            self._layers.show_marks(marks, place)  # on top of the mask
            self._say(f"Score {mask.score:.2f}, {mask.area} pixels. {HELP}")

        self._say("Asking ...")
        self._run(lambda: self._service.segment(place.read, marks, model), show)

    def follow(self) -> None:
        """Follow the object through the stack, both ways, and show it as it comes."""
        if self._place is None or self._place.axis is None or self._worker is not None:
            return
        marks, place, model = self._marks, self._place, self.model.currentText() or None
        total = full_resolution(place.layer).shape[place.axis]
        done = set[int]()

        @thread_worker  # type: ignore[untyped-decorator]
        def run() -> Generator[Frame, None, Failed | None]:
            try:
                yield from self._service.follow(place.read_stack, marks, place.number, model)
            except JobFailed as error:
                return None if error.job.state == "cancelled" else Failed(str(error))
            except EXPECTED_ERRORS as error:
                return Failed(str(error))
            return None

        def show(frame: Frame) -> None:
            found = frame.find(FOLLOWED)
            self._layers.show_slice(None if found is None else found.array, place, frame.index)
            done.add(frame.index)
            ends = "".join(f" It ended at slice {end.frame}: {end.reason}." for end in frame.ends)
            self._say(f"Followed through {len(done)} of {total} slices.{ends}")

        self._is_following = True
        worker = run()
        worker.yielded.connect(show)
        self._say("Sending the stack ...")
        self._start(
            worker, lambda _: self._say(f"Followed through {len(done)} slices. Accept it, or mark again.")
        )

    def stop(self) -> None:
        """Stop following. What came stays."""

        @thread_worker  # type: ignore[untyped-decorator]
        def cancel() -> None:
            with suppress(*EXPECTED_ERRORS):  # the worker that follows says it
                self._service.stop_following()

        cancel().start()

    # Marks.

    def mark_point(self, position: Any, *, on_object: bool) -> None:
        """Add a click at a position in the world."""
        if (pixel := self._to_pixel(position)) is not None:
            self._set_marks(self._marks.add_point(*pixel, on_object=on_object))

    def mark_box(self, start: Any, end: Any) -> None:
        """Set the box, by two positions in the world."""
        first = self._to_pixel(start)
        second = None if self._place is None else self._place.to_pixel(self._place.layer.world_to_data(end))
        if first is None or second is None:
            return
        if max(abs(first[0] - second[0]), abs(first[1] - second[1])) < MIN_BOX_PX:
            self._set_marks(self._marks.add_point(*first, on_object=True))
        else:
            self._set_marks(self._marks.with_box(*first, *second))

    def undo_mark(self) -> None:
        """Take back the last click, or the box where there is no click."""
        marks = self._marks
        self._set_marks(Marks(marks.points[:-1], marks.labels[:-1], marks.box if marks.points else None))

    def clear(self) -> None:
        """Forget the marks and the mask."""
        self._marks, self._place, self._is_stale = Marks(), None, False
        self._layers.clear()
        self._show_state()

    def accept(self) -> None:
        """Write the mask into the labels as a new object. The button beside it undoes it, as Control-Z on the layer."""
        if self._place is None or self._worker is not None:
            return
        number, pixels = self._layers.accept(self._place.layer)
        self.clear()
        if pixels:
            self._say(f"Object {number} has {pixels} pixels. {HELP}")
        else:
            self._say("There is nothing to accept: no mask, or other objects are there.", is_error=True)

    def _to_pixel(self, position: Any) -> tuple[float, float] | None:
        """Return x and y on the slice that is shown; marks of another slice are forgotten."""
        self._update_layers()  # one may have another name
        name = self.image.currentText()
        if name not in self._viewer.layers:
            self._say("Open an image first.", is_error=True)
            return None
        try:
            place = find_slice(self._viewer, self._viewer.layers[name])
        except ValueError as error:
            self._say(str(error), is_error=True)
            return None
        if self._place is None or (place.layer, place.index) != (self._place.layer, self._place.index):
            self.clear()
        pixel = place.to_pixel(place.layer.world_to_data(position))
        if pixel is not None:
            self._place = place
        return pixel

    def _set_marks(self, marks: Marks) -> None:
        if self._place is None:
            return
        self._marks = marks
        if not marks:
            self.clear()
            return
        self._layers.show_marks(marks, self._place)
        if not marks.can_be_sent:
            self._say("Mark the object too: points off it alone do not say where it is.")
        self._show_state()
        self._ask()

    def _on_mouse(self, viewer: Any, event: Any) -> Iterator[None]:
        """A click is a point, a drag a box. The camera stays where it is meanwhile."""
        if not self.marking.isChecked() or not self.marking.isEnabled() or event.button not in (1, 2):
            return
        start, is_off = event.position, event.button == 2 or "Control" in event.modifiers
        pan, viewer.camera.mouse_pan = viewer.camera.mouse_pan, False
        try:
            yield
            while event.type == "mouse_move":
                yield
        finally:
            viewer.camera.mouse_pan = pan
        if is_off:
            self.mark_point(start, on_object=False)
        else:
            self.mark_box(start, event.position)


def make_row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row
