"""Examples: small web servers, one for each thing that Workers KV is used for.

    api         a small JSON API: notes with compare-and-set (FastAPI, threads)
    flags       feature flags with a kill switch (FastAPI, async)
    personal    per-user content and A/B tests (Flask)
    site        a static site from a folder (Flask)
    tokens      access tokens and revocation (Flask)
    webhooks    a log of webhooks, newest first (FastAPI, async)

Run one:  python -m kvengine.examples.flags          (--help says what to try)
They need their frameworks:  pip install 'kvengine[examples]'

Each of them runs one process: waitress with threads for Flask, one uvicorn worker for the others.
Any number of processes may write to a database, so `gunicorn --workers 4` does as well.
"""

import sys
from importlib.util import find_spec

FRAMEWORKS = ("flask", "waitress", "fastapi", "uvicorn")

# While `python -m` looks for its module, sys.argv[0] is "-m" (docs.python.org, "Command line"):
# here one line can still take the place of a traceback from the first import of a framework.
if sys.argv[:1] == ["-m"]:
    missing = [name for name in FRAMEWORKS if find_spec(name) is None]
    if missing:
        sys.exit(f"missing: {', '.join(missing)}; run: pip install 'kvengine[examples]'")
