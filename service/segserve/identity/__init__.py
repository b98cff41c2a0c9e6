"""Identities: who sends a request, whose data it may reach and what it may do.

The wire finds the identity of a request; everything else asks for it here.
"""
