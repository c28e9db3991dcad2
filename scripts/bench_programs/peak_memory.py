"""Runs a command and says how long it took and how much memory it held at its peak.

Usage: peak_memory.py COMMAND [ARGUMENT...]
"""

import resource
import subprocess
import sys
import time

if len(sys.argv) < 2:
    sys.exit(__doc__)
started = time.monotonic()
code = subprocess.call(sys.argv[1:])
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
seconds = time.monotonic() - started
print(f"{seconds:.1f} s, {usage.ru_utime + usage.ru_stime:.1f} s of processor, peak memory {usage.ru_maxrss / 1024:.0f} MiB", flush=True)
sys.exit(code)
