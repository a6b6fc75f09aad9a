"""Fetches the document for schemathesis, without the one answer that allows every status: a message that the agent
refuses with a status of its own choice. The fake agent refuses nothing, so no status may hide behind it."""
import json
import sys

import httpx

server, file = sys.argv[1:]
document = httpx.get(f"{server}/openapi.json", trust_env=False).raise_for_status().json()
assert document["paths"]["/api/v1/message"]["post"]["responses"].pop("4XX")
with open(file, "w") as out:
    json.dump(document, out)
