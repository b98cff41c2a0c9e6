"""What a target raises where the service breaks a promise."""


class Broken(Exception):
    """kind: what broke, such as "status" or "hang". signature: equal for what is probably one fault."""

    def __init__(self, kind: str, signature: str, detail: str) -> None:
        super().__init__(f"{kind}: {signature}")
        self.kind, self.signature, self.detail = kind, signature, detail
