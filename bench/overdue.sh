#!/usr/bin/env bash
# How buyers fare while a server that was down catches up with overdue holds. It makes holds of one second without a sweeper for
# some seconds, starts the server again with one, and lets 16 clients buy meanwhile. Needs Go, curl and wrk.
# Usage: bench/overdue.sh [seconds of holds]
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || true; rm -rf "$work"' EXIT
go build -o "$work/holdfast" ./cmd/holdfast

start() {
	"$work/holdfast" serve --listen 127.0.0.1:8497 --store "sqlite:$work/shop.db" --log-level warn "$@" >"$work/out" & server=$!
	until grep -q ready "$work/out"; do
		kill -0 "$server" || { echo "the server did not start" >&2; exit 1; }
		sleep 0.1
	done
}
stop() { kill "$server"; wait "$server" || true; server=; }
metric() { curl -s http://127.0.0.1:8497/metrics | awk -v m="$1" 'index($0, m " ") == 1 { printf "%.0f", $2 }'; }

start --no-sweep
for i in $(seq 0 999); do
	curl -s -o /dev/null http://127.0.0.1:8497/v1/products -H 'Content-Type: application/json' \
		-d "{\"id\":\"p$i\",\"name\":\"P\",\"price\":{\"amount\":1999,\"currency\":\"EUR\"},\"totalStock\":1000000000}"
done
sed 's/"ttlSeconds":3600/"ttlSeconds":1/' bench/hold.lua >"$work/short.lua"
wrk -t1 -c256 -d"${1:-40}s" -s "$work/short.lua" http://127.0.0.1:8497 -- 1000 plain >/dev/null
echo "$(metric 'holdfast_holds_total{outcome="created"}') holds, $(metric 'holdfast_holds_total{outcome="expired"}') of them ended"
stop
start
echo "restarted with the sweeper; 16 clients buy for 10 seconds:"
wrk -t1 -c16 -d10s --latency -s bench/hold.lua http://127.0.0.1:8497 -- 1000 plain | grep -E '50%|99%|Requests/sec|Non-2xx' || true
echo "$(metric 'holdfast_holds_total{outcome="expired"}') holds ended meanwhile"
stop
"$work/holdfast" verify --store "sqlite:$work/shop.db"
