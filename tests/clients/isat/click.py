"""Uses ISAT without a screen: it connects, has a picture encoded by the service, and decodes a click itself.

Arguments: host and port of the service, the checkpoint, a folder with one picture, x, y of the click, where to write
the mask (npy) and a screenshot (png).
"""

import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import torch
from ISAT.configs import CHECKPOINT_PATH
from ISAT.widgets.mainwindow import MainWindow
from PyQt5 import QtCore, QtWidgets

host, port, checkpoint, folder, x, y, mask_path, screenshot = sys.argv[1:]
WAIT_S = 300
torch.cuda.is_available()

name = Path(checkpoint).name
if not (Path(CHECKPOINT_PATH) / name).exists():
    shutil.copy(checkpoint, CHECKPOINT_PATH)
application = QtWidgets.QApplication([""])


def fail(*texts: object) -> None:
    raise AssertionError(texts[1:])


for box in ("warning", "question", "information"):
    setattr(QtWidgets.QMessageBox, box, fail)
window = MainWindow()
window.resize(1200, 800)
window.show()


def wait(is_done, what: str) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + WAIT_S
    while not is_done():
        assert time.monotonic() < deadline, what
        application.processEvents(QtCore.QEventLoop.AllEvents, 100)


dialog = window.remote_sam_dialog
dialog.lineEdit_host.setText(host)
dialog.lineEdit_port.setText(port)
dialog.check_connection()
assert dialog.label_name.text() == name, dialog.label_name.text()
window.use_bfloat16 = False
dialog.checkBox_use_remote.setChecked(True)
wait(lambda: window.use_segment_anything, "the model was not loaded")
assert window.use_remote_sam

states: list[tuple[int, str]] = []
QtWidgets.QFileDialog.getExistingDirectory = lambda *arguments, **options: folder
window.open_dir()
window.seganythread.tag.connect(lambda index, state, text: states.append((state, text)))
wait(lambda: window.seganythread.results_dict.get(0, {}).get("input_size"), f"not encoded: {states}")
wait(window.actionSegment_anything_point.isEnabled, "ISAT has no features")
masks = window.segany.predict_with_point_prompt([[float(x), float(y)]], [1])
np.save(mask_path, np.asarray(masks)[0] > 0)

window.actionSegment_anything_point.trigger()
position = window.view.mapFromScene(QtCore.QPointF(float(x), float(y)))
for kind in (QtCore.QEvent.MouseMove, QtCore.QEvent.MouseButtonPress, QtCore.QEvent.MouseButtonRelease):
    from PyQt5.QtGui import QMouseEvent

    event = QMouseEvent(
        kind,
        position,
        window.view.viewport().mapToGlobal(position),
        QtCore.Qt.NoButton if kind == QtCore.QEvent.MouseMove else QtCore.Qt.LeftButton,
        QtCore.Qt.LeftButton if kind == QtCore.QEvent.MouseButtonPress else QtCore.Qt.NoButton,
        QtCore.Qt.NoModifier,
    )
    application.sendEvent(window.view.viewport(), event)
end = time.monotonic() + 3
wait(lambda: time.monotonic() > end, "")
window.grab().save(screenshot)
print("encoded", states)
os._exit(0)
