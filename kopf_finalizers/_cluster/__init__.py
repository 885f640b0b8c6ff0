"""A whole cluster: who holds its objects, one finalizer off many of them, an operator out of it.

Private, for the commands. Nothing here needs Kopf, but for `operators`, which knows what an
operator's own files say; and nothing of the library imports any of it.
"""
