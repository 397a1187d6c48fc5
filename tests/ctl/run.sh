#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# driftctl's verbs, from the outside: what they print, what they refuse, and their exit status.
# Runs in the build folder; needs no network, no GPU and no model but the tiny one it makes.
set -u
LC_ALL=C
export LC_ALL

ctl=${DRIFTCTL:-./driftctl}
mkmodel=${MKMODEL:-./tests/mkmodel}
canned=${CANNEDHTTP:-./tests/cannedhttp}
[ -x "$ctl" ] && [ -x "$mkmodel" ] && [ -x "$canned" ] || {
  echo "run.sh: $ctl, $mkmodel and $canned are needed: run it in the build folder" >&2
  exit 99
}
ctl=$(realpath "$ctl")
mkmodel=$(realpath "$mkmodel")
canned=$(realpath "$canned")
tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT
cd "$tmp" || exit 99
HOME=$tmp
export HOME
unset XDG_CACHE_HOME DRIFTD_API_KEY

passed=0
failed=0
ok() {
  passed=$((passed + 1))
}
bad() {
  failed=$((failed + 1))
  echo "FAIL $1"
  sed 's/^/  out: /' out
  sed 's/^/  err: /' err
}

# run STATUS ARGUMENT...: runs driftctl with no input, output to out and err.
run() {
  want=$1
  shift
  what="driftctl $*"
  "$ctl" "$@" >out 2>err </dev/null
  got=$?
  if [ "$got" -eq "$want" ]; then ok; else bad "$what: status $got, not $want"; fi
}
# has FILE PATTERN: the last run's output has a line like that.
has() {
  if grep -Eq -e "$2" "$1"; then ok; else bad "$what: no '$2' in $1"; fi
}
has_not() {
  if grep -Eq -e "$2" "$1"; then bad "$what: '$2' in $1"; else ok; fi
}
empty() {
  if [ -s "$1" ]; then bad "$what: $1 is not empty"; else ok; fi
}
# number KEY: the value of a key in out's JSON (the first one).
number() {
  tr ',{[' '\n\n\n' <out | sed -n "s/^\"$1\":\([0-9.e+-]*\).*/\1/p" | head -n 1
}

"$mkmodel" tiny.gguf Q8_0 2 64 4 2 128 300 256 >/dev/null || exit 99
"$mkmodel" wide.gguf Q8_0 8 256 2 2 64 300 256 >/dev/null || exit 99

# --- the command line ---
run 2
has err '^Usage: driftctl VERB'
run 0 --help
has out 'devices'
empty err
run 0 --version
has out '^driftctl [0-9]'
run 2 fly
has err "unknown verb 'fly'"
for verb in devices plan kernels bench chat tokenize; do
  run 0 $verb --help
  has out "^Usage: driftctl $verb"
  empty err
  run 2 $verb --no-such-option
  has err "driftctl $verb --help"
  empty out
done
run 2 plan
has err 'a model is needed'
run 2 plan -m tiny.gguf extra
run 2 plan -m tiny.gguf --context 0
has err '--context'
run 2 plan -m tiny.gguf --context 12x
run 2 plan -m tiny.gguf --parallel 100000
run 2 plan -m tiny.gguf --plan clever
has err 'greedy or naive'
for size in 1T K 5MM -1 '' none 99999999999999999999 9999999999G; do
  run 2 plan -m tiny.gguf --memory-margin "$size"
  has err '--memory-margin: .*auto or a number of bytes'
done
run 2 plan -m tiny.gguf --kv-type q9
has err 'f16 or q8'
run 2 bench -m tiny.gguf -b 1,,2
run 2 bench -m tiny.gguf -b ''
run 2 chat --url ftp://x
run 2 chat -t 3
run 2 chat -n 0

# --- devices ---
run 0 devices
has out 'null:0'
run 0 devices --json
has out '^\[\{"device":"'
has out '"device":"null:0","backend":"null","index":0'
has out '"usable":(true|false)'
cuda=no
if grep -q '"backend":"cuda"' out; then cuda=yes; fi
run 0 devices null
has out '^[ *] null:0 '
has_not out 'opencl|cuda|chip'
run 2 devices null null
run 1 devices null:7
has err 'null:7'
# A device that is not there: its facts are in a table, if this build has the backend.
if [ $cuda = yes ]; then
  run 0 devices cuda:sm_90
  has out 'cuda:sm_90 .*not there'
  has out '^      chip      SM 9\.0, code for sm_90, int8 matrices of 16x8x32, [0-9]+ MHz, L2 [0-9.]+ MB$'
  run 0 devices --json cuda:sm_75
  has out '^\[\{"device":"cuda:sm_75",.*"present":false,"usable":false,.*"sm":75,"arch":"sm_75","mma":"8x8x16","clock_mhz":[0-9]+,"l2_bytes":[0-9]+,'
  run 0 plan -m tiny.gguf -d cuda:sm_90
  has out '^device .*cuda:sm_90 \(.*not there'
  has out '^It fits'
else
  run 1 devices cuda:sm_90
  has err "no backend 'cuda'"
fi
# Nothing runs on it.
run 1 bench -m tiny.gguf -d cuda:sm_90
has err "only 'driftctl plan' and 'driftctl kernels'|no backend 'cuda'"
empty out
run 1 bench -d cuda:sm_90 --peak

# --- kernels ---
run 2 kernels -d null
has err 'a model is needed'
run 2 kernels -m tiny.gguf -d null --stage lunch
has err 'prefill or decode'
run 2 kernels -m tiny.gguf -d null extra
run 2 kernels -m tiny.gguf -d null --dump ''
run 1 kernels -m none.gguf -d null
has err 'none\.gguf'
run 1 kernels -m tiny.gguf -d reference
has err 'has no kernels'
empty out
run 0 kernels -m tiny.gguf -d null
has out '^device +null:0 '
has out '^program +model\.cl: [0-9]+ kernels, '
has out '^options +-cl-std='
has out '^embed_[0-9]+ +embed +both +1-128 Q8_0 '
has out '^linear_[0-9]+ +gate_up +decode +1 Q8_0 +2 '
has out '^linear_[0-9]+ +gate_up +both +5-128 Q8_0 +2 '
has out '^page_copy_[0-9]+ +page_copy +- '
if [ "$(awk '/^kernel /, 0 { if (length($0) > 100) n++ } END { print n + 0 }' out)" = 0 ]; then
  ok
else
  bad "$what: rows of more than 100 columns"
fi
all=$(grep -Ec '^[a-z_]+_[0-9]+ ' out)
run 0 kernels -m tiny.gguf -d null --json
has out '^\{"model":"tiny","device":"null:0 .*","device_present":true,.*"programs":\[\{"name":"model","suffix":"cl",'
has out '"template":"linear","operation":"gate_up","stage":"decode","rows_min":1,"rows_max":1,"format":"Q8_0","k":64,"m":256,"launches":2,'
has out '\}\]\}\]\}$'
if [ "$(tr '{' '\n' <out | grep -c '"template":')" = "$all" ]; then ok; else bad "$what: not $all kernels"; fi
run 0 kernels -m tiny.gguf -d null --stage decode
has out '^linear_[0-9]+ +gate_up +decode +1 '
has_not out '^page_copy|prefill  '
decode=$(grep -Ec '^[a-z_]+_[0-9]+ ' out)
run 0 kernels -m tiny.gguf -d null --stage prefill
has_not out '^linear_[0-9]+ +gate_up +decode'
has out '^linear_[0-9]+ +gate_up +both'
prefill=$(grep -Ec '^[a-z_]+_[0-9]+ ' out)
if [ "$prefill" -gt 5 ] && [ "$prefill" -lt "$decode" ] && [ "$decode" -lt "$all" ]; then
  ok
else
  bad "kernels: $prefill of prefill, $decode of decode, $all in all"
fi
# One row a step at most: what takes several is prefill's.
run 0 kernels -m tiny.gguf -d null --parallel 1
has out '^linear_[0-9]+ +gate_up +prefill +2-4 '

# Sources: written, complete, again over those of before, and over nothing else.
run 0 kernels -m tiny.gguf -d null --dump sources
n=$(sed -n 's/.*: \([0-9]*\) kernels.*/\1/p' out)
if [ "$(head -n 1 sources/model.cl)" = "// driftctl kernels, compiler options: $(sed -n 's/^options  *//p' out)" ]; then
  ok
else
  bad "$what: the first line is not the options"
fi
if [ "$(grep -c '^#define KNAME ' sources/model.cl)" = "$n" ]; then ok; else bad "$what: not $n kernels"; fi
sum=$(cksum <sources/model.cl)
run 0 kernels -m tiny.gguf -d null --dump sources --context 64
run 0 kernels -m tiny.gguf -d null --dump sources
if [ "$(cksum <sources/model.cl)" = "$sum" ]; then ok; else bad "$what: another text"; fi
echo mine >sources/model.cl
run 1 kernels -m tiny.gguf -d null --dump sources
has err 'sources/model\.cl: .*left alone'
has sources/model.cl '^mine$'
run 1 kernels -m tiny.gguf -d null --dump no/such/folder
has err '^driftctl: no/such/folder: '
run 1 kernels -m tiny.gguf -d null --dump tiny.gguf
has err '^driftctl: tiny\.gguf/model\.cl: '
if [ -e /dev/full ]; then
  mkdir -p full
  ln -s /dev/full full/model.cl
  run 1 kernels -m tiny.gguf -d null --dump full
  has err '^driftctl: full/model\.cl: No space left'
fi
if [ $cuda = yes ]; then
  run 0 kernels -m tiny.gguf -d cuda:sm_80 --dump sources
  has out '^device +cuda:sm_80 \(.*not there'
  has sources/model.cu '^// driftctl kernels, compiler options: --gpu-architecture=sm_80 '
  has sources/model.cu '^// device: cuda:sm_80 '
  run 0 kernels -m tiny.gguf -d cuda:sm_80 --json
  has out '"device_present":false'
fi

# --- plan ---
run 0 plan -m tiny.gguf -d null
for word in weights 'KV pages' activations step total available 'It fits'; do
  has out "^$word"
done
run 0 plan -m tiny.gguf -d null --json --context 64 --parallel 3 --kv-tokens 128
has out '^\{"model":"'
has out '"fits":true'
[ "$(number context)" = 64 ] && [ "$(number parallel)" = 3 ] && [ "$(number kv_tokens)" = 128 ]
if [ $? -eq 0 ]; then ok; else bad "plan: limits are not those asked for"; fi
sum=$(($(number weights_bytes) + $(number kv_bytes) + $(number activations_bytes) + $(number step_bytes)))
if [ "$sum" = "$(number total_bytes)" ]; then ok; else bad "plan: the parts are $sum"; fi
if [ "$(number activations_planned_bytes)" -lt "$(number activations_naive_bytes)" ] &&
  [ "$(number activations_planned_bytes)" -ge "$(number activations_bound_bytes)" ]; then
  ok
else
  bad "plan: naive, planned, bound"
fi
planned=$(number activations_planned_bytes)
run 0 plan -m tiny.gguf -d null --json --context 64 --parallel 3 --kv-tokens 128 --plan naive
if [ "$(number activations_bytes)" -gt "$planned" ]; then ok; else bad "plan: naive is not larger"; fi
run 0 plan -m tiny.gguf -d null --json --context 64
f16=$(number kv_bytes_per_token)
run 0 plan -m tiny.gguf -d null --json --context 64 --kv-type q8
q8=$(number kv_bytes_per_token)
if [ "$q8" -lt "$f16" ] && [ $((q8 * 2)) -gt "$f16" ]; then ok; else bad "plan: $q8 bytes a token as q8, $f16 as f16"; fi
run 0 plan -m tiny.gguf -d null --context 64 --kv-type q8
has out '^KV pages .* a token, q8'
# 200 million tokens of the wide model's KV are 1.6 TB, the null device has 1.1.
run 1 plan -m wide.gguf -d null --kv-tokens 200000000
has out 'It does not fit: .* are missing'
has out '^Would fit: .* sequences'
run 1 plan -m wide.gguf -d null --kv-tokens 200000000 --json
has out '"fits":false'
# The margin: a line where there is one, and the pool is smaller by it.
run 0 plan -m tiny.gguf -d null
has_not out '^margin'
run 0 plan -m tiny.gguf -d null --memory-margin 3M
has out '^margin +3\.15 MB +3145728  left free$'
run 0 plan -m tiny.gguf -d null --memory-margin 2G --json
if [ "$(number margin_bytes)" = 2147483648 ]; then ok; else bad "$what: $(number margin_bytes)"; fi
run 0 plan -m tiny.gguf -d null --memory-margin auto --json
if [ "$(number margin_bytes)" = 0 ]; then ok; else bad "$what: $(number margin_bytes)"; fi
run 1 plan -m tiny.gguf -d null --memory-margin 2048G
has out 'It does not fit: 1\.10 TB are missing'
run 1 bench -m tiny.gguf -d null -p 8 -n 2 --memory-margin 2048G
has err 'does not fit .* are left free'
if [ $cuda = yes ]; then
  run 0 plan -m tiny.gguf -d cuda:sm_90
  has out '^margin +268 MB +268435456 '
  run 0 plan -m tiny.gguf -d cuda:sm_90 --memory-margin 0
  has_not out '^margin'
fi
run 0 plan -m tiny.gguf -d null --picture
has out '^activation .* offset'
has out '^blk\.0\..*  \.*##*\.*$'
run 0 plan -m tiny.gguf -d null --picture --json
has out '"arena":\[\{"name":"'
run 1 plan -m tiny.gguf -d opencl:77
has err 'opencl:77|no backend'
run 1 plan -m none.gguf
has err 'none\.gguf'
head -c 100 tiny.gguf >cut.gguf
run 1 plan -m cut.gguf
has err 'cut\.gguf'

# --- bench ---
run 0 bench -m tiny.gguf -d null -p 40 -n 6 -b 1,3 --json
empty err
has out '^\[\{"test":"prefill","batch":1,"tokens":40,"tokens_per_second":[0-9]'
has out '\{"test":"decode","batch":1,"tokens":6,'
has out '\{"test":"decode","batch":3,"tokens":6,'
has out '"bytes_per_second":[0-9]'
has out '\]$'
# a step for each token, and nothing allocated while it runs
has out '"test":"decode","batch":3,.*"repeat":1,"steps":6,"launches":[1-9][0-9]*,"replays":[0-9]+,"allocations":0,'
run 0 bench -m tiny.gguf -d reference -p 40 -n 6 -b 1,3 -r 2
has out '^prefill +1 +40 +[0-9.]+ tok/s'
has out '^decode +3 +6 +[0-9.]+ tok/s'
run 0 bench -m tiny.gguf -d null -p 0 -n 4 -b 2 --json
has_not out prefill
run 0 bench -m tiny.gguf -d null -p 8 -n 0 --json
has_not out decode
has_not out peak
# Two operations for each weight of the two layers and row: four products of 64 x 64 for attention (of which K and V
# make half as many channels) and three of 64 x 128; 300 x 64 for the logits of the prompt's last token.
per_row=$((2 * 2 * (64 * 64 * 3 + 3 * 64 * 128)))
if [ "$(number ops)" = $((8 * per_row + 2 * 300 * 64)) ]; then ok; else bad "bench: operations, $per_row a row"; fi
run 0 bench -m tiny.gguf -d null -p 8 -n 2 -b 3 --peak --json
has out '^\[\{"test":"peak","dot_ops_per_second":[0-9.e+]+,"read_bytes_per_second":[0-9.e+]+,"read_best_bytes_per_second":[0-9.e+]+,"read_bytes":268435456,"device":"null:0 '
has out '"test":"prefill".*"of_dot_peak":[0-9.e-]+,"read_bytes_per_second":[0-9.e+]+,"of_read_peak":[0-9.e-]+'
has out '"test":"decode","batch":3.*"of_dot_peak":[0-9.e-]+,"read_bytes_per_second":[0-9.e+]+,"of_read_peak":[0-9.e-]+'
run 0 bench -m tiny.gguf -d null -p 8 -n 0 --peak
has out '^peak of null:0 .*: int8 dot products [0-9.]+ GOPS, memory .*/s \(268 MB read; at best .*/s\)$'
has out '^prefill .*/s +[0-9.]+ % +[0-9.]+ %$'
run 0 bench -d null --peak
has_not out prefill
run 1 bench -d reference --peak
has err 'peak: .*reference'

# --- tokenize ---
run 0 tokenize -m tiny.gguf --ids 'ab'
ids=$(cat out)
printf ab | "$ctl" tokenize -m tiny.gguf --ids >out 2>err
if [ "$(cat out)" = "$ids" ] && [ -n "$ids" ]; then ok; else bad "tokenize: text and input differ"; fi
printf ab | "$ctl" tokenize -m tiny.gguf --ids - >out 2>err
if [ "$(cat out)" = "$ids" ]; then ok; else bad "tokenize: -"; fi
run 0 tokenize -m tiny.gguf 'ab'
if [ "$(awk '{printf "%s%s", (NR > 1 ? " " : ""), $1}' out)" = "$ids" ]; then ok; else bad "tokenize: table"; fi
printf 'a\nb' | "$ctl" tokenize -m tiny.gguf >out 2>err
if [ "$(wc -l <out)" -ge 1 ] && ! grep -q '^b' out; then ok; else bad "tokenize: a line a token"; fi
run 0 tokenize -m tiny.gguf --ids ''
run 2 tokenize -m tiny.gguf a b
printf '\377\376' | "$ctl" tokenize -m tiny.gguf >out 2>err
if [ $? -eq 1 ] && grep -q UTF-8 err; then ok; else bad "tokenize: what is not UTF-8"; fi
run 1 tokenize -m none.gguf x

# --- chat, against canned replies ---
models='{"object":"list","data":[{"id":"tiny-1","object":"model"}]}'
printf 'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s' ${#models} "$models" >models
chunk() {
  printf '%x\r\n%s\n\n\r\n' $((${#1} + 2)) "$1"
}
delta() {
  chunk "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"$1\"},\"finish_reason\":$2}]}"
}
stream() {
  printf 'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n'
}
{
  stream
  chunk 'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}'
  delta 'Hel' null
  delta 'lo \"you\" \u00e9' null
  chunk ': a comment'
  delta '!' '"stop"'
  chunk 'data: {"choices":[],"usage":{"total_tokens":9}}'
  chunk 'data: [DONE]'
  printf '0\r\n\r\n'
} >answer
# chat STATUS INPUT REPLIES [ARGUMENT...]
chat() {
  want=$1
  input=$2
  replies=$3
  shift 3
  what="driftctl chat $* (replies: $replies)"
  rm -f port
  # shellcheck disable=SC2086
  "$canned" $replies >port &
  server=$!
  while [ ! -s port ]; do sleep 0.02; done
  printf '%s' "$input" | "$ctl" chat --url "http://127.0.0.1:$(cat port)" "$@" >out 2>err
  got=$?
  wait "$server"
  if [ "$got" -eq "$want" ]; then ok; else bad "$what: status $got, not $want"; fi
}
chat 0 'Say "hello"
' 'models answer' -s 'Be short.' -t 0.5 -n 7
if [ "$(cat out)" = "$(printf 'Hello "you" \303\251!')" ]; then ok; else bad "$what: the answer"; fi
has models.request '^GET /v1/models HTTP/1.1'
has answer.request '^POST /v1/chat/completions HTTP/1.1'
has answer.request '"model":"tiny-1"'
has answer.request '"messages":\[\{"role":"system","content":"Be short\."\},\{"role":"user","content":"Say \\"hello\\""\}\]'
has answer.request '"stream":true'
has answer.request '"temperature":0\.5[,}]'
has answer.request '"max_(completion_)?tokens":7'
has_not answer.request Authorization
DRIFTD_API_KEY=sesame
export DRIFTD_API_KEY
chat 0 x answer -m other
has answer.request '"model":"other"'
has answer.request '^Authorization: Bearer sesame'
unset DRIFTD_API_KEY

error='{"error":{"message":"the context is full","type":"invalid_request_error","param":null,"code":null}}'
printf 'HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%s' ${#error} "$error" >refused
chat 1 x refused -m m
has err 'the context is full \(status 400\)'
empty out
printf 'HTTP/1.1 502 Bad Gateway\r\n\r\n<html>' >gateway
chat 1 x gateway -m m
has err 'status 502'
chat 1 x gateway
has err 'status 502'
{
  stream
  delta 'Half' null
  chunk "data: $error"
} >broken
chat 1 x broken -m m
has out '^Half$'
has err 'the context is full'
{
  stream
  delta 'Half' null
} >cut
chat 1 x cut -m m
has err 'closed the connection'
{
  stream
  delta 'Half' null
  printf '0\r\n\r\n'
} >early
chat 1 x early -m m
has err 'ended the answer early'
{
  stream
  chunk 'data: {"choices":'
} >nojson
chat 1 x nojson -m m
has err 'not JSON'
{
  stream
  delta 'All' '"length"'
  chunk 'data: [DONE]'
} >limit
chat 0 x limit -m m
has out '^All$'
has err 'limit'
run 1 chat -m m
has err 'standard input is empty'
"$canned" >port
run 1 chat --url "http://127.0.0.1:$(cat port)"
has err 'refused'

# Ctrl-C while the answer comes.
{
  stream
  delta 'Begun' null
} >begun.hold
rm -f port
"$canned" begun.hold >port &
server=$!
while [ ! -s port ]; do sleep 0.02; done
printf x >input
# env -i would do as well: a background job of sh ignores SIGINT, and a child would inherit that.
"$ctl" chat --url "http://127.0.0.1:$(cat port)" -m m <input >out 2>err &
client=$!
n=0
while [ ! -s out ] && [ $n -lt 500 ]; do
  sleep 0.02
  n=$((n + 1))
done
kill -INT "$client"
wait "$client"
got=$?
wait "$server"
what='chat, interrupted'
if [ "$got" -eq 1 ]; then ok; else bad "$what: status $got"; fi
has out '^Begun$'
has err 'interrupted'

# A conversation needs a terminal: script(1) gives one.
if command -v script >/dev/null; then
  {
    stream
    delta 'One\u001b[31m' '"stop"'
    chunk 'data: [DONE]'
  } >first
  {
    stream
    delta 'Two' '"stop"'
    chunk 'data: [DONE]'
  } >second
  cp second third
  rm -f port
  "$canned" first second third >port &
  server=$!
  while [ ! -s port ]; do sleep 0.02; done
  printf 'hi\nmore\n/clear\nagain\n/quit\n' |
    script -qec "$ctl chat -m m --url http://127.0.0.1:$(cat port)" /dev/null >out 2>err
  wait "$server"
  what='chat on a terminal'
  has out 'One\[31m'
  has second.request '"content":"hi"\},\{"role":"assistant","content":"One.u001b\[31m"\},\{"role":"user","content":"more"'
  has third.request '"messages":\[\{"role":"user","content":"again"\}\]'
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
