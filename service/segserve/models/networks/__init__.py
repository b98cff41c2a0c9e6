"""Networks that no library brings, in torch: the starter (`starter.py`), two U-Nets (`unet.py`) and TransUNet
(`transunet.py`).

`sam2.py` builds SAM 2 from its library's configurations. Serving does not import them, because they need torch.
"""
