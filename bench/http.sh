#!/usr/bin/env bash
# Measures Holdfast through HTTP against a handler that stores nothing, in alternating runs, and prints ratios.
# Needs Go, curl and wrk (Debian: apt-get install wrk). Usage: bench/http.sh [seconds a run] [rounds]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-10} rounds=${2:-3}
work=$(mktemp -d)
pids=() server=
trap 'kill "${pids[@]}" $server 2>/dev/null || true; rm -rf "$work"' EXIT

go build -o "$work/holdfast" ./cmd/holdfast
go build -o "$work/bare" ./bench/bare
"$work/bare" -listen 127.0.0.1:8498 & pids+=($!)
"$work/bare" -listen 127.0.0.1:8499 -fsync "$work/flushed" & pids+=($!)

# start: a fresh store with 1,000 products
start() {
	rm -f "$work"/shop.db*
	"$work/holdfast" serve --listen 127.0.0.1:8497 --store "sqlite:$work/shop.db" --log-level warn >"$work/out" & server=$!
	until grep -q ready "$work/out"; do
		kill -0 "$server" || { echo "the server did not start" >&2; exit 1; }
		sleep 0.1
	done
	for i in $(seq 0 999); do
		echo "next"
		echo "url = http://127.0.0.1:8497/v1/products"
		echo "header = \"Content-Type: application/json\""
		echo "output = /dev/null"
		echo "data = \"{\\\"id\\\":\\\"p$i\\\",\\\"name\\\":\\\"P\\\",\\\"price\\\":{\\\"amount\\\":1999,\\\"currency\\\":\\\"EUR\\\"},\\\"totalStock\\\":1000000000}\""
	done | tail -n +2 | curl -s -K - >/dev/null
}
stop() { kill "$server"; wait "$server" || true; server=; }

# rate PORT CONNECTIONS PRODUCTS KEYS: answers a second
rate() {
	wrk -t1 -c"$2" -d"${seconds}s" -s bench/hold.lua "http://127.0.0.1:$1" -- "$3" "$4" >"$work/wrk"
	if grep -q 'Non-2xx\|Socket errors' "$work/wrk"; then cat "$work/wrk" >&2; exit 1; fi
	awk '/Requests\/sec/ { print $2 }' "$work/wrk"
}

# compare NAME A B: rates and their ratio
compare() { awk -v n="$1" -v a="$2" -v b="$3" 'BEGIN { printf "%-44s %9.0f/s %9.0f/s   %.2f\n", n, a, b, a / b }'; }

for round in $(seq "$rounds"); do
	echo "round $round of $rounds"
	for connections in 64 256; do
		start; hold=$(rate 8497 $connections 1 plain); stop
		compare "hot product, $connections connections / bare" "$hold" "$(rate 8498 $connections 1 plain)"
	done
	start; hot=$(rate 8497 64 1 plain); stop
	start; uniform=$(rate 8497 64 1000 plain); stop
	compare "one hot product / uniform over 1,000" "$hot" "$uniform"
	start; keyed=$(rate 8497 64 1 keys); stop
	compare "with idempotency keys / without" "$keyed" "$hot"
	start; one=$(rate 8497 1 1 plain); stop
	flushed=$(rate 8499 1 1 plain)
	awk -v a="$one" -v b="$flushed" 'BEGIN { printf "%-44s %9.0f us %9.0f us   +%.0f us\n", "one client alone / bare with one fsync", 1e6/a, 1e6/b, 1e6/a - 1e6/b }'
done

echo "memory after a million holds"
start
wrk -t1 -c64 -d120s -s bench/hold.lua http://127.0.0.1:8497 -- 1000 plain >"$work/wrk" & load=$!
pids+=($load)
until [ "$(curl -s http://127.0.0.1:8497/metrics | awk '/^holdfast_holds_total{outcome="created"}/ { print ($2 >= 1000000) }')" = 1 ]; do sleep 1; done
kill $load 2>/dev/null || true
curl -s http://127.0.0.1:8497/metrics | awk '/^holdfast_holds_total{outcome="created"}/ { holds = $2 } /^process_resident_memory_bytes/ { printf "%.0f holds made: %.0f MiB resident, ", holds, $2 / 1048576 }'
awk '/VmHWM/ { printf "%.0f MiB at most\n", $2 / 1024 }' "/proc/$server/status"
stop
"$work/holdfast" verify --store "sqlite:$work/shop.db"
