//! What is said about durable streams. The protocol itself is described by
//! those who publish it.

use super::answers::Success;
use super::operations::Operation;
use super::schemas::none;
use crate::limits::{
    ID_BYTES_MAX, PRODUCER_NUMBER_MAX, STREAM_APPEND_BYTES_MAX, STREAM_LABEL_BYTES_MAX,
    STREAM_NAME_BYTES_MAX, STREAM_ORG_USUAL, STREAM_TTL_SECONDS_MAX,
};
use serde_json::{Map, Value, json};
use turnwise_api::Code;

const TAG: &str = "streams";
const PATH: &str = "/streams/{*path}";
const OFFSET: &str = "0000000000000002_0000000000000011";

pub(super) fn tag() -> Value {
    json!({
        "name": TAG,
        "description": "The open Durable Streams protocol, for the clients that others publish: bytes under a name, \
            appended, and read again from any offset.",
        "externalDocs": { "url": "https://github.com/durable-streams/durable-streams" },
    })
}

const fn bare(status: u16, description: &'static str, headers: &'static [&'static str]) -> Success {
    Success { status, description, media: "", schema: "", headers, examples: none, links: &[] }
}

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        id: "createStream",
        method: "put",
        path: PATH,
        tag: TAG,
        summary: "Create a stream, or make sure that it is there",
        description: "The body, if there is one, is what it begins with. With `Stream-Forked-From` it begins with \
            another stream of the organisation, up to an offset, without a copy of it. A stream of \
            `application/json` holds JSON values; a list in a body is so many of them.",
        parameters: &[
            "StreamPath",
            "StreamOrgId",
            "StreamTtl",
            "StreamExpiresAt",
            "StreamClosed",
            "StreamForkedFrom",
            "StreamForkOffset",
            "StreamForkSubOffset",
        ],
        body: None,
        successes: &[
            bare(201, "It is new.", &["Stream-Next-Offset", "Stream-Closed", "Location"]),
            bare(
                200,
                "It was there, with the same type, time and closure.",
                &["Stream-Next-Offset", "Stream-Closed"],
            ),
        ],
        codes: &[
            Code::NotJson,
            Code::OrgForbidden,
            Code::NotFound,
            Code::RequestTimeout,
            Code::StreamConflict,
            Code::BodyTooLarge,
            Code::UnsupportedMediaType,
            Code::InvalidContent,
            Code::StreamLimit,
            Code::OutcomeUnknown,
            Code::StoreUnavailable,
            Code::Draining,
            Code::Overloaded,
        ],
    },
    Operation {
        id: "appendToStream",
        method: "post",
        path: PATH,
        tag: TAG,
        summary: "Append to a stream, or close it",
        description: "Stored when this answers. With the three `Producer-` headers a repeat is harmless, and a \
            producer that was replaced is told so. `Stream-Closed: true` closes it, together with the append.",
        parameters: &[
            "StreamPath",
            "StreamOrgId",
            "StreamClosed",
            "StreamSeq",
            "ProducerId",
            "ProducerEpoch",
            "ProducerSeq",
        ],
        body: None,
        successes: &[
            bare(
                200,
                "Appended, by a producer that counts.",
                &["Stream-Next-Offset", "Stream-Closed", "Producer-Epoch", "Producer-Seq"],
            ),
            bare(
                204,
                "Appended or closed; or a producer's repeat.",
                &["Stream-Next-Offset", "Stream-Closed", "Producer-Epoch", "Producer-Seq"],
            ),
        ],
        codes: &[
            Code::NotJson,
            Code::OrgForbidden,
            Code::ProducerFenced,
            Code::NotFound,
            Code::RequestTimeout,
            Code::StreamConflict,
            Code::StreamClosed,
            Code::SequenceConflict,
            Code::StreamGone,
            Code::BodyTooLarge,
            Code::UnsupportedMediaType,
            Code::InvalidContent,
            Code::StreamLimit,
            Code::OutcomeUnknown,
            Code::StoreUnavailable,
            Code::Draining,
            Code::Overloaded,
        ],
    },
    Operation {
        id: "deleteStream",
        method: "delete",
        path: PATH,
        tag: TAG,
        summary: "Delete a stream",
        description: "What was forked from it stays as it is; until that is gone too, the name is not free again.",
        parameters: &["StreamPath", "StreamOrgId"],
        body: None,
        successes: &[bare(204, "It is gone.", &[])],
        codes: &[
            Code::OrgForbidden,
            Code::NotFound,
            Code::StreamGone,
            Code::InvalidContent,
            Code::OutcomeUnknown,
            Code::StoreUnavailable,
            Code::Draining,
            Code::Overloaded,
        ],
    },
    Operation {
        id: "readStream",
        method: "get",
        path: PATH,
        tag: TAG,
        summary: "Read a stream",
        description: "A page from an offset on. With `live=long-poll` it waits for something to come, with `live=sse` \
            it sends all that comes as server-sent events `data` and `control`, for about a minute. HEAD tells where the \
            stream ends and how long it lives; it does not live longer for that.",
        parameters: &[
            "StreamPath",
            "StreamOrgId",
            "StreamOffset",
            "StreamLive",
            "StreamCursor",
            "IfNoneMatch",
        ],
        body: None,
        successes: &[
            Success {
                status: 200,
                description: "The page. Only with `Stream-Up-To-Date` is it all there was.",
                media: "*/*",
                schema: "StreamBytes",
                headers: &[
                    "Stream-Next-Offset",
                    "Stream-Up-To-Date",
                    "Stream-Closed",
                    "Stream-Cursor",
                    "Stream-TTL",
                    "Stream-Expires-At",
                    "ETag",
                ],
                examples: none,
                links: &[],
            },
            bare(
                204,
                "Nothing came while it waited.",
                &["Stream-Next-Offset", "Stream-Up-To-Date", "Stream-Closed", "Stream-Cursor"],
            ),
            bare(304, "The page is the one with this `ETag`.", &["Stream-Next-Offset", "ETag"]),
        ],
        codes: READS,
    },
];

const READS: &[Code] = &[
    Code::OrgForbidden,
    Code::NotFound,
    Code::StreamGone,
    Code::InvalidContent,
    Code::OutcomeUnknown,
    Code::StoreUnavailable,
    Code::Overloaded,
];

/// What the bodies of these operations are: any bytes.
pub(super) fn media(id: &str, described: &mut Map<String, Value>) {
    if matches!(id, "createStream" | "appendToStream") {
        let about = format!("At most {STREAM_APPEND_BYTES_MAX} bytes, of the stream's own type.");
        let content = json!({ "*/*": { "schema": { "type": "string", "description": about } } });
        described.insert("requestBody".to_owned(), json!({ "required": false, "content": content }));
    }
}

/// The parameters of these operations.
pub(super) fn parameters(all: &mut Map<String, Value>) {
    let mut add = |key: &str, kind: &str, name: &str, about: &str, schema: Value, example: &str| {
        let parameter = json!({
            "in": kind, "name": name, "required": kind == "path", "description": about, "schema": schema,
            "example": example,
        });
        all.insert(key.to_owned(), parameter);
    };
    let text = |most: usize| json!({ "type": "string", "minLength": 1, "maxLength": most });
    let number = |most: u64| json!({ "type": "integer", "minimum": 0, "maximum": most });
    let offset = || json!({ "type": "string", "pattern": "^[0-9]{16}_[0-9]{16}$" });
    add(
        "StreamPath",
        "path",
        "path",
        "The stream's name, slashes and all.",
        text(STREAM_NAME_BYTES_MAX),
        "chats/7",
    );
    let about = format!(
        "The organisation; needed unless the key is for one alone. On a server without keys it is \
         `{STREAM_ORG_USUAL}` unless said."
    );
    let org = json!({ "type": "string", "maxLength": ID_BYTES_MAX });
    add("StreamOrgId", "query", "org_id", &about, org, "acme");
    let about = "Seconds without a read or an append after which it is over, up to a tenth more. Not with \
                 `Stream-Expires-At`.";
    add("StreamTtl", "header", "Stream-TTL", about, number(STREAM_TTL_SECONDS_MAX), "3600");
    let at = json!({ "type": "string", "format": "date-time" });
    add("StreamExpiresAt", "header", "Stream-Expires-At", "When it is over.", at, "2030-01-01T00:00:00Z");
    let about = "`true`: nothing more is appended behind this.";
    add("StreamClosed", "header", "Stream-Closed", about, json!({ "type": "string" }), "true");
    let about = "Another stream to begin with: its name, or its path on this server.";
    add(
        "StreamForkedFrom",
        "header",
        "Stream-Forked-From",
        about,
        text(STREAM_NAME_BYTES_MAX + 9),
        "/streams/chats/6",
    );
    add(
        "StreamForkOffset",
        "header",
        "Stream-Fork-Offset",
        "Up to here; else up to its end.",
        offset(),
        OFFSET,
    );
    let about = "And so many bytes, or JSON values, of the append behind that.";
    add("StreamForkSubOffset", "header", "Stream-Fork-Sub-Offset", about, number(PRODUCER_NUMBER_MAX), "3");
    let about = "Must be greater, byte for byte, than that of the append before; counted per stream.";
    add("StreamSeq", "header", "Stream-Seq", about, text(STREAM_LABEL_BYTES_MAX), "0007");
    add("ProducerId", "header", "Producer-Id", "Who appends.", text(STREAM_LABEL_BYTES_MAX), "writer-1");
    let about = "Greater with each restart of the producer.";
    add("ProducerEpoch", "header", "Producer-Epoch", about, number(PRODUCER_NUMBER_MAX), "0");
    let about = "0, 1, 2 … in each epoch.";
    add("ProducerSeq", "header", "Producer-Seq", about, number(PRODUCER_NUMBER_MAX), "0");
    let from = json!({ "anyOf": [offset(), { "enum": ["-1", "now"] }] });
    let about = "Where to begin: a `Stream-Next-Offset`, `-1` for the beginning, `now` for the end. Needed with `live`.";
    add("StreamOffset", "query", "offset", about, from, "-1");
    let live = json!({ "type": "string", "enum": ["long-poll", "sse"] });
    add("StreamLive", "query", "live", "Wait for what comes.", live, "long-poll");
    let about = "The `Stream-Cursor` of the answer before.";
    add("StreamCursor", "query", "cursor", about, json!({ "type": "string" }), "88123456");
    let about = "An `ETag`: is it still that?";
    add("IfNoneMatch", "header", "If-None-Match", about, json!({ "type": "string" }), "\"1:2\"");
}

/// The headers of their answers.
pub(super) fn headers(all: &mut Map<String, Value>) {
    let mut add = |name: &str, about: &str, example: &str| {
        let header = json!({ "description": about, "schema": { "type": "string" }, "example": example });
        all.insert(name.to_owned(), header);
    };
    add("Stream-Next-Offset", "Where to read on.", OFFSET);
    add("Stream-Closed", "`true` once nothing more comes.", "true");
    add("Stream-Up-To-Date", "`true` when there was nothing more.", "true");
    add("Stream-Cursor", "To be sent with the next live read.", "88123456");
    add("Stream-TTL", "Seconds without a read or an append after which it is over.", "3600");
    add("Stream-Expires-At", "When it is over.", "2030-01-01T00:00:00.000Z");
    add("Producer-Epoch", "The producer's epoch.", "0");
    add("Producer-Seq", "Its highest that was taken.", "0");
    add("ETag", "Differs when the answer does.", "\"1:2\"");
    add("Location", "The stream's address.", "http://127.0.0.1:8080/streams/chats/7");
}
