"""A WSGI service with a counter and sessions, for servers with many workers.

Every worker has the database open for writing: opened when it imported this, or by the process that
it was forked from.  Each answer is JSON with the pid of the worker.
"""

import json
import os
import secrets

import kvengine

db = kvengine.open(os.environ["KVENGINE_TEST_DB"])
counters, sessions, settings = map(db.namespace, ("counters", "sessions", "settings"))
settings.get("color")  # what was read before a fork is as new as the rest after it


def answer(path):
    """Return what a path asks for; None: there is no such session."""
    _, what, *name = path.split("/")
    if what == "visit":
        return {"value": counters.increment("visits")}
    if what == "login":
        session, user = secrets.token_hex(8), {"user": name[0], "visits": 0}
        sessions.put(session, user, type="json", if_version=0, expiration_ttl=3600)
        return {"session": session}
    if what == "session":
        return touch(name[0])
    return {"value": settings.get(name[0]) if name else None}


def touch(session):
    """Count a visit in a session by compare-and-set."""
    while True:
        found = sessions.get_with_metadata(session, "json")
        if found.value is None:
            return None
        value = {**found.value, "visits": found.value["visits"] + 1}
        try:
            sessions.put(session, value, type="json", if_version=found.version)
        except kvengine.VersionConflict:
            continue
        return value


def application(environ, start_response):
    """Answer a request."""
    found = answer(environ["PATH_INFO"])
    status = "404 Not Found" if found is None else "200 OK"
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps({"pid": os.getpid()} | (found or {})).encode()]
