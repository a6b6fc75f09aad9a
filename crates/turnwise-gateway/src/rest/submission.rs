//! From a body to a submission: the rules of `POST /api/v1/message`.

use super::rules::{self, Errors};
use crate::auth::Caller;
use crate::error::Failure;
use crate::limits::{ID_BYTES_MAX, METADATA_BYTES_MAX};
use crate::trace;
use bytes::Bytes;
use http::HeaderMap;
use serde_json::error::Category;
use turnwise_api::{ChatRequest, Code, FIELDS_MAX, Field, MessageFields, Shallow};
use turnwise_broker::{CallbackRules, CallbackTarget, Conversation, Submission};
use turnwise_core::limits::PAYLOAD_BYTES_MAX;
use turnwise_metrics::Place;

/// Reads and checks a submission; names everything that is wrong with it.
pub(crate) fn parse(
    body: &[u8],
    headers: &HeaderMap,
    caller: &Caller,
    callbacks: &CallbackRules,
) -> Result<Submission, Failure> {
    let fields: MessageFields<'_> = serde_json::from_str(utf8(body)?).map_err(|error| unreadable(&error))?;
    let mut errors = Errors::default();
    if let Some(name) = fields.repeated {
        errors.add(format!("/{name}"), "must not be given twice");
    }
    if fields.too_many {
        errors.add("", format!("must have at most {FIELDS_MAX} fields"));
    }
    if fields.orgs_differ {
        errors.add("/org", "must equal org_id, or be left out");
    }
    let chat = chat(&fields, &mut errors);
    let request = request(&fields, &chat, &mut errors);
    let client_message_id = client_message_id(&fields, headers, &mut errors)?;
    let callback = callback(&fields, callbacks, &mut errors);
    if !errors.0.is_empty() {
        let unsupported = !callbacks.accepted && errors.0.len() == 1 && fields.callback_url != Field::Absent;
        let unsupported = unsupported && matches!(fields.callback_url, Field::Text(_));
        let code = if unsupported { Code::CallbacksUnsupported } else { Code::InvalidContent };
        return Err(Failure::invalid(code, errors.0));
    }
    if !caller.sees(request.org) {
        return Err(Failure::new(Code::OrgForbidden, "This API key is not for this org_id"));
    }
    Ok(Submission {
        org: request.org.to_owned(),
        user: request.user_id.to_owned(),
        client: request.client_id.to_owned(),
        conversation: chat.conversation(request.user_id),
        client_message_id,
        request: forwarded(&request, body.len())?,
        prefer_stream: false,
        callback,
        redrive_of: None,
        traceparent: trace::of(headers).map(Place::header),
    })
}

/// Where the end is to be posted, if that is wanted and allowed.
fn callback(
    fields: &MessageFields<'_>,
    callbacks: &CallbackRules,
    errors: &mut Errors,
) -> Option<CallbackTarget> {
    let url = errors.optional("/callback_url", &fields.callback_url)?;
    if !callbacks.accepted {
        errors.add("/callback_url", "must be left out: this server has no secret to sign callbacks with");
        return None;
    }
    match callbacks.check(url) {
        Ok(target) => Some(target),
        Err(detail) => {
            errors.add("/callback_url", detail);
            None
        }
    }
}

/// The whole of it: what is inside a field that is passed over is JSON too.
pub(super) fn utf8(body: &[u8]) -> Result<&str, Failure> {
    std::str::from_utf8(body).map_err(|error| {
        let at = error.valid_up_to();
        Failure::new(Code::NotJson, format!("The body is not JSON: byte {at} is not UTF-8"))
    })
}

pub(super) fn unreadable(error: &serde_json::Error) -> Failure {
    let at = format!("line {}, column {}", error.line(), error.column());
    match error.classify() {
        Category::Data => {
            let mut errors = Errors::default();
            errors.add("", "must be one JSON object");
            Failure::invalid(Code::InvalidContent, errors.0)
        }
        Category::Eof => Failure::new(Code::NotJson, format!("The body ends inside a JSON value, at {at}")),
        Category::Syntax | Category::Io => {
            Failure::new(Code::NotJson, format!("The body is not JSON, or nests too deeply, at {at}"))
        }
    }
}

/// Which chat a message was written in.
#[derive(Default)]
struct Chat<'a> {
    kind: Option<&'a str>,
    group: bool,
    id: Option<&'a str>,
    thread: Option<&'a str>,
}

impl Chat<'_> {
    /// In groups the unit of order is the group or its thread, not the user.
    fn conversation(&self, user: &str) -> Conversation {
        match self.id {
            Some(chat) if self.group => {
                Conversation::Group { chat: chat.to_owned(), thread: self.thread.map(str::to_owned) }
            }
            _ => Conversation::User { user: user.to_owned() },
        }
    }
}

fn chat<'f>(fields: &'f MessageFields<'_>, errors: &mut Errors) -> Chat<'f> {
    let kind = errors.optional("/chat_type", &fields.chat_type);
    let group = match kind {
        None | Some("private") => false,
        Some("group" | "supergroup") => true,
        Some(_) => {
            errors.add("/chat_type", "must be private, group or supergroup");
            false
        }
    };
    if group && fields.chat_id == Field::Absent {
        errors.add("/chat_id", "is required for a group");
    }
    Chat {
        kind,
        group,
        id: errors.checked("/chat_id", &fields.chat_id, rules::id),
        thread: errors.checked("/thread_id", &fields.thread_id, rules::id),
    }
}

/// What the agent gets.
fn request<'f>(fields: &'f MessageFields<'_>, chat: &Chat<'f>, errors: &mut Errors) -> ChatRequest<'f> {
    let message_type = errors.optional("/message_type", &fields.message_type).unwrap_or("text");
    let audio = message_type == "audio";
    if !audio && message_type != "text" {
        errors.add("/message_type", "must be text or audio");
    }
    let message = errors.checked("/message", &fields.message, rules::text).unwrap_or_default();
    let is_text = matches!(fields.message, Field::Absent | Field::Text(_));
    if !audio && is_text && message.trim().is_empty() {
        errors.add("/message", "must hold text that is not blank");
    }
    for (pointer, field) in [("/audio_base64", &fields.audio_base64), ("/audio_format", &fields.audio_format)]
    {
        if audio && *field == Field::Absent {
            errors.add(pointer, "is required when message_type is audio");
        }
    }
    let metadata = fields.metadata;
    if metadata.is_some_and(|raw| raw.get().len() > METADATA_BYTES_MAX) {
        errors.add("/metadata", format!("must have at most {METADATA_BYTES_MAX} bytes"));
    } else if metadata.is_some_and(|raw| serde_json::from_str::<Shallow>(raw.get()).is_err()) {
        errors.add("/metadata", "must hold Unicode texts and finite numbers, and not nest deeply");
    }
    let hint = &fields.response_language_hint;
    ChatRequest {
        client_id: errors.required("/client_id", &fields.client_id, rules::client_id),
        user_id: errors.required("/user_id", &fields.user_id, rules::id),
        message,
        message_type,
        org: errors.required("/org_id", &fields.org_id, rules::id),
        audio_base64: errors.checked("/audio_base64", &fields.audio_base64, rules::audio),
        audio_format: errors.checked("/audio_format", &fields.audio_format, rules::label),
        chat_type: chat.kind,
        chat_id: chat.id,
        thread_id: chat.thread,
        speaker: errors.checked("/speaker", &fields.speaker, rules::label),
        addressed_to_bot: errors.boolean("/addressed_to_bot", &fields.addressed_to_bot),
        response_language_hint: errors.checked("/response_language_hint", hint, rules::label),
        metadata,
    }
}

/// The client's own id for the message: from the body, or the header
/// `Idempotency-Key`, which is the same under another name.
fn client_message_id(
    fields: &MessageFields<'_>,
    headers: &HeaderMap,
    errors: &mut Errors,
) -> Result<Option<String>, Failure> {
    let own = errors.checked("/client_message_id", &fields.client_message_id, rules::id);
    let Some(header) = headers.get(http::HeaderName::from_static("idempotency-key")) else {
        return Ok(own.map(str::to_owned));
    };
    let Some(key) = header.to_str().ok().filter(|key| rules::id(key).is_none()) else {
        let detail = format!("Idempotency-Key must have 1 to {ID_BYTES_MAX} visible ASCII characters");
        return Err(Failure::new(Code::BadRequest, detail));
    };
    if own.is_some_and(|own| own != key) {
        errors.add("/client_message_id", "must equal the header Idempotency-Key, or be left out");
    }
    Ok(Some(key.to_owned()))
}

fn forwarded(request: &ChatRequest<'_>, body_bytes: usize) -> Result<Bytes, Failure> {
    let mut json = Vec::with_capacity(body_bytes + 64);
    serde_json::to_writer(&mut json, request).map_err(|error| {
        tracing::error!(%error, "a request to the agent could not be written");
        Failure::new(Code::Internal, "The message could not be written")
    })?;
    if json.len() > PAYLOAD_BYTES_MAX {
        return Err(Failure::new(
            Code::BodyTooLarge,
            format!("A message has at most {PAYLOAD_BYTES_MAX} bytes"),
        ));
    }
    Ok(Bytes::from(json))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop where it fails")]
    use super::*;

    const GOOD: &str = r#""user_id":"u","org_id":"o","client_id":"web","message":"hi""#;

    fn parsed(json: &str) -> Result<Submission, Failure> {
        parse_with(json.as_bytes(), &CallbackRules::default())
    }

    fn parse_with(body: &[u8], callbacks: &CallbackRules) -> Result<Submission, Failure> {
        parse(body, &HeaderMap::new(), &Caller::anyone(), callbacks)
    }

    fn forwarded(json: &str) -> String {
        String::from_utf8(parsed(json).unwrap().request.to_vec()).unwrap()
    }

    /// A body is refused with this code, and exactly these places are named.
    fn refused(json: &str, code: Code, pointers: &[&str]) {
        let Err(failure) = parsed(json) else { panic!("accepted: {json}") };
        assert_eq!(failure.code(), code, "{json}");
        let named: Vec<_> = failure.errors().iter().map(|e| e.pointer.as_ref()).collect();
        assert_eq!(named, pointers, "{json}");
    }

    #[test]
    fn the_agent_gets_the_known_fields_and_nothing_else() {
        assert_eq!(
            forwarded(&format!(r#"{{{GOOD},"client_message_id":"c","x":1,"chat_type":null}}"#)),
            r#"{"client_id":"web","user_id":"u","message":"hi","message_type":"text","org":"o"}"#
        );
        assert_eq!(
            forwarded(
                r#"{"user_id":"u","org":"o p","client_id":"signal-gateway","message_type":"audio",
                "audio_base64":"YQ==","audio_format":"audio/ogg","chat_type":"group","chat_id":"group:+/=",
                "thread_id":"7","speaker":"Zoë","addressed_to_bot":false,"response_language_hint":"sw",
                "metadata":{"a": [1]}}"#
            ),
            r#"{"client_id":"signal-gateway","user_id":"u","message":"","message_type":"audio","org":"o p","audio_base64":"YQ==","audio_format":"audio/ogg","chat_type":"group","chat_id":"group:+/=","thread_id":"7","speaker":"Zoë","addressed_to_bot":false,"response_language_hint":"sw","metadata":{"a": [1]}}"#
        );
    }

    #[test]
    fn the_unit_of_order_is_the_user_or_the_group() {
        let check = |extra: &str, expected: Conversation| {
            assert_eq!(parsed(&format!("{{{GOOD}{extra}}}")).unwrap().conversation, expected, "{extra}");
        };
        let user = || Conversation::User { user: "u".into() };
        let group =
            |thread: Option<&str>| Conversation::Group { chat: "g".into(), thread: thread.map(Into::into) };
        check("", user());
        check(r#","chat_id":"g","thread_id":"t""#, user());
        check(r#","chat_type":"private","chat_id":"g""#, user());
        check(r#","chat_type":"group","chat_id":"g""#, group(None));
        check(r#","chat_type":"supergroup","chat_id":"g","thread_id":"t""#, group(Some("t")));
    }

    #[test]
    fn bad_content_names_its_field() {
        let bad = |json: &str, pointers: &[&str]| refused(json, Code::InvalidContent, pointers);
        bad("{}", &["/message", "/client_id", "/user_id", "/org_id"]);
        bad("[]", &[""]);
        bad("\"a\"", &[""]);
        let with = |extra: &str, pointers: &[&str]| {
            refused(&format!("{{{GOOD},{extra}}}"), Code::InvalidContent, pointers)
        };
        with(r#""user_id":"v""#, &["/user_id"]);
        with(r#""org":"p""#, &["/org"]);
        with(r#""message_type":"video""#, &["/message_type"]);
        with(r#""message_type":7"#, &["/message_type"]);
        with(r#""message_type":"audio""#, &["/audio_base64", "/audio_format"]);
        with(r#""message_type":"audio","audio_base64":"a*b","audio_format":"ogg""#, &["/audio_base64"]);
        with(r#""chat_type":"channel""#, &["/chat_type"]);
        with(r#""chat_type":"group""#, &["/chat_id"]);
        with(r#""chat_id":5"#, &["/chat_id"]);
        with(r#""addressed_to_bot":"yes""#, &["/addressed_to_bot"]);
        with(r#""client_message_id":"""#, &["/client_message_id"]);
        with(r#""callback_url":5"#, &["/callback_url"]);
        refused(
            &format!(r#"{{{GOOD},"callback_url":"https://a.example/"}}"#),
            Code::CallbacksUnsupported,
            &["/callback_url"],
        );
        for message in ["\"\"", "\" \\n\\u2003\"", "null"] {
            bad(
                &format!(r#"{{"user_id":"u","org_id":"o","client_id":"web","message":{message}}}"#),
                &["/message"],
            );
        }
        bad(r#"{"user_id":"u","org_id":"o","client_id":"web","message":5}"#, &["/message"]);
        bad(
            r#"{"user_id":"a\nb","org_id":"","client_id":"Web","message":"x"}"#,
            &["/client_id", "/user_id", "/org_id"],
        );
    }

    #[test]
    fn a_callback_url_is_taken_or_refused_at_its_place() {
        let callbacks = CallbackRules { accepted: true, ..CallbackRules::default() };
        let with =
            |url: &str| parse_with(format!(r#"{{{GOOD},"callback_url":{url}}}"#).as_bytes(), &callbacks);
        let target = with(r#""https://a.example/x""#).unwrap().callback;
        assert_eq!(target.map(|target| target.url).as_deref(), Some("https://a.example/x"));
        assert_eq!(with("null").unwrap().callback, None);
        for url in [r#""http://a.example/""#, r#""https://127.0.0.1/""#, r#""""#, "5"] {
            let Err(failure) = with(url) else { panic!("accepted: {url}") };
            assert_eq!(failure.code(), Code::InvalidContent, "{url}");
            assert_eq!(failure.errors().first().map(|e| e.pointer.as_ref()), Some("/callback_url"), "{url}");
        }
    }

    #[test]
    fn what_is_not_json_is_told_apart() {
        for body in ["", "{", "{\"a\":1", "a=b", "{'a':1}", "{} {}", "{\"user_id\":\"\\ud800\"}"] {
            refused(body, Code::NotJson, &[]);
        }
        let failure = parse_with(b"{\"user_id\":\"\xff\"}", &CallbackRules::default()).err().unwrap();
        assert_eq!(failure.code(), Code::NotJson);
    }
}
