//! Every parameter of a path, a query or a head, by name.

use crate::limits::{ID_BYTES_MAX, REQUEST_ID_BYTES_MAX, WAIT_MAX};
use serde_json::{Value, json};

/// A place in a stream, or nothing.
const PLACE: &str = "^([0-9]{1,19}-[0-9]{1,19})?$";
/// No control characters.
const PLAIN: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$";

pub(super) fn all() -> Value {
    let id = json!({ "type": "string", "minLength": 1, "maxLength": ID_BYTES_MAX, "pattern": PLAIN });
    let org = json!({ "type": "string", "maxLength": ID_BYTES_MAX, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$" });
    let turn = json!({ "type": "string", "format": "uuid" });
    let place = json!({ "type": "string", "pattern": PLACE });
    let turn_example = "00000000-0000-8002-b7a8-9a72b3e316c8";
    let mut all = json!({
        "MessageId": path("message_id", "The turn's id, as the submission answered it.", &turn, turn_example),
        "UserIdInPath": path("user_id", "The user, percent-encoded.", &id, "alice"),
        "UserId": query("user_id", true, "The user who wrote the message.", &id, "alice"),
        "StreamMessageId": query("message_id", true, "The turn's id.", &json!({ "type": "string", "minLength": 1 }), turn_example),
        "OrgId": query("org_id", false, "Only this organisation; empty is the same as none.", &org, "acme"),
        "TailUserId": query("user_id", false, "Only this user.", &id, "alice"),
        "After": query("after", false, "Begin after this event. `Last-Event-ID` wins over it.", &place, "1-4"),
        "Ticket": query(
            "ticket", false, "From `POST /api/v1/tickets`; in place of a key, for pages that cannot set headers.",
            &json!({ "type": "string" }), "",
        ),
        "Verbose": query("verbose", false, "Name the parts.", &json!({ "type": "string" }), ""),
        "LastEventId": header("Last-Event-ID", "Begin after this event. An EventSource sends it by itself.", &place, "1-4"),
        "Prefer": header(
            "Prefer",
            &format!("`respond-async`, or `wait=N` with N seconds, at most {} (RFC 7240). Others are passed over.", WAIT_MAX.as_secs()),
            &json!({ "type": "string" }),
            "respond-async",
        ),
        "IdempotencyKey": header(
            "Idempotency-Key",
            "Makes a repeat harmless; the same as `client_message_id`, and equal to it if both are there.",
            &json!({ "type": "string", "minLength": 1, "maxLength": ID_BYTES_MAX, "pattern": "^[!-~]([ -~]*[!-~])?$" }),
            "6f1d3c2e",
        ),
        "Traceparent": header(
            "traceparent",
            "Goes on to the agent (W3C Trace Context, version 00). Others are passed over.",
            &json!({ "type": "string" }),
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        "RequestId": header(
            "X-Request-Id",
            &format!("Taken over if it has 1 to {REQUEST_ID_BYTES_MAX} of `A-Za-z0-9-_.:+/=@`, else replaced."),
            &json!({ "type": "string" }),
            "checkout-17",
        ),
    });
    if let Some(all) = all.as_object_mut() {
        super::callbacks::parameters(all);
        super::sockets::parameters(all);
        super::topics::parameters(all);
        super::queues::parameters(all);
        super::bus::parameters(all);
        super::streams::parameters(all);
    }
    all
}

fn path(name: &str, description: &str, schema: &Value, example: &str) -> Value {
    parameter("path", name, true, description, schema, example)
}

fn query(name: &str, required: bool, description: &str, schema: &Value, example: &str) -> Value {
    parameter("query", name, required, description, schema, example)
}

fn header(name: &str, description: &str, schema: &Value, example: &str) -> Value {
    parameter("header", name, false, description, schema, example)
}

fn parameter(
    place: &str,
    name: &str,
    required: bool,
    description: &str,
    schema: &Value,
    example: &str,
) -> Value {
    json!({
        "in": place, "name": name, "required": required, "description": description, "schema": schema,
        "example": example,
    })
}
