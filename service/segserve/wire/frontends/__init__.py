"""The protocols of other tools, each under a prefix of its own: a thin translation onto `wire.operations`.

`frontend.py` says what a frontend is, `mounting.py` lists them and adds those of the setting `frontends` to the API,
`error_form.py` writes every refusal in the form of the frontend's protocol. `sent_images.py` recognises images that
come with every click, `sessions.py` keeps what a client does over several requests, `json_body.py` reads bodies. A
frontend is a folder: `open_inference` (KServe, Triton), `x_anylabeling`, `qupath`, `monai` (3D Slicer, OHIF),
`label_studio`, `cvat`, `isat`, `nninteractive`. `own_port.py` serves one at the root of a port of its own too.
"""
