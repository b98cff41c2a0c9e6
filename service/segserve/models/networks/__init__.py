"""Networks that no library brings, in torch: the starter (`starter.py`) and two U-Nets (`unet.py`).

`sam2.py` builds SAM 2 from its library's configurations. Serving does not import them, because they need torch.
"""
