"""Hooks of schemathesis: what a schema cannot say about a message."""
import schemathesis
from schemathesis.generation import GenerationMode


@schemathesis.check
def valid_data_is_accepted(ctx, response, case):
    """As `positive_data_acceptance`, but the client's own id for the message may be taken, and must be one; and a
    cursor is one that a page gave: no pattern tells those from texts that only look like one."""
    mode = case.meta.generation.mode if case.meta else None
    if mode != GenerationMode.POSITIVE or response.status_code not in (400, 406, 415, 422):
        return
    both = case.body.get("client_message_id") if isinstance(case.body, dict) else None
    if both is not None and "Idempotency-Key" in case.headers:
        return
    code = response.json().get("code")
    if case.operation.label == "GET /api/v1/callbacks" and "after" in (case.query or {}):
        assert code == "bad_request", f"not the refusal of a cursor: {response.status_code} {code}"
        return
    assert code == "idempotency_conflict", f"what the document allows was refused: {response.status_code} {code}"
