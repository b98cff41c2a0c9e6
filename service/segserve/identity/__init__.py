"""Identities: who sends a request, whose data it may reach and what it may do; names and policies of tenants.

The wire finds the identity of a request; everything else asks for it here.
"""
