"""Random lives of objects, judged by what docs/handlers.md promises: `python -m tests.chaos.lives`.

Prints what has not held, with the operator, the object's script, its versions and its calls; exits
with 1 if there was anything. `--seed` runs one batch again: the same operator and the same scripts.
"""

import argparse
import contextlib
import os
import random
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

from kopf_finalizers.testing import ApiServer

from ...support.servers import KubeApiServer, Server
from .world import Allowed, Told, batch


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lives", type=int, default=1000)
    parser.add_argument("--objects", type=int, default=10, help="that live beside each other")
    parser.add_argument("--beside", type=int, default=4, help="batches at a time")
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(10**6)))
    parser.add_argument("--real", action="store_true", help="on a kube-apiserver")
    parser.add_argument("--log", action="store_true", help="print the operator's log, too")
    names = [one.name for one in fields(Allowed)]
    parser.add_argument("--without", nargs="*", default=[], choices=names)
    options = parser.parse_args()
    allowed = replace(Allowed(), **dict.fromkeys(options.without, False))
    batches = -(-options.lives // options.objects)
    seeds = [f"{options.seed}-{number}" for number in range(batches)]
    if "-" in options.seed:
        seeds = [options.seed]
    began, lives, violations = time.monotonic(), 0, 0
    with contextlib.ExitStack() as stack:
        server: Server
        if options.real:
            server = stack.enter_context(KubeApiServer(Path(os.environ["KUBEBUILDER_ASSETS"])))
        else:
            server = stack.enter_context(ApiServer())

        def run(seed: str) -> Told:
            with tempfile.TemporaryDirectory(prefix="lives-") as folder:
                return batch(server, Path(folder), seed, objects=options.objects, allowed=allowed)

        # A batch mostly waits: for retries, for faults to end, for its operator to start.
        pool = ThreadPoolExecutor(options.beside)
        stack.callback(pool.shutdown, cancel_futures=True)
        for told in pool.map(run, seeds):
            lives += options.objects
            violations += len(told.violations)
            if told.violations:
                print(told, flush=True)
            if options.log:
                print(told.log)
            if lives % 100 == 0:
                print(f"{lives} lives, {violations} violations", flush=True)
    print(f"seed {options.seed}: {lives} lives in {time.monotonic() - began:.0f} s")
    print(f"violations: {violations}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
