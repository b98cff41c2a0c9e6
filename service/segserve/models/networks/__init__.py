"""Networks that no library brings. They need torch, so serving does not import them."""
