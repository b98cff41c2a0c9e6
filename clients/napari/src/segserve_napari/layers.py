"""The layers of the widget: marks, the mask that they give, and the labels that it is accepted into."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image, Labels, Points, Shapes
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray

from segserve_napari.marks import Marks
from segserve_napari.slices import SliceOfLayer, spatial_shape

POINTS, BOX, MASK, LABELS = "segserve points", "segserve box", "segserve mask", "segserve labels"
ON_OBJECT, NOT_ON_OBJECT = "limegreen", "orangered"
MASK_COLOUR = "deepskyblue"  # unlike the labels that it may become


def placement(layer: Image) -> dict[str, Any]:
    """Return how a layer lies in the world, for layers that lie on it."""
    return {"scale": layer.scale, "translate": layer.translate, "rotate": layer.rotate, "shear": layer.shear}


class WidgetLayers:
    """`WidgetLayers` keeps the layers of one viewer. Layers that a user has removed come back when they are needed."""

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer

    def show_marks(self, marks: Marks, place: SliceOfLayer) -> None:
        """Show the clicks and the box of one slice."""
        self._remove(POINTS, BOX)
        with keep_selection(self._viewer):
            if marks.box is not None:
                x0, y0, x1, y1 = marks.box
                corners = [place.from_pixel(x, y) for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
                box = Shapes(
                    [np.array(corners)],
                    shape_type="rectangle",
                    face_color="transparent",
                    edge_color="yellow",
                    edge_width=1.5,
                    name=BOX,
                    **placement(place.layer),
                )
                self._viewer.add_layer(box)
            if marks.points:
                positions = np.array([place.from_pixel(x, y) for x, y in marks.points])
                colours = [ON_OBJECT if label else NOT_ON_OBJECT for label in marks.labels]
                points = Points(
                    positions,
                    face_color=colours,
                    border_color="white",
                    size=8,
                    name=POINTS,
                    **placement(place.layer),
                )
                self._viewer.add_layer(points)

    def show_mask(self, mask: NDArray[np.bool_], place: SliceOfLayer) -> None:
        """Show the mask on one slice."""
        layer = self._get_labels(MASK, place.layer, np.uint8)
        layer.data[place.index] = mask
        layer.refresh()

    def show_slice(self, mask: NDArray[np.bool_] | None, place: SliceOfLayer, number: int) -> None:
        """Show the mask on another slice of the stack. mask: None where the object is not on it."""
        index = tuple(number if axis == place.axis else item for axis, item in enumerate(place.index))
        layer = self._get_labels(MASK, place.layer, np.uint8)
        layer.data[index] = 0 if mask is None else mask
        layer.refresh()

    def clear(self) -> None:
        """Remove the marks and the mask."""
        self._remove(POINTS, BOX, MASK)

    def accept(self, image: Image) -> tuple[int, int]:
        """Write the mask into the labels as a new object, in one step that the layer can undo.

        Returns its number and how many pixels it has. Pixels of other objects stay theirs: 0 pixels are possible.
        """
        if MASK not in self._viewer.layers:
            return 0, 0
        mask = self._viewer.layers[MASK].data > 0
        labels = self._get_labels(LABELS, image, np.int32)
        indices = np.nonzero(mask & (labels.data == 0))
        number = int(labels.data.max()) + 1
        if indices[0].size:
            labels.data_setitem(indices, number)
        return number, int(indices[0].size)

    def undo(self) -> None:
        """Take back what was written into the labels last."""
        if LABELS in self._viewer.layers:
            self._viewer.layers[LABELS].undo()

    def _get_labels(self, name: str, image: Image, dtype: Any) -> Labels:
        shape = spatial_shape(image)
        if name in self._viewer.layers and self._viewer.layers[name].data.shape == shape:
            layer = self._viewer.layers[name]
            assert isinstance(layer, Labels)
            return layer
        self._remove(name) if name == MASK else self._rename(name)
        layer = Labels(np.zeros(shape, dtype), name=name, opacity=0.5, **placement(image))
        if name == MASK:
            layer.colormap = DirectLabelColormap(color_dict={None: "transparent", 1: MASK_COLOUR})
        with keep_selection(self._viewer):
            self._viewer.add_layer(layer)
        return layer

    def _remove(self, *names: str) -> None:
        for name in names:
            if name in self._viewer.layers:
                self._viewer.layers.remove(name)

    def _rename(self, name: str) -> None:
        """Keep labels of another image under another name."""
        if name in self._viewer.layers:
            self._viewer.layers[name].name = f"{name} before"


class keep_selection:
    """Adding a layer selects it; the user goes on with the one that was selected."""

    def __init__(self, viewer: Any) -> None:
        self._viewer, self._selected = viewer, viewer.layers.selection.active

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if self._selected is not None and self._selected in self._viewer.layers:
            self._viewer.layers.selection.active = self._selected
