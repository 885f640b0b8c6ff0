"""`python -m kopf_finalizers`: the same as `kopf-finalizers`."""

from .cli import main

main(prog_name="kopf-finalizers")
