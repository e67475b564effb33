"""Asks every call of docs/openapi.json what the document lets it ask, and things that it does not, by
schemathesis: no answer is a fault of ours, and each is one of those that the document tells of, in the form
that it tells. `schema.py ROOT EDGE TOKEN APP_ID SERVICE_KEY`; prints what differs."""

import pathlib
import subprocess
import sys

root, edge, token, app_id, service_key = sys.argv[1:]

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
]
# What would end the session that asks, and what only the origin's private port answers.
LEFT_OUT = ["postAuthLogout", "postAuthLogoutAll", "deleteAuthAccount", "getHealthLive", "getHealthReady"]
# Where a service key may stand in a token's place.
OF_APPS = r"^/api/v1/(credits/(use|holds|balance/|grants|refunds)|auth/matrix-session)"
# For both together, with room for a slow machine.
PATIENCE_SECS = 600


def ask(*options):
    command = [
        pathlib.Path(sys.executable).with_name("schemathesis"),
        "run",
        root + "/docs/openapi.json",
        f"--url={edge}",
        f"--checks={','.join(CHECKS)}",
        "--phases=coverage,fuzzing",
        "--max-examples=8",
        # The same requests each time.
        "--generation-deterministic",
        "--generation-with-security-parameters=false",
        "--suppress-health-check=all",
        "--continue-on-failure",
        "--request-timeout=20",
        "--warnings=off",
        "--no-color",
        *options,
    ]
    return subprocess.run(command, timeout=PATIENCE_SECS / 2, check=False).returncode


person = ask(
    f"--header=Authorization: Bearer {token}",
    *(f"--exclude-operation-id={name}" for name in LEFT_OUT),
)
app = ask(
    f"--header=X-App-Id: {app_id}",
    f"--header=X-Service-Key: {service_key}",
    f"--include-path-regex={OF_APPS}",
)
sys.exit(person or app)
