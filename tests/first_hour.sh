#!/usr/bin/env bash
# The first hour of a new user: build, look at a tool, send to InfluxDB and VictoriaMetrics, ask for the p99.
# It prints each command as it would be typed, and ends at the first wrong answer. Run it as root.
#
#   COLLECTOR_DIST     an install tree; without it `cargo xtask build` makes target/dist
#   COLLECTOR_SERVERS  a folder with influxd and victoria-metrics; by default .cache/servers, where
#                      `cargo xtask test` puts them
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
servers=${COLLECTOR_SERVERS:-$root/.cache/servers}
work=$(mktemp -d)
pids=()

# Ends what was started here, by its pid.
finish() {
	local pid
	for pid in "${pids[@]}"; do
		kill "$pid" 2>/dev/null || continue
		wait "$pid" 2>/dev/null || true
	done
	rm -rf "$work"
}
trap finish EXIT
# A signal must not skip the trap above.
trap 'exit 143' INT TERM HUP

fail() {
	printf 'first_hour: %s\n' "$*" >&2
	exit 1
}

# Prints a command, quoted only where it must be.
show() {
	local word text=''
	for word in "$@"; do
		if [[ $word =~ ^[A-Za-z0-9_./:=,+@%?-]+$ ]]; then text+=" $word"; else text+=" '${word//\'/\'\\\'\'}'"; fi
	done
	printf '\n$%s\n' "$text"
}

# Shows and runs a command; its output is in $answer, and must match the regular expression before it.
answer=''
run() {
	local wanted=$1
	shift
	show "$@"
	answer=$("$@" 2>&1) || fail "exit code $? of: $*"$'\n'"$answer"
	printf '%s\n' "$answer"
	[[ $answer =~ $wanted ]] || fail "no \`$wanted\` in the answer to: $*"
}

# A query of the README by its language and the first word of its comment.
query() {
	awk -v fence="\`\`\`$1" -v title="$2" '
		$0 == fence { inside = 1; next }
		/^```/ { inside = 0 }
		/^$/ { found = 0 }
		inside && $2 ~ "^" title { found = 1; next }
		inside && found' README.md
}

# A port of the loopback that nobody listens on, below those that the kernel hands out.
free_port() {
	local port
	for _ in {1..100}; do
		port=$((20000 + RANDOM % 10000))
		if ! (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
			echo "$port"
			return
		fi
	done
	fail "no free port from 20000 to 29999"
}

# Waits for a URL to answer, for a minute; a process that ended will not.
wait_for() {
	local url=$1 pid=$2
	for _ in {1..300}; do
		curl -sf -o "$work/ready" --noproxy '*' "$url" && return
		kill -0 "$pid" 2>/dev/null || fail "the server of $url ended: $(tail -n 5 "$work"/*.log)"
		sleep 0.2
	done
	fail "no answer from $url within a minute"
}

((EUID == 0)) || fail "loading BPF programs needs root"
for server in influxd victoria-metrics; do
	[[ -x $servers/$server ]] || fail "$servers/$server is missing: \`cargo xtask test\` fetches it"
done

echo "# Build"
if [[ -z ${COLLECTOR_DIST:-} ]]; then
	show cargo xtask build
	cargo xtask build
	dist=target/dist
else
	dist=$COLLECTOR_DIST
fi
collector=$dist/collector
[[ -x $collector ]] || fail "$collector is missing"

echo
echo "# Look at a tool"
run 'plugin runqlat +ok' "$collector" check runqlat
run 'runqlat +[0-9.]+ +loads' "$collector" list
run 'table runqlat:.* p99_us ' "$collector" describe runqlat
run 'distribution.*count [1-9][0-9]*, avg' "$collector" once runqlat 1

echo
echo "# InfluxDB and VictoriaMetrics"
influx=127.0.0.1:$(free_port)
mkdir "$work/influx"
cat >"$work/influxdb.conf" <<-END
	reporting-disabled = true
	bind-address = "127.0.0.1:0"
	[meta]
	dir = "$work/influx/meta"
	[data]
	dir = "$work/influx/data"
	wal-dir = "$work/influx/wal"
	[http]
	bind-address = "$influx"
	log-enabled = false
	[monitor]
	store-enabled = false
END
"$servers/influxd" -config "$work/influxdb.conf" >"$work/influxd.log" 2>&1 &
pids+=($!)
wait_for "http://$influx/ping" $!
victoria=127.0.0.1:$(free_port)
"$servers/victoria-metrics" -storageDataPath="$work/victoria" -httpListenAddr="$victoria" \
	-memory.allowedBytes=256MB >"$work/victoria.log" 2>&1 &
pids+=($!)
wait_for "http://$victoria/health" $!

run '"statement_id":0}' curl -sf --noproxy '*' -XPOST "http://$influx/query" \
	--data-urlencode 'q=CREATE DATABASE telegraf'
outputs=(--output "influxdb1://$influx/telegraf" --output "victoriametrics://$victoria")
run 'plugin runqlat +ok' "$collector" check runqlat "${outputs[@]}"

show "$collector" --only runqlat --interval 1s "${outputs[@]}" '&'
"$collector" --only runqlat --interval 1s "${outputs[@]}" 2>"$work/collector.log" &
running=$!
pids+=("$running")

# Asks until the pattern is in the answer: lines need a tick and a second to arrive.
ask() {
	local pattern=$1
	shift
	for _ in {1..60}; do
		answer=$(curl -sf --noproxy '*' "$@") || fail "curl: exit code $? of: $*"
		if [[ $answer =~ $pattern ]]; then
			show curl "$@"
			printf '%s\n' "$answer"
			return
		fi
		kill -0 "$running" 2>/dev/null || fail "the collector ended: $(<"$work/collector.log")"
		sleep 1
	done
	show curl "$@"
	fail "no p99 within a minute, but: $answer"
}

echo
echo "# p99, in microseconds"
for language in influxql promql; do
	[[ -n $(query "$language" p99) ]] || fail "the README has no p99 in $language"
done
ask '"columns":\["time","p99"\],"values":\[\["[^"]+",[1-9]' -G "http://$influx/query?db=telegraf" \
	--data-urlencode "q=$(query influxql p99)"
# VictoriaMetrics leaves the last 30 s out of its answers, unless it is asked about a later time.
ask '"value":\[[0-9.]+,"[0-9]*[1-9.]' -G "http://$victoria/api/v1/query?time=$(($(date +%s) + 60))" \
	--data-urlencode "query=$(query promql p99)"

echo
echo "# The end"
show kill "$running"
kill "$running"
code=0
wait "$running" || code=$?
cat "$work/collector.log"
((code == 0)) || fail "the collector's exit code is $code"
log=$(<"$work/collector.log")
[[ $(grep -c 'lines produced = [0-9]* delivered + 0 waiting$' <<<"$log") == 2 ]] ||
	fail "not every line was delivered to both"

echo
echo "first_hour: all answers are right"
