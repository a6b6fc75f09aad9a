#!/usr/bin/env bash
# The API by hand: every way a message can be answered, refused or fail, as curl commands with what came back.
# Usage: examples/walkthrough.sh [PROGRAM]     needs bash 4.4, curl 7.82 and turnwise; leaves nothing behind
set -euo pipefail
# shellcheck disable=SC2154  # start() sets $agent, $broker, $impatient, $alone, $locked and $full.

turnwise=$(realpath "$(command -v "${1:-turnwise}")")
folder=$(mktemp -d)
cd "$folder"
started=() rows=0 differing=()
key="a key of this script only"

finish() {
  [ ${#started[@]} = 0 ] || kill -KILL "${started[@]}" 2>/dev/null || true
  ! mountpoint -q "$folder/small" 2>/dev/null || umount -l "$folder/small"
  cd / && rm -rf "$folder"
}
trap finish EXIT
trap 'exit 1' INT TERM

# start NAME SETTING=VALUE... -- ARGUMENTS: a server on a free port; its address goes into $NAME.
start() {
  local name=$1 settings=() line out
  shift
  while [ "$1" != -- ]; do settings+=("$1") && shift; done
  shift
  exec {out}< <(exec env -i PATH="$PATH" "${settings[@]}" "$turnwise" --json "$@" 2>"$name.log")
  started+=($!)
  if ! read -r -t 30 -u "$out" line || [[ ! $line =~ \"url\":\"([^\"]+)\" ]]; then
    echo "$name did not start" && cat "$name.log" && exit 1
  fi
  printf -v "$name" %s "${BASH_REMATCH[1]}"
}

serve() { start "$1" TURNWISE_DATA_DIR="${data:-data-$1}" PORT=0 LOG_LEVEL=WARN "${@:2}" -- serve; }
curl() { command curl -q -sS --noproxy '*' --max-time 60 "$@"; }

# message USER TEXT [MORE]: the body of a submission.
message() { printf '{"org_id":"acme","user_id":"%s","client_id":"web","message":"%s"%s}' "$1" "$2" "${3:-}"; }
stream_of() { printf '%s/api/v1/stream?user_id=%s&message_id=%s' "$broker" "$1" "$2"; }
# field NAME: a string out of the last answer.
field() { [[ $answer =~ \"$1\":\"([^\"]*)\" ]] && printf %s "${BASH_REMATCH[1]}"; }

title() { printf '\n== %s\n' "$1"; }
# verdict TITLE COMMAND...: counts a row, which is right if the command succeeds.
verdict() {
  local title=$1
  shift
  rows=$((rows + 1))
  "$@" || { differing+=("$title") && printf '   DIFFERS\n'; }
}

# ask CURL-ARGUMENTS: shows the command and the answer; leaves it in $answer, its status in $status.
ask() {
  local word shown=
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9./:=-]+$ ]] || word="'$word'"
    shown+=" $word"
  done
  printf '   curl%s\n' "$shown"
  answer=$(curl -i "$@" | tr -d '\r')
  [[ $answer =~ ^HTTP/[0-9.]+\ ([0-9]+) ]] && status=${BASH_REMATCH[1]}
  grep -iE '^(retry-after|allow|www-authenticate|preference-applied):' <<<"$answer" | sed 's/^/   /' || true
  case $answer in
    *text/event-stream*) echo "   $status" $(sed -n 's/^event: //p' <<<"$answer") ;;
    *) printf '   %s %s\n' "$status" "$(sed '1,/^$/d' <<<"$answer" | cut -c1-230)" ;;
  esac
}

answered() { [ "$status" = "$1" ] && [[ $answer =~ $2 ]]; }
# row TITLE STATUS PATTERN CURL-ARGUMENTS: asks, and expects this status and text in head or body.
row() {
  title "$1"
  ask "${@:4}"
  verdict "$1 ($2, $3)" answered "$2" "$3"
}
post() { row "$1" "$2" "$3" "${@:5}" --json "$4" "${to:-$broker}/api/v1/message"; }

# read_events N USER ID FILE: reads N events of a stream, then breaks the connection.
read_events() {
  local seen=0 open=0 line out reader
  exec {out}< <(exec curl -q -sSN --noproxy '*' "$(stream_of "$2" "$3")")
  reader=$!
  while [ "$seen" -lt "$1" ] && IFS= read -r -u "$out" line; do
    printf '%s\n' "$line" >>"$4"
    # An event is complete with its empty line.
    case $line in event:\ position) ;; event:*) open=1 ;; '') seen=$((seen + open)) open=0 ;; esac
  done
  kill "$reader" 2>/dev/null || true
  exec {out}<&-
}
# kept FILE: the stored events; `queued` and an early `processing` are only notices.
kept() { awk 'BEGIN { RS = ""; ORS = "\n\n" } /(^|\n)id: / && !/(^|\n)event: processing/' "$1"; }
same() { [ -s "$1" ] && cmp <(kept "$1") <(kept "$2"); }

start agent -- agent mock --listen 127.0.0.1:0 --delay-ms 0 --delay-spread-ms 0 --event-gap-ms 0
serve broker WORKER_BASE_URL="$agent"

echo; echo "SUBMISSIONS"
post "conversation idle: answered in the request" 200 '"status":"completed".*You said: hello' "$(message alice hello)"
post "Prefer: respond-async: queued at once" 200 '"status":"queued"' \
  "$(message alice hello)" -H 'Prefer: respond-async'
post "callbacks do not exist yet, and that is said" 422 '"code":"callbacks_unsupported"' \
  "$(message alice hello ',"callback_url":"https://app.example/done"')"
post "(a turn that hangs makes the conversation busy)" 200 '"status":"queued"' \
  "$(message busy '[[events=2 hang]]')" -H 'Prefer: respond-async'
hanging=$(field message_id)
read_events 4 busy "$hanging" hanging.txt # until its second part: it is being processed
post "conversation busy: queued, with its place" 200 '"status":"queued".*"position":2' "$(message busy one)"
waiting=$(field message_id)
post "busy, Prefer: wait=1: not over within a second" 200 'wait=1.*"status":"queued".*"position":3' \
  "$(message busy two)" -H 'Prefer: wait=1'
row "what waits, and what runs" 200 "\"queue_length\":2,\"is_processing\":true,\"current_message_id\":\"$hanging\"" \
  "$broker/api/v1/queue/busy"
post "(a slow turn)" 200 '"status":"queued"' "$(message slow '[[delay=700]]')" -H 'Prefer: respond-async'
post "busy, Prefer: wait=30: answered when its turn comes" 200 'wait=30.*"status":"completed".*You said: next' \
  "$(message slow next)" -H 'Prefer: wait=30'
serve alone
to=$alone post "no agent configured: queued and kept" 200 '"status":"queued"' "$(message alice hello)"
to=$alone post "Prefer: wait=30 does not wait for nobody" 200 '"status":"queued"' "$(message bob hello)" -H 'Prefer: wait=30'
serve eager WORKER_BASE_URL="$agent" TURNWISE_MESSAGE_MODE=async
to=$eager post "message.mode = async: queued without a Prefer" 200 '"status":"queued"' "$(message alice hello)"
for n in {1..50}; do # the first one hangs, and counts
  curl -o accepted.json --json "$(message deep '[[hang]]')" -H 'Prefer: respond-async' "$broker/api/v1/message"
done
title "50 turns in one conversation" && cut -c1-200 accepted.json && echo
verdict "the 50th turn is accepted" grep -q '"position":50' accepted.json
post "one more than conversation.depth_max" 429 'retry-after: .*"code":"queue_depth_exceeded"' "$(message deep more)"
mkdir small
if mount -t tmpfs -o size=4m tmpfs small 2>/dev/null; then
  data=small serve full
  printf '{"org_id":"acme","user_id":"big","client_id":"web","message":"%0600000d"}' 0 >big.json
  while [ "$(curl -o filled.json -w '%{http_code}' --json @big.json "$full/api/v1/message")" = 200 ]; do :; done
  to=$full post "store unavailable (its disk is full): nothing is stored" 503 \
    'retry-after: .*"code":"store_unavailable"' @big.json
else
  echo "NOT RUN: tmpfs for a full disk"
fi

echo; echo "THE AGENT FAILS"
serve impatient WORKER_BASE_URL="$agent" WORKER_TIMEOUT=1 TURNWISE_RETRY_AFTER_MAX=2
to=$impatient post "slower than WORKER_TIMEOUT" 504 '"code":"agent_timeout"' "$(message alice '[[hang]]')"
post "refuses with 400: passed on" 400 '"code":"agent_rejected"' "$(message alice '[[status=400]]')"
post "refuses with 404: passed on too" 404 '"code":"agent_rejected"' "$(message alice '[[status=404]]')"
post "fails with 500" 502 '"code":"agent_error"' "$(message alice '[[status=500]]')"
post "answers garbage" 502 '"code":"agent_error"' "$(message alice '[[garbage]]')"
post "breaks the connection in mid-answer" 502 '"code":"agent_error"' "$(message alice '[[cut]]')"
post "429 with Retry-After: called again, then answered" 200 '"status":"completed"' \
  "$(message alice '[[status=429 retry_after=1 times=1]]')"
row "  … on the second attempt" 200 '"attempts":2' "$broker/api/v1/message/$(field message_id)"
to=$impatient post "429 with Retry-After again and again, longer than allowed" 503 '"code":"agent_busy"' \
  "$(message alice '[[status=429 retry_after=1]]')"
post "breaks off a stream" 200 '"status":"queued"' "$(message alice '[[events=3 gap=20 cut]]')" -H 'Prefer: respond-async'
cut=$(field message_id)
row "  … which its readers see" 200 'part 3.*event: error.*"code":"agent_error"' -N "$(stream_of alice "$cut")"
row "  … and whose parts are kept" 200 '"status":"failed".*"partial":"part 1 part 2 part 3 "' "$broker/api/v1/message/$cut"
start gone -- agent mock --listen 127.0.0.1:0
kill -KILL "${started[-1]}" && wait "${started[-1]}" 2>/dev/null || unset 'started[-1]'
serve lonely WORKER_BASE_URL="$gone"
to=$lonely post "nobody listens at its port" 503 '"code":"agent_unreachable"' "$(message alice hello)"
title "  … without Retry-After, for the turn has ended"
verdict "agent_unreachable has no Retry-After" eval '[[ ! $answer =~ retry-after ]]'
row "every failure ended its own turn and nothing else" 200 '"queue_length":0,"is_processing":false' "$broker/api/v1/queue/alice"

echo; echo "KEYS, AND WHAT IS NOT YOURS"
mkdir locked && (cd locked && "$turnwise" keys new --org other >new.txt 2>/dev/null && sed 1d new.txt >turnwise.toml)
other=$(head -1 locked/new.txt)
serve locked WORKER_BASE_URL="$agent" BROKER_API_KEY="$key" TURNWISE_CONFIG=locked/turnwise.toml
to=$locked
post "no key" 401 'www-authenticate: .*Missing X-API-Key header' "$(message alice hello)"
post "a wrong key" 403 'Invalid API key.*"code":"invalid_key"' "$(message alice hello)" -H 'X-API-Key: guessed'
post "the right key" 200 '"status":"completed"' "$(message alice hello)" -H "X-API-Key: $key"
mine=$(field message_id)
post "the same as Bearer" 200 '"status":"completed"' "$(message alice hello)" -H "Authorization: Bearer $key"
post "a key of another organisation" 403 '"code":"org_forbidden"' "$(message alice hello)" -H "X-API-Key: $other"
for method in GET DELETE; do
  row "$method: another organisation's id is not found" 404 '"code":"not_found"' -X $method -H "X-API-Key: $other" \
    "$locked/api/v1/message/$mine"
done
row "a key in the query string" 400 '"code":"key_in_query"' "$locked/api/v1/queue/alice?api_key=$other"
row "health needs no key" 200 '"status":"healthy"' "$locked/health"
unset to
row "another user's stream is not found" 404 '"code":"not_found"' "$(stream_of bob "$cut")"
unknown=00000000-0000-8000-8000-000000000000
row "an unknown id" 404 '"code":"not_found"' "$broker/api/v1/message/$unknown"
row "an unknown stream" 404 '"code":"not_found"' "$(stream_of alice $unknown)"
row "an unknown user's queue" 200 '"queue_length":0,"is_processing":false' "$broker/api/v1/queue/nobody"
row "without keys: a web page from elsewhere" 403 '"code":"origin_forbidden"' -H 'Origin: https://evil.example' "$broker/health"
row "without keys: a name that is not loopback" 403 '"code":"host_forbidden"' -H 'Host: broker.example' "$broker/health"

echo; echo "WRONG REQUESTS"
post "not JSON" 400 '"code":"not_json"' '{"org_id":'
post "blank text: every fault is named" 422 '"code":"invalid_content".*"pointer":"/message"' "$(message alice ' ')"
post "a group without its id" 422 '"pointer":"/chat_id"' "$(message alice hello ',"chat_type":"group"')"
post "not announced as JSON" 415 '"code":"unsupported_media_type"' "$(message alice hello)" -H 'Content-Type: text/plain'
row "a method the route does not have" 405 'allow: POST.*"code":"method_not_allowed"' "$broker/api/v1/message"

echo; echo "THE SAME MESSAGE TWICE"
post "with a client_message_id" 200 '"status":"completed"' "$(message twin hello ',"client_message_id":"m-1"')"
first=$(field message_id)
post "again: the same turn" 200 "\"status\":\"completed\",\"message_id\":\"$first\"" \
  "$(message twin hello ',"client_message_id":"m-1"')"
post "the same by header" 200 "\"message_id\":\"$first\"" "$(message twin hello)" -H 'Idempotency-Key: m-1'
post "with other content" 422 '"code":"idempotency_conflict"' "$(message twin bye ',"client_message_id":"m-1"')"

echo; echo "CANCEL AND STOP"
row "a waiting turn is taken back" 200 '"status":"cancelled".*"attempts":0' -X DELETE "$broker/api/v1/message/$waiting"
row "  … its stream says so" 200 'event: cancelled' -N "$(stream_of busy "$waiting")"
row "a running turn is stopped, its partial answer kept" 200 '"status":"cancelled".*"partial":"part 1 part 2 "' \
  -X DELETE "$broker/api/v1/message/$hanging"
row "  … its stream ends" 200 'part 2.*event: cancelled' -N "$(stream_of busy "$hanging")"
row "  … once" 409 '"code":"turn_over"' -X DELETE "$broker/api/v1/message/$hanging"
post "the conversation goes on" 200 '"status":"completed"' "$(message busy three)" -H 'Prefer: wait=30'

echo; echo "STREAMS"
text='[[events=5 gap=30]]' # queued, processing, five parts, the whole answer, done
for cut in {1..8}; do
  post "cut after event $cut" 200 '"status":"queued"' "$(message "cut-$cut" "$text")" -H 'Prefer: respond-async'
  id=$(field message_id) user=cut-$cut
  read_events "$cut" "$user" "$id" "joined-$cut"
  last=$(sed -n 's/^id: //p' "joined-$cut" | tail -1)
  row "  … and resumed after ${last:-the start}" 200 'event: done' -N ${last:+-H "Last-Event-ID: $last"} "$(stream_of "$user" "$id")"
  sed '1,/^$/d' <<<"$answer" >>"joined-$cut"
  curl -N -o "fresh-$cut" "$(stream_of "$user" "$id")"
  verdict "cut after event $cut: the parts joined equal a fresh reading" same "joined-$cut" "fresh-$cut"
done
last=$(sed -n 's/^id: //p' fresh-8 | tail -1)
row "after the last event there is nothing more" 204 '' "$(stream_of "$user" "$id")&after=$last"
post "a late first reader …" 200 '"status":"queued"' "$(message late "$text")" -H 'Prefer: respond-async'
id=$(field message_id)
post "(the turn after it is over, so it is)" 200 '"status":"completed"' "$(message late next)" -H 'Prefer: wait=30'
curl -N -o late "$(stream_of late "$id")" && curl -N -o again "$(stream_of late "$id")"
verdict "a late first reader gets all, twice the same" same late again
verdict "a late first reader gets all seven events" [ "$(kept late | grep -c ^event)" = 7 ]
post "two readers at once …" 200 '"status":"queued"' "$(message two "$text")" -H 'Prefer: respond-async'
id=$(field message_id)
curl -N -o one "$(stream_of two "$id")" & reader=$!
curl -N -o two "$(stream_of two "$id")" && wait "$reader"
verdict "two readers get the same" same one two

printf '\n%d of %d as expected\n' $((rows - ${#differing[@]})) "$rows"
[ ${#differing[@]} = 0 ] || { printf 'differs: %s\n' "${differing[@]}" && exit 1; }
