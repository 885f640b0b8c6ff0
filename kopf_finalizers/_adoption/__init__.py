"""Which names an operator has that does not use this library yet, and what it has to say of them.

Private, for `kopf-finalizers adopt`: nothing of an operator is called here, and nothing is written.
"""
