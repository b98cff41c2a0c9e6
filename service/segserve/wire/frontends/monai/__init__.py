"""The protocol of MONAI Label, under /monai, which 3D Slicer, OHIF and the `monailabel` client speak.

`models.py` lists models as tasks, `params.py` reads what a request asks for, `volumes.py` finds the volume that it
means, `click.py` segments what is clicked, `whole_volume.py` segments without clicks, `results.py` writes labels.
`sessions.py` has volumes that a client sent for a while, `datastore.py` images and labels that are kept, `batch.py`
segments those. `forms.py` reads multipart bodies, `routes.py` has the routes.
"""
