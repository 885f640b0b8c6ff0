"""`python -m kopf_finalizers`: the same as `kopf-finalizers`."""

from ._cli import main

main(prog_name="kopf-finalizers")
