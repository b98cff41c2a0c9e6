"""A dock widget of napari for segserve.

- `marks.py`: what is marked on one slice
- `slices.py`: the slice of a layer that is shown, and its place in the stack
- `requests.py`: what is asked of the service, without Qt; runs in a thread
- `layers.py`: the layers that show marks and the mask, and the labels that it is accepted into
- `widget.py`: the widget
"""

__version__ = "0.2.0"
