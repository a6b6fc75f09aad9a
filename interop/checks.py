"""Hooks of schemathesis: what a schema cannot say about a request."""
import schemathesis
from schemathesis.generation import GenerationMode

# Rules about two fields at once, or about a field and the key: each as the answer says it.
BETWEEN_FIELDS = (
    "is required: who asks may see more than one organisation",
    "must be the id of a request to this agent that is still kept",
    "must not stand beside",
    "must equal the header Idempotency-Key, or be left out",
    "must equal Idempotency-Key, or be left out",
    "may only stand beside",
    "exactly one of ids, all: true and filter is required",
    "must be in the future, and after the time of delivery",
    "must be within 366 days from now",
)
# Names with rules that no pattern of the document tells: control characters by Unicode's tables, and lists in a text.
NAMES = (
    "must be a topic of at most",
    "must be a receipt as it came with a message",
    "must be the id of an agent",
    "must have names of 1 to 128 bytes without control characters",
    "must have 1 to 256 bytes and no control characters",
    "is no name of an attribute",
    "true, false or a whole number",
    "each a number or null",
)
TICKET = "The body must be {"
# Cursors and places are those that an answer gave: no pattern tells them from texts that only look like one.
GIVEN = "after"
# Nobody waits for a message here: what a wait brings is looked at elsewhere.
WAIT_MAX = 0.05
LONGEST = 3600
REQUESTS = "POST /api/v1/bus/agents/{agent_id}/messages"


@schemathesis.hook
def before_call(ctx, case, kwargs):
    for holder in (case.query, case.body):
        wait = holder.get("wait_seconds") if hasattr(holder, "get") else None
        try:
            is_long = not isinstance(wait, bool) and 0 < float(wait) <= LONGEST
        except (TypeError, ValueError):
            is_long = False
        if is_long and case.operation.label == REQUESTS:
            # Nobody answers a request here: 504 would be right, and is looked at elsewhere.
            del holder["wait_seconds"]
        elif is_long:
            holder["wait_seconds"] = WAIT_MAX


@schemathesis.check
def valid_data_is_accepted(ctx, response, case):
    """As `positive_data_acceptance`, but for rules that stand between fields, for an id of the client's own that may be
    taken, and for cursors."""
    mode = case.meta.generation.mode if case.meta else None
    if mode != GenerationMode.POSITIVE or response.status_code not in (400, 406, 415, 422):
        return
    both = case.body.get("client_message_id") if isinstance(case.body, dict) else None
    if both is not None and "Idempotency-Key" in case.headers:
        return
    problem = response.json()
    code, errors = problem.get("code"), problem.get("errors") or []
    if GIVEN in (case.query or {}):
        named = [error["pointer"] for error in errors]
        if code == "bad_request" or any("after" in pointer for pointer in named):
            return
    if code == "invalid_content":
        if case.operation.label == "POST /api/v1/tickets" and problem["detail"].startswith(TICKET):
            return
        if errors and all(any(rule in error["detail"] for rule in BETWEEN_FIELDS + NAMES) for error in errors):
            return
    assert code == "idempotency_conflict", f"what the document allows was refused: {response.status_code} {code}"
